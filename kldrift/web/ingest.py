"""``POST /v1/monitors/{monitor}/samples``: the hot path, on raw ASGI."""

import asyncio
import functools
from dataclasses import asdict

from starlette.types import Message, Receive, Scope, Send

from kldrift.errors import Busy, KeyConflict, StateError
from kldrift.records.formats import MEDIA_TYPES, Format
from kldrift.records.samples import Receipt
from kldrift.web.answers import Headers, Problem, decoded_segment, encode, shown, unknown
from kldrift.web.body import Bodies, Disconnected, Limits
from kldrift.web.guard import client_of
from kldrift.web.ports import Ingest

PREFIX = b"/v1/monitors/"

_CODINGS: dict[bytes, str | None] = {
    b"": None,
    b"identity": None,
    b"gzip": "gzip",
    b"x-gzip": "gzip",
    b"zstd": "zstd",
}
#: Status counted for a client that went away, as other servers do; nothing is sent.
_CLIENT_CLOSED = 499

#: Header of the answer that says what became of the idempotency key.
_ABOUT_KEYS = {
    b"replayed": (b"idempotent-replayed", b"true"),
    b"unused": (b"idempotency-key-honoured", b"false"),
}
_MAX_KEY = 255


class IngestEndpoint:
    """Accepts samples: 200 with the receipt once they are committed, otherwise an error that says what to do.

    A repeated post with the same ``Idempotency-Key`` gets the same answer, with ``Idempotent-Replayed: true``, and is
    not counted again; it gets 409 while the first one is in progress, and 422 if its body differs. Without a state the
    key has no effect, which the answer says in ``Idempotency-Key-Honoured: false``. (Rejecting the key would shut out
    clients that always send one; ignoring it silently would give them false confidence.)

    With ``?ack=received`` the answer is 202 at once, for callers that cannot wait and can afford to lose a post.
    """

    def __init__(self, ingest: Ingest | None, limits: Limits) -> None:
        self.ingest = ingest
        self._bodies = Bodies(limits)
        self._encoded_bytes = min(limits.encoded_bytes, limits.body_bytes)

    # One long function, with everything that repeats cached: a one-row post takes the server about 27 µs, so every
    # microsecond here costs 3 % of its rate (tests/benchmarks/http_handlers.py).
    async def __call__(
        self, scope: Scope, raw_path: bytes, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> int:
        """Answer one request, whose `raw_path` begins with `PREFIX`, and return the status.

        Raises
        ------
        Problem
            for the caller to answer
        """
        monitor = _monitor_name(raw_path)
        if scope["method"] != "POST":
            raise Problem(405, f"expected POST, got {scope['method']}; post the samples here", [(b"allow", b"POST")])
        ingest = self.ingest
        if ingest is None:
            raise Problem(503, "the daemon is starting; send the samples again later", [(b"retry-after", b"1")])
        monitors = ingest.monitors()
        if monitor not in monitors:
            raise unknown("monitor", monitor, monitors)
        format_ = _format(headers.get(b"content-type", b""))
        coding = _coding(headers[b"content-encoding"]) if b"content-encoding" in headers else None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length[:20]) > self._encoded_bytes:
            self._bodies.check_declared(_declared_length(headers), coding)
        client = client_of(address[0]) if (address := scope.get("client")) else ""
        message = await receive()
        try:
            if message.get("more_body", False) or coding is not None or message["type"] == "http.disconnect":
                body = await self._bodies.read(client, message, receive, coding)
            else:
                body = message["body"]
                self._bodies.hold(client, len(body))
        except Disconnected:
            return _CLIENT_CLOSED
        try:
            if not body:
                raise Problem(400, "expected samples, got an empty body; send at least one row")
            key = _key(headers[b"idempotency-key"]) if b"idempotency-key" in headers else None
            query: bytes = scope.get("query_string") or b""
            no_wait = query != b"" and _wants_no_wait(query)
            answer_to_come = ingest.submit(monitor, format_, body, key)
            if no_wait:
                asyncio.ensure_future(answer_to_come).add_done_callback(_look_away)
                await _send_received(send)
                return 202
            receipt = await answer_to_come
        except Busy as busy:
            raise Problem(503, str(busy), [(b"retry-after", b"%d" % busy.retry_after_seconds)]) from None
        except KeyConflict as conflict:
            raise Problem(
                409 if conflict.in_use else 422, str(conflict), [(b"retry-after", b"1")] if conflict.in_use else []
            ) from None
        except StateError as error:
            raise Problem(503, str(error), [(b"retry-after", b"5")]) from None
        finally:
            self._bodies.release(client, len(body))
        if receipt.unreadable is not None:
            raise Problem(400, receipt.unreadable)
        about_key = b""
        if key is not None:
            about_key = (b"replayed" if receipt.replayed else b"") if ingest.honours_keys else b"unused"
        if receipt.errors:
            start, answer = _answer(receipt, about_key)
        else:
            start, answer = _plain_answer(receipt.accepted, receipt.rejected, receipt.late, about_key)
        await send(start)
        await send(answer)
        return 200


