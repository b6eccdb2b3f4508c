"""Entries of bytes by key, the form in which state is stored."""

from collections.abc import Mapping


def below(prefix: str, entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the entries whose keys start with the prefix and a slash, by the rest of the key."""
    start = prefix + "/"
    return {key[len(start) :]: value for key, value in entries.items() if key.startswith(start)}
