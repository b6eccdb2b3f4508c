"""Request bodies: received in full, decoded from gzip or zstd, never larger than the limits."""

import asyncio
import io
import zlib
from dataclasses import dataclass

import zstandard
from starlette.types import Message, Receive

from kldrift.web.answers import Problem

MIB = 1 << 20

_GZIP_SLICE = 64 * 1024
#: A zstd block expands to at most 128 KiB, so eight of them to at most 1 MiB at a time.
_ZSTD_BLOCKS = 8
#: Blocks are found in Python, half a microsecond each. After the first 16,384 they must average this many bytes.
_ZSTD_FREE_BLOCKS, _ZSTD_BLOCK_BYTES = 16_384, 16
#: The largest window that RFC 9659 allows for the zstd content coding.
_ZSTD_WINDOW = 8 * MIB
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Maximum number of gzip members or zstd frames in a body; each costs a decoder, however small it is.
_MAX_MEMBERS = 4096
#: Bodies up to this size are decoded on the event loop: at the allowed ratio that makes 1.6 MB, a few milliseconds.
_INLINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much memory one body, and all bodies together, may hold.

    Parameters
    ----------
    encoded_bytes : a gzip or zstd body, as sent
    body_bytes : a body after decoding, or sent without a coding
    ratio : of decoded to encoded bytes, checked throughout the body once more than `ratio_from_bytes` are decoded
    held_bytes : all bodies that are being received, decoded or committed
    client_bytes : the bodies of one client; a client's only body is always accepted
    """

    encoded_bytes: int = 16 * MIB
    body_bytes: int = 64 * MIB
    ratio: int = 100
    ratio_from_bytes: int = MIB
    held_bytes: int = 256 * MIB
    client_bytes: int = 64 * MIB


class Disconnected(Exception):
    """The client went away before its body was complete; not an error."""


class Bodies:
    """Receives and decodes bodies, and accounts for the memory they hold."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held_bytes = 0
        self._of_client: dict[str, int] = {}  # clients that hold nothing have no entry
        # A decoder may hold one more body than is accounted for; more than two at once would not be faster.
        self._decoding = asyncio.Semaphore(2)

    def check_declared(self, length: int | None, coding: str | None) -> None:
        """Refuse a body by its Content-Length, before receiving any of it.

        Raises
        ------
        Problem
            413
        """
        if length is not None and length > (self.limits.body_bytes if coding is None else self.limits.encoded_bytes):
            raise self._too_large(coding)

    def hold(self, client: str, size: int, own: int = 0) -> None:
        """Account for `size` more bytes of a client, until `release`; the same request already holds `own` of them.

        Raises
        ------
        Problem
            429 if the client would hold too much, 503 if all bodies together would; then nothing is accounted for
        """
        of_client = self._of_client.get(client, 0)
        if of_client > own and of_client + size > self.limits.client_bytes:
            raise Problem(
                429,
                f"expected at most {self.limits.client_bytes} unanswered bytes per client, and {of_client} are still "
                "unanswered; wait for their answers, then resend this body",
                [(b"retry-after", b"1")],
            )
        if self.held_bytes + size > self.limits.held_bytes:
            raise Problem(
                503,
                f"bodies of {self.limits.held_bytes} bytes in all are already waiting; retry later",
                [(b"retry-after", b"1")],
            )
        self._of_client[client] = of_client + size
        self.held_bytes += size

    def release(self, client: str, size: int) -> None:
        """Stop accounting for `size` bytes of a client."""
        self.held_bytes -= size
        left = self._of_client.pop(client, 0) - size
        if left > 0:
            self._of_client[client] = left

    async def read(self, client: str, message: Message, receive: Receive, coding: str | None) -> bytes:
        """Return the decoded body, which is accounted for until the caller passes its length to `release`.

        Parameters
        ----------
        message : the first message from `receive`
        coding : ``gzip``, ``zstd`` or None

        Raises
        ------
        Problem
            413 too large, 400 corrupt, 429 and 503 as `hold`
        Disconnected
        """
        body = await self._gather(client, message, receive, coding)
        if coding is None:
            return body
        encoded_size = len(body)
        try:
            if encoded_size <= _INLINE_BYTES:
                body = decode(body, coding, self.limits)
            else:
                async with self._decoding:
                    body = await asyncio.to_thread(decode, body, coding, self.limits)
            self.hold(client, len(body), encoded_size)
            return body
        finally:
            self.release(client, encoded_size)

    async def _gather(self, client: str, message: Message, receive: Receive, coding: str | None) -> bytes:
        """Receive all chunks and join them once."""
        limit = self.limits.body_bytes if coding is None else self.limits.encoded_bytes
        chunks: list[bytes] = []
        size = 0
        try:
            while message["type"] == "http.request":
                chunk: bytes = message.get("body", b"")
                self.hold(client, len(chunk), size)
                size += len(chunk)
                if size > limit:
                    raise self._too_large(coding)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                message = await receive()
            raise Disconnected
        except BaseException:
            self.release(client, size)
            raise

    def _too_large(self, coding: str | None) -> Problem:
        return _too_large(self.limits.body_bytes if coding is None else self.limits.encoded_bytes, coding)


