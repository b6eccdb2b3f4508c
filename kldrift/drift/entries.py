"""Entries of bytes by key, as a state stores them."""

from collections.abc import Mapping


def below(prefix: str, entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """The entries whose keys begin with the prefix and a slash, by the rest of their keys."""
    start = prefix + "/"
    return {key[len(start) :]: value for key, value in entries.items() if key.startswith(start)}
