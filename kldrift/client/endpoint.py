"""Where batches are posted: one connection, its credentials, and what its answers mean."""

import base64
import codecs
import email.utils
import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

# `socket.getaddrinfo` imports this codec at its first call. If that happened in the thread, a fork at that moment would
# leave the child with an import lock that is never released, and its thread waiting for it.
codecs.lookup("idna")

#: The daemon's answers are below 10 KiB; anything larger comes from something else.
_MAX_ANSWER = 64 << 10
_MAX_RETRY_AFTER_SECONDS = 300.0

#: Worth another attempt, because the cause may go away. (401, 403: credentials are rotated while a server runs.)
_LATER = {401, 403, 408, 409, 425, 429}

Meaning = Literal["counted", "later", "too_large", "refused"]


class Unreachable(Exception):
    """No answer; the text says what went wrong, for the log."""


class _Closed(Unreachable):
    """The daemon closed the connection, possibly before it saw the request."""


@dataclass(frozen=True)
class Answer:
    """The daemon's answer.

    Parameters
    ----------
    not_counted : rows of the batch that it accepted but did not count, because they were malformed or late
    retry_after : seconds, if it asked for a pause
    detail : for the log; empty if every row was counted and every value was valid
    """

    meaning: Meaning
    not_counted: int = 0
    retry_after: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Credentials:
    """A bearer token, or a user and a password, given directly or in a file that is read at each connection."""

    token: str | None = None
    token_file: str | os.PathLike[str] | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | os.PathLike[str] | None = None

    def or_environment(self, environment: Mapping[str, str]) -> "Credentials":
        """Return these credentials; if none were given, those from ``KLDRIFT_TOKEN``, or from ``KLDRIFT_USERNAME`` and
        ``KLDRIFT_PASSWORD``.

        Raises
        ------
        ValueError
            the credentials contradict one another
        """
        if self == Credentials():
            token, username = environment.get("KLDRIFT_TOKEN"), environment.get("KLDRIFT_USERNAME")
            if token:
                return Credentials(token=token)
            return Credentials(username=username, password=environment.get("KLDRIFT_PASSWORD")) if username else self
        password = self.password if self.password_file is None else self.password_file
        token_given = self.token if self.token_file is None else self.token_file
        if token_given is not None and self.username is not None:
            raise ValueError("expected a token or a username, got both; give one of them")
        if (self.username is None) != (password is None):
            raise ValueError("expected a username together with a password or password_file; give both")
        return self

    def header(self) -> str | None:
        """Return the value of ``Authorization``, if there are credentials.

        Raises
        ------
        ValueError
            a file cannot be read, or a header cannot carry the token
        """
        token = self.token if self.token_file is None else _secret("token_file", self.token_file)
        if token is not None:
            if not token or not token.isascii() or not token.isprintable():
                raise ValueError("expected a token of printable ASCII characters; check where it was read from")
            return f"Bearer {token}"
        if self.username is None:
            return None
        password = self.password if self.password_file is None else _secret("password_file", self.password_file)
        return "Basic " + base64.b64encode(f"{self.username}:{password}".encode()).decode()

    def __repr__(self) -> str:
        return "Credentials(…)"


def _secret(what: str, path: str | os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  # accepts any kind of path
            return file.read(_MAX_ANSWER).strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"{what}: expected a readable text file, got {error}; correct the path or its mode") from None


