"""The header fields of a request: those that may come only once, and those that HTTP/1.1 requires."""

from collections.abc import Iterable

from starlette.types import Scope

from kldrift.web.answers import Problem, shown

#: Fields whose meaning is in doubt if they come twice: a proxy may go by the first one and we by the last.
_ONCE = (
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"content-type",
    b"content-encoding",
    b"idempotency-key",
    b"origin",
    b"sec-fetch-site",
)


def fields_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the header fields of a request, by their names in lower case.

    Raises
    ------
    Problem
        400 for a field that may come only once and comes twice; in HTTP/1.1 also 400 without `Host`, and 501 for a
        transfer coding other than chunked
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    fields = dict(headers)
    if scope.get("http_version") == "1.1":
        if b"transfer-encoding" in fields:
            check_transfer_coding(headers)
        if b"host" not in fields:
            raise Problem(400, "expected a Host header, which HTTP/1.1 requires, got none; send the host of the URL")
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        for name in _ONCE:
            if names.count(name) > 1:
                title = name.decode().title()
                raise Problem(400, f"expected one {title} header, got {names.count(name)}; send it once")
    return fields


def check_transfer_coding(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check that bodies are sent in chunks, if in any transfer coding.

    Raises
    ------
    Problem
        501
    """
    for name, value in headers:
        if name == b"transfer-encoding" and {coding.strip() for coding in value.lower().split(b",")} - {
            b"",
            b"chunked",
        }:
            raise unknown_transfer_coding(shown(value))


def unknown_transfer_coding(got: str) -> Problem:
    """Make the answer to a transfer coding other than chunked."""
    return Problem(
        501, f"expected chunked as Transfer-Encoding, got {got}; compress bodies with Content-Encoding instead"
    )