def decode(encoded: bytes, coding: str, limits: Limits) -> bytes:
    """Undo a content coding, holding at most a slice or two more than the limits allow.

    Raises
    ------
    Problem
        413 if the body or its ratio is too large, 400 if it is corrupt or truncated
    """
    body = _Decoded(coding, limits)
    try:
        if coding == "gzip":
            _gunzip(encoded, body)
        else:
            _unzstd(encoded, body)
    except (zlib.error, zstandard.ZstdError) as error:
        raise _corrupt(coding, str(error)) from None
    return body.whole()


class _Decoded:
    """A body that grows while it is decoded, checked at each step. (`BytesIO` returns it without a copy.)"""

    def __init__(self, coding: str, limits: Limits) -> None:
        self._coding = coding
        self._limits = limits
        self._buffer = io.BytesIO()
        self._size = 0

    def add(self, piece: bytes, consumed: int) -> None:
        """Append a decoded piece; all pieces so far come from the first `consumed` bytes.

        Raises
        ------
        Problem
            413
        """
        limits = self._limits
        self._size += len(piece)
        if self._size > limits.body_bytes:
            raise _too_large(limits.body_bytes, None)
        if self._size > max(limits.ratio_from_bytes, limits.ratio * consumed):
            raise Problem(
                413,
                f"expected a {self._coding} body that expands at most {limits.ratio} times "
                f"(beyond {limits.ratio_from_bytes} bytes), got {self._size} bytes from the first {consumed}; "
                "use less compression",
            )
        self._buffer.write(piece)

    def whole(self) -> bytes:
        """Return the complete body."""
        return self._buffer.getvalue()


def _gunzip(encoded: bytes, body: _Decoded) -> None:
    """Decode the gzip members one after another."""
    view = memoryview(encoded)
    at = 0
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        piece = b""
        while not member.eof:
            fed: bytes | memoryview = member.unconsumed_tail
            if not fed:
                fed = view[at : at + _GZIP_SLICE]
                at += len(fed)
            if not fed and len(piece) < MIB:  # a full piece may be followed by more output without more input
                raise _corrupt("gzip", "it is truncated")
            piece = member.decompress(fed, MIB)
            body.add(piece, at - len(member.unconsumed_tail) - len(member.unused_data))
        at -= len(member.unused_data)
        if at == len(encoded):
            return
        if encoded[at] == 0:  # zero padding is allowed only at the end
            if encoded[at:].strip(b"\0"):
                raise _corrupt("gzip", "its end is followed by something other than zeros")
            return
    raise _corrupt("gzip", f"it has more than {_MAX_MEMBERS} members")


def _unzstd(encoded: bytes, body: _Decoded) -> None:
    """Decode the zstd frames one after another.

    The decoder of python-zstandard does not limit its output, and its reader does not report a truncated frame.
    Blocks are therefore found here (RFC 8878, section 3.1.1) and fed a few at a time: each yields at most 128 KiB.
    """
    view = memoryview(encoded)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    at = n_blocks = 0
    for _ in range(_MAX_MEMBERS):
        if at == len(encoded):
            return
        magic = encoded[at : at + 4]
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:  # a skippable frame
            at += 8 + int.from_bytes(encoded[at + 4 : at + 8], "little")
            if at > len(encoded):
                raise _corrupt("zstd", "it is truncated")
            continue
        if magic != _ZSTD_MAGIC:
            raise _corrupt("zstd", "a frame does not begin with zstd's magic number")
        header = encoded[at : at + 18]
        parameters = zstandard.get_frame_parameters(header)
        if parameters.window_size > _ZSTD_WINDOW:
            raise Problem(
                413,
                f"expected a zstd window of at most {_ZSTD_WINDOW // MIB} MiB (RFC 9659), "
                f"got {parameters.window_size} bytes; compress at level 19 or lower, without --long",
            )
        frame = decompressor.decompressobj()
        fed, at = at, at + zstandard.frame_header_size(header)
        last = False
        while not last:
            for _ in range(_ZSTD_BLOCKS):
                if at + 3 > len(encoded):
                    raise _corrupt("zstd", "it is truncated")
                block = int.from_bytes(encoded[at : at + 3], "little")
                last = bool(block & 1)
                is_run = block >> 1 & 3 == 1  # one byte, repeated
                at += 3 + (1 if is_run else block >> 3)
                n_blocks += 1
                if last:
                    at += 4 * parameters.has_checksum
                    break
            if at > len(encoded):
                raise _corrupt("zstd", "it is truncated")
            body.add(frame.decompress(view[fed:at]), at)
            fed = at
            if n_blocks > _ZSTD_FREE_BLOCKS + at // _ZSTD_BLOCK_BYTES:
                raise _corrupt("zstd", f"its blocks are smaller than {_ZSTD_BLOCK_BYTES} bytes")
        if not frame.eof:
            raise _corrupt("zstd", "a frame does not end where its blocks do")
    raise _corrupt("zstd", f"it has more than {_MAX_MEMBERS} frames")


def _too_large(limit: int, coding: str | None) -> Problem:
    what = f"{coding} body" if coding else "body"
    return Problem(413, f"expected a {what} of at most {limit} bytes, got more; split it into several requests")


def _corrupt(coding: str, reason: str) -> Problem:
    return Problem(
        400,
        f"expected a complete {coding} body, got one that cannot be decoded: {reason}; no samples were accepted, "
        "send it again",
    )
