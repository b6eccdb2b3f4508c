"""The daemon: starts and stops the parts in the order of the data flow, and reloads the configuration."""
