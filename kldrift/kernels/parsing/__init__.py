"""From the bytes of NDJSON, JSON lists and CSV to columns or counts, without creating an object for each value."""
