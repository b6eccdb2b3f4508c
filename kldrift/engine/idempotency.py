"""Idempotency keys: a post that is sent again gets its first answer and is not counted again."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from kldrift.errors import KeyConflict
from kldrift.records.formats import Format
from kldrift.records.samples import Receipt, RowError
from kldrift.state.base import KeyedAnswer, Store


class Keys:
    """The keys of posts in progress, and of those that the store remembers.

    A key belongs to a monitor. It is in progress from its post until the counts are stored. All methods except
    `answers` are called in the event loop.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[str, bytes] = {}

    def begin(self, monitor: str, key: str, body_format: Format, body: bytes) -> tuple[str, bytes] | Receipt:
        """Begin a post with a key. Returns what to store with its answer, or the answer it got before.

        Raises
        ------
        KeyConflict
            the key is in progress, or was used with another body
        """
        name = f"{monitor}\x00{key}"
        digest = hashlib.sha256(body_format.encode() + b"\x00" + body).digest()
        known = self._under_way.get(name)
        if known is not None:
            _require_same(known, digest)
            raise KeyConflict(
                "the first post with this Idempotency-Key has not been answered yet; try again later", in_use=True
            )
        stored = self._store.answer(name)
        if stored is not None:
            _require_same(stored.digest, digest)
            return _receipt(stored.answer)
        self._under_way[name] = digest
        return name, digest

    def end(self, names: Iterable[str]) -> None:
        """End these keys: their posts are stored, or were not counted."""
        for name in names:
            self._under_way.pop(name, None)

    def answers(self, posts: Iterable[tuple[tuple[str, bytes] | None, Receipt]]) -> list[KeyedAnswer]:
        """Return what to store of the posts that have keys. An unreadable body may be sent again, corrected."""
        return [
            KeyedAnswer(key[0], key[1], json.dumps(asdict(receipt)))
            for key, receipt in posts
            if key is not None and receipt.unreadable is None
        ]


def _require_same(known: bytes, digest: bytes) -> None:
    if known != digest:
        raise KeyConflict(
            "expected the same body as the first post with this Idempotency-Key, got a different one;"
            " use a new key for each post, and the same key to send a post again",
            in_use=False,
        )


def _receipt(answer: str) -> Receipt:
    receipt = Receipt(**json.loads(answer))
    errors = tuple(RowError(**error) for error in receipt.errors)  # type: ignore[arg-type]  # still mappings at this point
    return replace(receipt, errors=errors, replayed=True)
