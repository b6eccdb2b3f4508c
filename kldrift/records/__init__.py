"""The records that pass between the stages; every stage may import them, they import nothing of ours.

Instants and durations are integer milliseconds (`_ms`), instants since the Unix epoch.
"""
