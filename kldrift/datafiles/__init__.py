"""Data files: opening them, what their columns hold, and their rows as columns, samples or batches."""