@dataclass(frozen=True)
class Tls:
    """PEM files of an HTTPS client, read at each connection."""

    ca_file: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context of one connection.

        Raises
        ------
        ValueError
            a file cannot be used
        """
        if self.key is not None and self.certificate is None:
            raise ValueError("expected a certificate with the key, got none; pass certificate as well")
        file: object = self.ca_file
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate is not None:
                file = self.certificate
                context.load_cert_chain(self.certificate, self.key, _no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ValueError(f"{file}: expected a PEM file that can be read, got {error}; correct the path") from None
        return context


def _no_password() -> str:
    raise ValueError("an encrypted key; store it without a password and chmod 600 it")


class Endpoint:
    """The samples of one monitor on a daemon. Used by one thread at a time.

    Raises
    ------
    ValueError
        an argument cannot be used
    """

    def __init__(
        self, url: str, monitor: str, credentials: Credentials, tls: Tls, timeout_seconds: float, compress: bool
    ) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise ValueError(
                f"monitor: expected a monitor's name, got {monitor!r}; use one from the daemon's configuration"
            )
        self._https, self._host, self._port, prefix = _address(url)
        self._path = f"{prefix}/v1/monitors/{quote(monitor, safe='')}/samples"
        self._credentials, self._tls = credentials, tls
        self._timeout_seconds = timeout_seconds
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "kldrift-client"}
        if compress:
            self._headers["Content-Encoding"] = "gzip"
        if tls != Tls() and not self._https:
            raise ValueError("expected an https:// url with a CA file or certificate; http:// would not use it")
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, key: str, seconds: float) -> Answer:
        """Make one attempt that waits no longer than `seconds` or the timeout, whichever is shorter.

        Raises
        ------
        Unreachable
            there was no intelligible answer; it is unknown whether the rows were counted
        """
        was_idle = self._connection is not None
        try:
            return self._post(body, key, seconds)
        except _Closed:
            if not was_idle:
                raise
            return self._post(body, key, seconds)

    def _post(self, body: bytes, key: str, seconds: float) -> Answer:
        limit = max(0.01, min(seconds, self._timeout_seconds))
        try:
            if self._connection is None:
                self._connection = self._connect(limit)
            connection = self._connection
            if connection.sock is not None:
                connection.sock.settimeout(limit)
            connection.request("POST", self._path, body, self._headers | {"Idempotency-Key": key})
            with connection.getresponse() as response:
                content = response.read(_MAX_ANSWER)
                if response.will_close or not response.isclosed():
                    self.disconnect()
                answer = _meaning(response.status, content, response.getheader("Retry-After"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.disconnect()
            closed = isinstance(error, (ConnectionResetError, BrokenPipeError))
            raise (_Closed if closed else Unreachable)(f"{type(error).__name__}: {error}") from None
        if answer.meaning == "later":
            self.disconnect()  # the next connection reads the credentials again
        return answer

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        authorization = self._credentials.header()
        if authorization is not None:
            self._headers["Authorization"] = authorization
        if self._https:
            context = self._tls.context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)

    def disconnect(self) -> None:
        """Close the connection; the next post opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def forget(self) -> None:
        """Close the child's descriptor after a fork, without sending anything on the parent's connection."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                os.close(connection.sock.detach())


def _address(url: str) -> tuple[bool, str, int, str]:
    wanted = "expected a url like http://127.0.0.1:9867"
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{wanted}, got {url!r}: {error}; correct it") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{wanted}, got one with a user in it; pass username and password_file instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{wanted}, got {url!r}; correct it")
    https = parts.scheme == "https"
    # The port is always explicit: http.client would look for one inside an IPv6 address.
    return https, parts.hostname, port or (443 if https else 80), quote(parts.path.rstrip("/"), safe="/%")


def _meaning(status: int, content: bytes, retry_after: str | None) -> Answer:
    """Interpret an answer.

    Raises
    ------
    ValueError
        a success from something other than kldrift
    """
    text = content[:300].decode("utf-8", "replace").strip()
    if 200 <= status < 300:
        try:
            receipt = json.loads(content)
            not_counted = int(receipt["rejected"]) + int(receipt["late"])
            return Answer("counted", not_counted, detail=text if not_counted or receipt.get("errors") else "")
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{status} with {text[:100]!r}, which is not an answer of kldrift; check the url"
            ) from None
    detail = f"{status} {text}"
    if status == 413:
        return Answer("too_large", detail=detail)
    if status in _LATER or status >= 500:
        return Answer("later", retry_after=_seconds(retry_after), detail=detail)
    return Answer("refused", detail=detail)


def _seconds(retry_after: str | None) -> float | None:
    """Parse ``Retry-After``, which is a number of seconds or a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    try:
        wait = float(retry_after)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(wait, 0.0), _MAX_RETRY_AFTER_SECONDS) if wait == wait else None
