"""A starting configuration from data: what each column is, what its time is, and how long windows should be."""
