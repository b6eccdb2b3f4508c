"""Idempotency keys: a post that is sent again is answered as it was the first time, and not counted again."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

from kldrift.errors import KeyConflict
from kldrift.records.formats import Format
from kldrift.records.samples import Receipt, RowError
from kldrift.state.base import KeyedAnswer, Store


class Keys:
    """The keys of posts that are under way, and of those that the store remembers.

    A key belongs to a monitor. It is under way from its post until what was counted is stored. All of it is called in
    the event loop but `answers`.
    """

    def __init__(self, store: Store, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._under_way: dict[str, bytes] = {}

    def begin(self, monitor: str, key: str, body_format: Format, body: bytes) -> tuple[str, bytes] | Receipt:
        """Take a key for a post: what to store with its answer, or the answer that it had before.

        Raises
        ------
        KeyConflict
            the key is under way, or came with another body
        """
        name = f"{monitor}\x00{key}"
        digest = hashlib.sha256(body_format.encode() + b"\x00" + body).digest()
        known = self._under_way.get(name)
        if known is not None:
            _require_same(known, digest)
            raise KeyConflict(
                "the first post with this Idempotency-Key is not answered yet; ask again later", in_use=True
            )
        stored = self._store.answer(name)
        if stored is not None:
            _require_same(stored.digest, digest)
            return _receipt(stored.answer)
        self._under_way[name] = digest
        return name, digest

    def end(self, names: Iterable[str]) -> None:
        """These are stored, or nothing was counted."""
        for name in names:
            self._under_way.pop(name, None)

    def answers(self, posts: Iterable[tuple[tuple[str, bytes] | None, Receipt]]) -> list[KeyedAnswer]:
        """What to store of posts, those with keys among them. A body that could not be read may come again, better."""
        now_ms = self._clock_ms()
        return [
            KeyedAnswer(key[0], key[1], json.dumps(asdict(receipt)), now_ms)
            for key, receipt in posts
            if key is not None and receipt.unreadable is None
        ]


def _require_same(known: bytes, digest: bytes) -> None:
    if known != digest:
        raise KeyConflict(
            "expected the body that came with this Idempotency-Key before, got another one;"
            " use a new key for each post, and the same one to send it again",
            in_use=False,
        )


def _receipt(answer: str) -> Receipt:
    receipt = Receipt(**json.loads(answer))
    errors = tuple(RowError(**error) for error in receipt.errors)  # type: ignore[arg-type]  # mappings, until here
    return replace(receipt, errors=errors, replayed=True)
