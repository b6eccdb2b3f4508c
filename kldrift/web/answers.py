"""Answers: JSON bodies, errors as JSON, and messages for unknown names."""

import difflib
import functools
import json
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import Send

Headers = list[tuple[bytes, bytes]]

#: Maximum number of names listed in a message about an unknown name.
_LISTED = 10
#: Maximum number of names compared to find the nearest one; a comparison costs about 10 µs.
_COMPARED = 1000

_JSON_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


class Problem(Exception):
    """An error that a request is answered with.

    Parameters
    ----------
    status : the HTTP status, 4xx, 501 or 503
    message : what was expected, what was received, what to do
    headers : additional headers (``Allow``, ``Retry-After``)
    """

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        self.status = status
        self.message = message
        self.headers = headers or []
        super().__init__(message)


def encode(value: Any) -> bytes:
    """Encode `value` as JSON; text that is not valid Unicode (a lone surrogate) is escaped, not refused."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


async def send_json(send: Send, status: int, body: bytes, headers: Headers | None = None) -> int:
    """Send a complete JSON answer and return its status."""
    start: Headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    if headers:
        start += headers
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
    return status


async def send_problem(send: Send, problem: Problem) -> int:
    """Send ``{"error": message}`` and return the status."""
    return await send_json(send, problem.status, encode({"error": problem.message}), problem.headers)


def not_ready(reason: str) -> Problem:
    """Make the answer while there is nothing to show yet."""
    return Problem(503, f"not ready: {reason}; retry later", [(b"retry-after", b"1")])


def decoded_segment(raw: bytes | str) -> str:
    """Decode a percent-encoded segment of a path.

    Raises
    ------
    Problem
        404 if the bytes are not UTF-8: they cannot be one of our names
    """
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Problem(404, f"expected a name in percent-encoded UTF-8, got {shown(raw)}; encode it as UTF-8") from None


def shown(value: bytes | str) -> str:
    """Quote a value from a request for a message: shortened, with unprintable characters escaped."""
    text = value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else value
    short = text if len(text) <= 80 else text[:80] + "…"
    return f"'{short}'" if short.isprintable() else ascii(short)


def unknown(kind: str, name: str, known: Collection[str]) -> Problem:
    """Make a 404 that suggests the nearest known `kind` (``monitor``, ``feature`` …) and lists the first ones."""
    return Problem(404, _unknown_message(kind, name[:200], tuple(known)))


# Cached, because a client that posts to a misspelt monitor does so at its full rate.
@functools.lru_cache(maxsize=64)
def _unknown_message(kind: str, name: str, known: tuple[str, ...]) -> str:
    if not known:
        return f"expected a known {kind}, got {shown(name)}; no {kind} is configured"
    nearest = difflib.get_close_matches(name, known[:_COMPARED], n=1)
    hint = f"did you mean {shown(nearest[0])}? " if nearest else ""
    listed = ", ".join(shown(other) for other in known[:_LISTED])
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"expected a known {kind}, got {shown(name)}; {hint}known: {listed}{more}"
