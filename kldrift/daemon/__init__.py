"""The daemon: starts and stops the parts in the order of the data, and reloads the configuration."""