def _answer(receipt: Receipt, about_key: bytes) -> tuple[Message, Message]:
    body = encode(
        {
            "accepted": receipt.accepted,
            "rejected": receipt.rejected,
            "late": receipt.late,
            "errors": [asdict(error) for error in receipt.errors[:10]],
        }
    )
    # The answer to a POST is neither cached nor rendered, so it needs no other headers.
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if about_key:
        headers.append(_ABOUT_KEYS[about_key])
    return {"type": "http.response.start", "status": 200, "headers": headers}, {
        "type": "http.response.body",
        "body": body,
    }


@functools.lru_cache(maxsize=1024)
def _plain_answer(accepted: int, rejected: int, late: int, about_key: bytes) -> tuple[Message, Message]:
    return _answer(Receipt(accepted, rejected, late), about_key)


def _wants_no_wait(query: bytes) -> bool:
    """Return whether the query is ``ack=received``; ``ack=committed`` is the default."""
    if query == b"ack=received":
        return True
    if query == b"ack=committed":
        return False
    raise Problem(400, f"expected no query, ack=committed or ack=received, got {shown(query)}; remove it")


def _look_away(answer: "asyncio.Future[Receipt]") -> None:
    """Retrieve the error, if any: nobody awaits this answer, and errors are counted elsewhere."""
    if not answer.cancelled():
        answer.exception()


async def _send_received(send: Send) -> None:
    body = b'{"received":true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _key(value: bytes) -> str:
    """Return the idempotency key: up to 255 printable ASCII characters."""
    if not 0 < len(value) <= _MAX_KEY or not all(32 <= byte < 127 for byte in value):
        raise Problem(
            400,
            f"expected an Idempotency-Key of 1 to {_MAX_KEY} printable ASCII characters, got {shown(value)};"
            " a random UUID is a good choice",
        )
    return value.decode()


@functools.lru_cache(maxsize=128)
def _monitor_name(raw_path: bytes) -> str:
    raw_name, _, rest = raw_path[len(PREFIX) :].partition(b"/")
    if rest != b"samples" or not raw_name:
        raise Problem(
            404,
            f"expected /v1/monitors/{{monitor}}/samples, got {shown(raw_path)}; "
            "percent-encode a slash in the monitor's name as %2F",
        )
    return decoded_segment(raw_name)


@functools.lru_cache(maxsize=128)
def _format(content_type: bytes) -> Format:
    """Return the format that a Content-Type names; 415 for any other, and for charsets other than UTF-8."""
    value, *parameters = content_type.decode("latin-1").lower().split(";")
    format_ = MEDIA_TYPES.get(value.strip())
    if format_ is None:
        raise Problem(
            415,
            f"expected a Content-Type among {', '.join(MEDIA_TYPES)}; got {shown(value) if value else 'none'}; "
            "set the header to the format of the body",
            [(b"accept", ", ".join(MEDIA_TYPES).encode())],
        )
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Problem(415, f"expected charset=utf-8, got {shown(charset)}; send the body in UTF-8")
    return format_


@functools.lru_cache(maxsize=128)
def _coding(content_encoding: bytes) -> str | None:
    try:
        return _CODINGS[content_encoding.strip().lower()]
    except KeyError:
        raise Problem(
            415,
            f"expected a Content-Encoding among gzip, zstd, identity; got {shown(content_encoding)}; use one of them",
            [(b"accept-encoding", b"gzip, zstd, identity")],
        ) from None


def _declared_length(headers: dict[bytes, bytes]) -> int | None:
    """Return the Content-Length, or None for a chunked body; 411 for neither."""
    value = headers.get(b"content-length")
    if value is None:
        if b"transfer-encoding" in headers:
            return None
        raise Problem(411, "expected a body with a Content-Length or in chunks, got neither; send one of the two")
    if not value.isdigit():
        raise Problem(400, f"expected a number as Content-Length, got {shown(value)}; correct the header")
    return int(value[:20])  # 20 digits already exceed every limit
