"""Authentication and authorisation: bearer tokens and basic auth, with a scope for each kind of request."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NoReturn

import bcrypt
from starlette.types import Scope

from kldrift.web.answers import Headers, Problem
from kldrift.web.credentials import AccessScope, Credentials, load_credentials
from kldrift.web.ingest import PREFIX
from kldrift.web.secret_files import Warn

#: Why a request was refused; ``scope``: valid credentials without the scope; ``busy``: too many passwords to check.
Refusal = Literal["missing", "malformed", "token", "password", "scope", "busy"]
REFUSALS: tuple[Refusal, ...] = ("missing", "malformed", "token", "password", "scope", "busy")

#: Open to everyone: probes have no credentials, and these paths tell them only whether the daemon is healthy and ready.
OPEN = frozenset((b"/-/healthy", b"/-/ready"))

_MAX_CREDENTIALS_BYTES = 4096
#: bcrypt ignores everything after this many bytes, and so does htpasswd.
_MAX_PASSWORD_BYTES = 72
#: How long a correct password is remembered after its last use; checking one with bcrypt takes 50 ms or more.
_REMEMBERED_SECONDS = 3600.0
#: Maximum number of passwords waiting to be checked, in all and per client address.
_MAX_WAITING = 32
_MAX_WAITING_OF_CLIENT = 4
#: Delay before a refusal is sent. Each one costs the event loop time, so this limits the rate per connection.
_HOLD_SECONDS = 0.1
#: On a busy core, leaves password checks about a tenth of the time, so that wrong passwords do not slow counting down.
_NICENESS = 10


def needed_scope(raw_path: bytes) -> AccessScope | None:
    """Return the scope needed for this percent-encoded path; None if it is open to everyone."""
    if raw_path.startswith(PREFIX):
        return "ingest"
    if raw_path in OPEN:
        return None
    return "admin" if raw_path.startswith(b"/-/") else "read"


class _State:
    """The credentials, and the passwords found to be correct: a reload replaces both at once."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.slowest = max(credentials.users.values(), key=lambda user: user.cost, default=None)
        #: By user: keyed hash of the password, and until when it is remembered. Never more entries than users.
        self.verified: dict[bytes, tuple[bytes, float]] = {}
        self.checking: dict[bytes, asyncio.Future[bool]] = {}
        schemes = [("Bearer", b'Bearer realm="kldrift"')] if credentials.tokens else []
        schemes += [("Basic", b'Basic realm="kldrift", charset="UTF-8"')] if credentials.users else []
        self.schemes = " or ".join(name for name, _ in schemes)
        self.challenges: Headers = [(b"www-authenticate", challenge) for _, challenge in schemes]


