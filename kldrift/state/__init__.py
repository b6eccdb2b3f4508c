"""The commit point: counts, source positions and answers to keyed posts, stored together."""
