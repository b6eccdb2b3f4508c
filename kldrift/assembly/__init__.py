"""From the records of the configuration to the parts: references, monitors, sources."""
