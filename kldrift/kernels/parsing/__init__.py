"""From the bytes of NDJSON, JSON lists and CSV to columns or counts, without an object per value."""
