"""Counting rows into panes, and the counts and moments of windows."""
