"""TLS: the server's certificate, the clients' authority, and replacing them while connections are open."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from kldrift.errors import ConfigError
from kldrift.web.guard import Guard, Waiting
from kldrift.web.secret_files import Warn, read_file, read_secret

#: Why a handshake failed: no client certificate; one that has expired or that the authority did not sign; plain
#: HTTP; the client rejects our certificate; anything else (an old version, no common cipher).
HandshakeFailure = Literal["no_certificate", "bad_certificate", "plain_http", "refused_by_client", "other"]
HANDSHAKE_FAILURES: tuple[HandshakeFailure, ...] = (
    "no_certificate",
    "bad_certificate",
    "plain_http",
    "refused_by_client",
    "other",
)

#: Time for the client's close_notify.
_END_SECONDS = 1.0
#: Pause after a connection could not be accepted.
_PAUSE_SECONDS = 1.0
_PEM_END = b"-----END CERTIFICATE-----"
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"

_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


class Tls:
    """What the server presents and requires in a handshake; `context` is the same object across reloads.

    Parameters
    ----------
    certificate, key : PEM; the certificate is followed by those of the intermediate authorities
    client_ca : the authority that must have signed the clients' certificates; None: clients need none
    key_password_file : holds the password of an encrypted key
    on_certificate : called with the expiry of the certificate in use, in Unix seconds
    on_failure : called with the reason why a handshake failed
    warn : called with what should be changed

    Raises
    ------
    ConfigError
        a file cannot be used
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None,
        key_password_file: Path | None,
        on_certificate: Callable[[float], None],
        on_failure: Callable[[HandshakeFailure], None],
        warn: Warn,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._key_password_file = key_password_file
        self._on_certificate = on_certificate
        self._warn = warn
        self._handshake = _handshake_class(on_failure)
        self._expires = 0.0
        self._exchangeable = _Exchangeable(ssl.PROTOCOL_TLS_SERVER)
        self.load()()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the listening socket, which never changes."""
        return self._exchangeable

    @property
    def files(self) -> Sequence[Path]:
        """The certificate, its key, and the files that go with them."""
        given = (self._certificate, self._key, self._client_ca, self._key_password_file)
        return [path for path in given if path is not None]

    def load(self) -> Callable[[], None]:
        """Make a new context; calling the result uses it for new connections, and leaves open ones alone.

        Raises
        ------
        ConfigError
            a file cannot be used, or the certificate has expired and the one in use has not
        """
        made, expires = load_context(self._certificate, self._key, self._client_ca, self._key_password_file, self._warn)
        if expires <= time.time() < self._expires:
            raise ConfigError(
                [f"{self._certificate}: expected a valid certificate, got one that expired {_day(expires)}; renew it"]
            )
        made.sslobject_class = self._handshake

        def use() -> None:
            self._exchangeable.current = made
            self._expires = expires
            self._on_certificate(expires)

        return use


def load_context(
    certificate: Path, key: Path, client_ca: Path | None, key_password_file: Path | None, warn: Warn
) -> tuple[ssl.SSLContext, float]:
    """Make a server context with Python's choice of ciphers and TLS 1.2 or later; also return the certificate's expiry.

    Raises
    ------
    ConfigError
        a file cannot be used
    """
    chain = read_file(certificate, "server.tls.certificate")
    if _PEM_BEGIN not in chain or _PEM_END not in chain:
        _refuse(certificate, "a certificate in PEM", "none", "begin the file with the server's certificate")
    encrypted = b"ENCRYPTED" in read_secret(key, "server.tls.key", warn)
    password: Callable[[], bytes] | bytes = _no_password
    if key_password_file is not None:
        password = read_secret(key_password_file, "server.tls.key_password_file", warn).rstrip(b"\r\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for one costly handshake after another
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password)
    except _PasswordNeeded:
        _refuse(key, "a key without encryption", "an encrypted one", "name its server.tls.key_password_file")
    except (ssl.SSLError, ValueError, OSError) as error:
        if encrypted:
            _refuse(key, "a key that server.tls.key_password_file decrypts", "another", "correct the password")
        _refuse_chain(error, certificate, key)
    if client_ca is not None:
        _ask_for_certificates(context, client_ca)
    expires = _expires(chain)
    if expires <= time.time():
        warn(f"{certificate}: expected a valid certificate, got one that expired {_day(expires)}; renew it")
    return context, expires


def _ask_for_certificates(context: ssl.SSLContext, client_ca: Path) -> None:
    """Require client certificates signed by this authority."""
    read_file(client_ca, "server.tls.client_ca")
    try:
        context.load_verify_locations(client_ca)
    except (ssl.SSLError, OSError):
        context.verify_mode = ssl.CERT_NONE  # decided below
    if not context.cert_store_stats()["x509_ca"]:
        _refuse(client_ca, "the certificate of an authority in PEM", "none", "name the one that signs the clients'")
    context.verify_mode = ssl.CERT_REQUIRED


class _PasswordNeeded(Exception):
    """Report that the key is encrypted; without a callback, OpenSSL would prompt on the terminal."""


def _no_password() -> bytes:
    raise _PasswordNeeded


def _refuse(path: Path, expected: str, got: str, remedy: str) -> NoReturn:
    raise ConfigError([f"{path}: expected {expected}, got {got}; {remedy}"]) from None


def _refuse_chain(error: Exception, certificate: Path, key: Path) -> NoReturn:
    """Report which of the two files is wrong."""
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        _refuse(key, f"the key of the certificate in {certificate}", "that of another", "replace both files together")
    _refuse(
        key,
        f"the certificate in {certificate} and its key, both in PEM",
        f"files that OpenSSL rejects ({reason})",
        "correct the files",
    )


# --- connections -----------------------------------------------------------------------------------------------------


class _Exchangeable(ssl.SSLContext):
    """A context that makes new connections with the context `current`.

    An event loop keeps the context it was given and asks it for the TLS side of each connection; both asyncio and
    uvloop call `wrap_bio`. Loading another certificate into the same context would leave the old authorities in it,
    and could leave a certificate without its key if the files change in between.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Make the TLS side of a new connection."""
        return self.current.wrap_bio(*arguments, **named)


class _Handshaking:
    """A connection during its handshake; to the guard it looks like one that has not sent its headers yet."""

    n_requests = 0

    def __init__(self, accepted: socket.socket) -> None:
        self._accepted = accepted

    def waits_for(self) -> Waiting:
        """Wait for the headers, for which the time starts anew after the handshake."""
        return "header"

    def progress_bytes(self, waiting: Waiting) -> int:  # noqa: ARG002  # as the guard calls it
        """Count no progress."""
        return 0

    def unsent_bytes(self) -> int:
        """Have nothing unsent."""
        return 0

    def evict(self, waiting: Waiting) -> None:  # noqa: ARG002
        """Abort the connection without an answer, which would need the handshake to be complete."""
        with contextlib.suppress(OSError):
            self._accepted.shutdown(socket.SHUT_RDWR)


class TlsServer:
    """Accepts connections, registers them with the guard and performs their handshakes.

    It offers what uvicorn needs of an `asyncio.Server`, which would not report a connection before the end of its
    handshake, so that one client could hold any number of them.

    Parameters
    ----------
    listening : non-blocking; it is not closed here
    make_protocol : makes the protocol for after the handshake, given a callback that it calls before it asks the guard
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        guard: Guard,
        make_protocol: Callable[[Callable[[], None]], asyncio.Protocol],
    ) -> None:
        self._listening = listening
        self._context = context
        self._guard = guard
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[_Handshaking, asyncio.Task[None]] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._accept_on()

    def close(self) -> None:
        """Stop accepting, and abort the handshakes."""
        self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
        for handshake in self._handshakes:
            handshake.evict("header")

    async def wait_closed(self) -> None:
        """Return once all handshakes have ended."""
        if self._handshakes:
            await asyncio.wait(self._handshakes.values())

    def _accept_on(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Accept one connection; the event loop calls again while more are waiting."""
        try:
            accepted, address = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # too many open files; without a pause this would be retried in a tight loop
            self._loop.remove_reader(self._listening)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._accept_on)
            return
        accepted.setblocking(False)
        handshake = _Handshaking(accepted)
        if not self._guard.admit(handshake, str(address[0])):
            self._guard.gone(handshake)
            accepted.close()
            return
        self._handshakes[handshake] = self._loop.create_task(self._shake_hands(accepted, handshake))

    async def _shake_hands(self, accepted: socket.socket, handshake: _Handshaking) -> None:
        def end() -> None:
            self._guard.gone(handshake)

        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make_protocol(end), accepted, ssl=self._context, ssl_shutdown_timeout=_END_SECONDS
            )
        except OSError:  # already reported, or the client went away
            pass
        finally:
            end()
            del self._handshakes[handshake]


def _handshake_class(on_failure: Callable[[HandshakeFailure], None]) -> type[ssl.SSLObject]:
    """The TLS side of a connection, which reports why its handshake failed."""

    class Handshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError):
                raise  # end of file: somebody who only checks whether the port is open
            except ssl.SSLError as error:
                on_failure(_failure(error))
                raise

    return Handshake


def _failure(error: ssl.SSLError) -> HandshakeFailure:
    reason = error.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "no_certificate"
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return "bad_certificate"
    if reason == "HTTP_REQUEST":
        return "plain_http"
    return "refused_by_client" if "_ALERT_" in reason else "other"


# --- when a certificate expires --------------------------------------------------------------------------------------


def _expires(chain: bytes) -> float:
    """Return ``notAfter`` of the first certificate in a PEM file, in Unix seconds.

    Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer,
    validity SEQUENCE { notBefore, notAfter }, … }, … }   (RFC 5280, section 4.1)

    The `ssl` module reads it from verified certificates only.
    """
    pem = chain[chain.index(_PEM_BEGIN) : chain.index(_PEM_END) + len(_PEM_END)]
    der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    _, to_be_signed, _ = _element(der)
    tag, fields, _ = _element(to_be_signed)
    tag, _, rest = _element(fields)
    for _ in range(3 if tag == _VERSION else 2):  # to the issuer
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, after_begin = _element(validity)
    tag, text, _ = _element(after_begin)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Split off the first element: its tag, its content, and the bytes after it."""
    tag, length, at = der[0], der[1], 2
    if length & 0x80:
        at += length & 0x7F
        length = int.from_bytes(der[2:at], "big")
    return tag, der[at : at + length], der[at + length :]


def _day(seconds: float) -> str:
    return f"on {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
