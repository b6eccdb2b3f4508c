"""Answers: JSON bodies, errors as JSON, and the words for a name that is not known."""

import difflib
import functools
import json
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import Send

Headers = list[tuple[bytes, bytes]]

#: Names listed in a "not known" message.
_LISTED = 10
#: Names compared for the nearest one; a comparison costs some 10 µs.
_COMPARED = 1000

_JSON_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


class Problem(Exception):
    """A request that is answered with an error.

    Parameters
    ----------
    status : the HTTP status, 4xx or 503
    message : what was expected, what came, what to do
    headers : more headers of the answer (``Allow``, ``Retry-After``)
    """

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        self.status = status
        self.message = message
        self.headers = headers or []
        super().__init__(message)


def encode(value: Any) -> bytes:
    """JSON bytes of `value`; text that is not valid Unicode (a lone surrogate) is escaped, not refused."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


async def send_json(send: Send, status: int, body: bytes, headers: Headers | None = None) -> int:
    """Send a whole JSON answer; returns its status."""
    start: Headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    if headers:
        start += headers
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
    return status


async def send_problem(send: Send, problem: Problem) -> int:
    """Send ``{"error": message}``; returns the status."""
    return await send_json(send, problem.status, encode({"error": problem.message}), problem.headers)


def decoded_segment(raw: bytes | str) -> str:
    """The text of a percent-encoded piece of a path.

    Raises
    ------
    Problem
        404 when the bytes are not UTF-8: no name of ours can be meant.
    """
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Problem(404, f"expected a name in percent-encoded UTF-8, got {shown(raw)}; encode it as UTF-8") from None


def shown(value: bytes | str) -> str:
    """`value` from a request, quoted and cut short for a message; what does not print is escaped."""
    text = value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else value
    short = text if len(text) <= 80 else text[:80] + "…"
    return f"'{short}'" if short.isprintable() else ascii(short)


def unknown(kind: str, name: str, known: Collection[str]) -> Problem:
    """404: names the nearest known `kind` (``monitor``, ``feature``, ``window``), and the first known ones."""
    return Problem(404, _unknown_message(kind, name[:200], tuple(known)))


# A client that posts to a misspelt monitor does so at its full rate.
@functools.lru_cache(maxsize=64)
def _unknown_message(kind: str, name: str, known: tuple[str, ...]) -> str:
    if not known:
        return f"expected a known {kind}, got {shown(name)}; no {kind} is configured"
    nearest = difflib.get_close_matches(name, known[:_COMPARED], n=1)
    hint = f"did you mean {shown(nearest[0])}? " if nearest else ""
    listed = ", ".join(shown(other) for other in known[:_LISTED])
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"expected a known {kind}, got {shown(name)}; {hint}known: {listed}{more}"
