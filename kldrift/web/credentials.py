"""The files of tokens and users, and what each may do. Messages name the line, never its content."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from kldrift.errors import ConfigError
from kldrift.web.secret_files import Warn, read_secret

#: ingest: send samples. read: metrics, API, pages. admin: reload.
AccessScope = Literal["ingest", "read", "admin"]
SCOPES: tuple[AccessScope, ...] = get_args(AccessScope)

#: Every request is compared with every token, at about 0.1 µs each.
_MAX_ENTRIES = 1000
#: Shorter than the output of `openssl rand -hex 32`, so that a token in the wrong column is not taken for a name.
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,40}")
#: b64token of RFC 6750.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
#: The last character of the salt carries only two bits.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
#: Cost 14 takes about a second; each step doubles it.
_COSTS = range(4, 15)
_GOOD_COST = 10
_COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, known by its SHA-256."""

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """A user of basic auth."""

    name: str
    scopes: frozenset[str]
    password_hash: bytes = field(repr=False)
    cost: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """All tokens, and the users by name."""

    tokens: tuple[Token, ...] = ()
    users: Mapping[bytes, User] = field(default_factory=dict)


class _Problem(Exception):
    """A problem with a line: what was expected, what was found, what to do."""


def load_credentials(tokens_file: Path | None, users_file: Path | None, warn: Warn) -> Credentials:
    """Read the files of tokens (``NAME SCOPES TOKEN``) and of users (``NAME:BCRYPT:SCOPES``).

    Raises
    ------
    ConfigError
        with every problem in either file
    """
    problems: list[str] = []
    tokens: dict[bytes, Token] = {}
    users: dict[bytes, User] = {}

    def add_token(line: str) -> None:
        token = _token(line)
        if token.digest in tokens:
            raise _Problem("expected each token once, got the token of an earlier line; make a new one")
        tokens[token.digest] = token

    def add_user(line: str) -> None:
        user = _user(line)
        if user.name.encode() in users:
            raise _Problem("expected each user once, got the user of an earlier line; remove one of the two")
        if user.cost < _GOOD_COST:
            warn(
                f"{users_file}: the bcrypt cost of {user.name} is only {user.cost};"
                f" hash the password again with -C {_GOOD_COST}"
            )
        users[user.name.encode()] = user

    _read(tokens_file, "server.auth.tokens_file", "NAME SCOPES TOKEN", add_token, problems, warn)
    _read(users_file, "server.auth.users_file", "NAME:BCRYPT:SCOPES", add_user, problems, warn)
    if problems:
        raise ConfigError(problems)
    return Credentials(tuple(tokens.values()), users)


def _read(path: Path | None, key: str, form: str, add: Callable[[str], None], problems: list[str], warn: Warn) -> None:
    """Pass each line of the file to `add`."""
    if path is None:
        return
    try:
        text = read_secret(path, key, warn).decode("utf-8-sig")
    except ConfigError as error:
        problems += error.problems
        return
    except UnicodeDecodeError:
        problems.append(f"{path}: expected UTF-8, got other bytes; is it the right file for {key}?")
        return
    n_lines = 0
    for number, line in _lines(text):
        n_lines += 1
        try:
            add(line)
        except _Problem as problem:
            problems.append(f"{path}:{number}: {problem}")
    if not 1 <= n_lines <= _MAX_ENTRIES:
        problems.append(
            f"{path}: expected 1 to {_MAX_ENTRIES} lines {form}, got {n_lines}; fill the file, or remove {key}"
        )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that is more than a comment, stripped of comments, with its number."""
    for number, line in enumerate(text.split("\n"), 1):
        if bare := _COMMENT.sub("", line).strip():
            yield number, bare


def _token(line: str) -> Token:
    parts = line.split()
    if len(parts) != 3:
        raise _Problem(f"expected NAME SCOPES TOKEN, got {len(parts)} words; separate the three by spaces")
    name, scopes, token = parts
    if digest := _DIGEST.fullmatch(token):
        return Token(_name(name), _scopes(scopes), bytes.fromhex(digest[1]))
    if not _TOKEN.fullmatch(token):
        raise _Problem(
            "expected a token of 16 to 512 letters, digits, . _ ~ + / - (or sha256: and 64 hexadecimal digits), "
            "got something else; make one with: openssl rand -hex 32"
        )
    return Token(_name(name), _scopes(scopes), hashlib.sha256(token.encode()).digest())


def _user(line: str) -> User:
    parts = line.split(":")
    if len(parts) != 3:
        raise _Problem(
            f"expected NAME:BCRYPT:SCOPES, got {len(parts)} parts; append :read (or ingest, admin) "
            "to what htpasswd -nBC 10 NAME prints"
        )
    name, password_hash, scopes = (part.strip() for part in parts)
    known = _BCRYPT.fullmatch(password_hash)
    if known is None:
        raise _Problem("expected a bcrypt hash, got something else; make it with: htpasswd -nBC 10 NAME")
    if (cost := int(known[1])) not in _COSTS:
        raise _Problem(f"expected a bcrypt cost of {_COSTS[0]} to {_COSTS[-1]}, got {cost}; use 10 (htpasswd -C 10)")
    return User(_name(name), _scopes(scopes), password_hash.encode(), cost)


def _name(text: str) -> str:
    if _NAME.fullmatch(text):
        return text
    raise _Problem(
        "expected a name of at most 40 letters, digits, _ . @ and -, got something else; the name comes first"
    )


def _scopes(text: str) -> frozenset[str]:
    scopes = frozenset(text.split(","))
    if scopes <= set(SCOPES):
        return scopes
    raise _Problem(
        "expected scopes among ingest, read and admin, got something else; separate them by commas, without spaces"
    )
