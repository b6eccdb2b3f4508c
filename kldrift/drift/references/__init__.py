"""References: what live data is compared with, and where each kind comes from."""
