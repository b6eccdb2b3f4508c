"""The configuration file, from YAML to frozen records."""