class Access:
    """Admits a request, or raises the error to answer it with.

    Parameters
    ----------
    tokens_file, users_file : at least one of them
    on_refused : called with the reason and the client's address
    warn : called for files that other users can read
    clock : seconds, monotonic
    hold_seconds : delay before a refusal is sent

    Raises
    ------
    ConfigError
        a file cannot be used
    """

    def __init__(
        self,
        tokens_file: Path | None,
        users_file: Path | None,
        on_refused: Callable[[Refusal, str], None],
        warn: Warn,
        clock: Callable[[], float] = time.monotonic,
        hold_seconds: float = _HOLD_SECONDS,
    ) -> None:
        self._tokens_file = tokens_file
        self._users_file = users_file
        self._on_refused = on_refused
        self._warn = warn
        self._clock = clock
        self._hold_seconds = hold_seconds
        self._key = secrets.token_bytes(32)
        self._waiting: Counter[str] = Counter()
        # One thread, however many passwords arrive: the rest of the machine is for the samples.
        self._thread = ThreadPoolExecutor(1, "passwords", _yield_to_others)
        self.load()()

    @property
    def files(self) -> Sequence[Path]:
        """The tokens file and the users file, as far as configured."""
        return [path for path in (self._tokens_file, self._users_file) if path is not None]

    def load(self) -> Callable[[], None]:
        """Read the files again; calling the result puts them into use.

        Raises
        ------
        ConfigError
            a file cannot be used; the old credentials stay in use
        """
        state = _State(load_credentials(self._tokens_file, self._users_file, self._warn))

        def use() -> None:
            self._state = state

        return use

    def close(self) -> None:
        """Stop checking passwords; requests that wait for a check are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def admit(self, request: Scope, raw_path: bytes) -> None:
        """Return if the request is allowed.

        Raises
        ------
        Problem
            401 without valid credentials, 403 if they lack the scope, 503 if too many passwords are waiting
        """
        needed = needed_scope(raw_path)
        if needed is None:
            return
        try:
            await self._admit(request, needed)
        except Problem:
            await asyncio.sleep(self._hold_seconds)
            raise

    async def _admit(self, request: Scope, needed: AccessScope) -> None:
        given = None
        for name, value in request["headers"]:
            if name == b"authorization":
                if given is not None:
                    self._refuse(request, "malformed", "got more than one Authorization header; send one")
                given = value
        if given is None:
            self._refuse(request, "missing", f"got none; send an Authorization header ({self._state.schemes})")
        if len(given) > _MAX_CREDENTIALS_BYTES:
            self._refuse(request, "malformed", f"got more than {_MAX_CREDENTIALS_BYTES} bytes; send a token as it is")
        scheme, _, credentials = given.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"bearer" and self._state.credentials.tokens:
            who, scopes = self._bearer(request, credentials.strip())
        elif scheme == b"basic" and self._state.credentials.users:
            who, scopes = await self._basic(request, credentials.strip())
        else:
            self._refuse(request, "malformed", f"got another scheme; use {self._state.schemes}")
        if needed not in scopes:
            self._on_refused("scope", _address(request))
            raise Problem(
                403,
                f"expected credentials with the scope {needed}, got those of {who} with {', '.join(sorted(scopes))}; "
                "use other credentials, or have the scope added to theirs",
            )

    def _bearer(self, request: Scope, token: bytes) -> tuple[str, frozenset[str]]:
        digest = hashlib.sha256(token).digest()
        found = None
        # Always compare with every token, so that the time taken reveals nothing about them.
        for known in self._state.credentials.tokens:
            if hmac.compare_digest(known.digest, digest):
                found = known
        if found is None:
            self._refuse(request, "token", "got an unknown token; it may have been replaced: ask for the current one")
        return found.name, found.scopes

    async def _basic(self, request: Scope, encoded: bytes) -> tuple[str, frozenset[str]]:
        try:
            name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
        except binascii.Error:
            name = colon = password = b""
        if not colon or any(byte < 32 or byte == 127 for byte in name + password):
            self._refuse(request, "malformed", "got no base64 of user:password; encode the two that way")
        state = self._state
        user = state.credentials.users.get(name)
        if not await self._is_right(state, request, name, password[:_MAX_PASSWORD_BYTES]) or user is None:
            self._refuse(request, "password", "got an unknown user or a wrong password; correct them")
        return user.name, user.scopes

    async def _is_right(self, state: _State, request: Scope, name: bytes, password: bytes) -> bool:
        """Return whether the password is the user's; a recently verified one needs no bcrypt."""
        key = hashlib.blake2b(name + b"\0" + password, key=self._key, digest_size=32).digest()
        known, until = state.verified.get(name, (b"", 0.0))
        now = self._clock()
        if hmac.compare_digest(known, key) and now < until:
            state.verified[name] = key, now + _REMEMBERED_SECONDS
            return True
        checking = state.checking.get(key)
        if checking is None:
            checking = state.checking[key] = self._check(state, key, request, name, password)
        right = await asyncio.shield(checking)
        if right and name in state.credentials.users:
            state.verified[name] = key, self._clock() + _REMEMBERED_SECONDS
        return right

    def _check(self, state: _State, key: bytes, request: Scope, name: bytes, password: bytes) -> asyncio.Future[bool]:
        """Start checking a password in the password thread."""
        address = _address(request)
        if self._waiting[address] >= _MAX_WAITING_OF_CLIENT or self._waiting.total() >= _MAX_WAITING:
            self._on_refused("busy", address)
            raise Problem(
                503, "too many passwords are waiting to be checked; retry, or use a token", [(b"retry-after", b"1")]
            )
        # An unknown user takes as long as a known one.
        user = state.credentials.users.get(name, state.slowest)
        assert user is not None  # basic auth is only offered if there is a user
        self._waiting[address] += 1
        checking = asyncio.get_running_loop().run_in_executor(self._thread, _fits, password, user.password_hash)

        def done(_: asyncio.Future[bool]) -> None:
            state.checking.pop(key, None)
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

        checking.add_done_callback(done)
        return checking

    def _refuse(self, request: Scope, reason: Refusal, got: str) -> NoReturn:
        """Count the refusal and answer 401."""
        self._on_refused(reason, _address(request))
        raise Problem(401, f"expected credentials, {got}", self._state.challenges)


def _fits(password: bytes, password_hash: bytes) -> bool:
    return bcrypt.checkpw(password, password_hash)


def _address(request: Scope) -> str:
    client = request.get("client")
    return str(client[0]) if client else "unknown"


def _yield_to_others() -> None:
    """Lower the priority of this thread (on Linux, where each thread has its own)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
