"""HTML for people: pages of the daemon, reports of commands."""
