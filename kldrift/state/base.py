"""What is stored, and what a store does. A store does not know what entries mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Position = Mapping[str, int | str]

#: What a monitor stores: bytes by key; None deletes an entry.
Entries = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class KeyedAnswer:
    """The answer to a post with an idempotency key.

    Parameters
    ----------
    key : the monitor's name and the client's key
    digest : of the request; the same key with another digest is a mistake of the client
    answer : JSON text
    """

    key: str
    digest: bytes
    answer: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The contents of one transaction.

    Parameters
    ----------
    entries : the entries of each monitor that have changed
    positions : the positions of each source's streams that have moved
    answers : answers to posts with keys
    renamed : new names of sources, by the old one, whose positions they get before any of `positions`
    forgotten : monitors whose old entries are deleted before the new ones are added, because their layout has changed
    """

    entries: Mapping[str, Entries] = field(default_factory=dict)
    positions: Mapping[str, Mapping[str, Position]] = field(default_factory=dict)
    answers: Sequence[KeyedAnswer] = ()
    forgotten: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Keeps commits, each completely or not at all, however the process ends."""

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        """Return what a monitor has stored."""
        ...

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        """Return the position of every stream, by source."""
        ...

    def answer(self, key: str) -> KeyedAnswer | None:
        """Return the answer to the post with this key, if it is remembered."""
        ...

    def commit(self, commit: Commit) -> None:
        """Store a commit durably.

        Raises
        ------
        StateError
            nothing was stored; the caller may try again
        """
        ...

    def close(self) -> None:
        """Close the store; nothing is written afterwards."""
        ...


class NoStore:
    """Store for ``state: none``: nothing outlives the process."""

    def entries(self, monitor: str) -> Mapping[str, bytes]:  # noqa: ARG002
        """See `Store`: nothing is kept."""
        return {}

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        """See `Store`: nothing is kept."""
        return {}

    def answer(self, key: str) -> KeyedAnswer | None:  # noqa: ARG002
        """See `Store`: nothing is kept."""
        return None

    def commit(self, commit: Commit) -> None:
        """See `Store`: nothing is kept."""

    def close(self) -> None:
        """See `Store`: nothing is kept."""
