"""What is stored, and what a store does; a store does not know what entries mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Position = Mapping[str, int | str]

#: What a monitor stores: bytes by key; None where there is nothing any more.
Entries = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class KeyedAnswer:
    """What a post with an idempotency key was answered.

    Parameters
    ----------
    key : the monitor's name and the client's key
    digest : of the request; the same key with another one is a mistake of the client
    answer : JSON text
    at_ms : when it was committed
    """

    key: str
    digest: bytes
    answer: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """All that goes into one transaction.

    Parameters
    ----------
    entries : of each monitor, those that have changed
    positions : of each source's streams, those that have moved
    answers : to posts with keys
    forgotten : monitors whose earlier entries go before the new ones come, since their layout has changed
    """

    entries: Mapping[str, Entries] = field(default_factory=dict)
    positions: Mapping[str, Mapping[str, Position]] = field(default_factory=dict)
    answers: Sequence[KeyedAnswer] = ()
    forgotten: Sequence[str] = ()


class Store(Protocol):
    """Keeps commits, each whole or not at all, over any end of the process."""

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        """What a monitor has stored."""
        ...

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        """Position of every stream, by source."""
        ...

    def answer(self, key: str) -> KeyedAnswer | None:
        """What a post with this key was answered, if it is remembered."""
        ...

    def commit(self, commit: Commit) -> None:
        """Store all of it, durably.

        Raises
        ------
        StateError
            it was not stored, nothing of it; the caller may try again
        """
        ...

    def close(self) -> None:
        """Close it; nothing is written any more."""
        ...


class NoStore:
    """``state: none``: nothing outlives the process."""

    def entries(self, monitor: str) -> Mapping[str, bytes]:  # noqa: ARG002
        """Nothing."""
        return {}

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        """Nothing."""
        return {}

    def answer(self, key: str) -> KeyedAnswer | None:  # noqa: ARG002
        """Nothing."""
        return None

    def commit(self, commit: Commit) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
