"""The domain: bins, references, panes, windows, divergences. Time is an argument, never read from a clock."""
