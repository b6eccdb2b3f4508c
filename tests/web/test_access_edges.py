"""Credentials up to their limits, and where a remembered password ends."""

import base64
from pathlib import Path

import bcrypt
import pytest

from kldrift.web import access as access_module
from tests.web.test_access import PASSWORD, Door, basic, bearer


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def raw_basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


def test_the_files_that_are_watched_are_those_that_were_given(tmp_path: Path) -> None:
    for tokens, users in ((True, True), (True, False), (False, True)):
        door = Door(tmp_path, tokens, users)
        expected = [path for path, given in ((door.tokens_file, tokens), (door.users_file, users)) if given]
        assert door.access.files == expected


@pytest.mark.parametrize(("spaces", "status"), [(0, 200), (1, 401)])
def test_credentials_have_a_largest_size(door: Door, spaces: int, status: int) -> None:
    value = bearer("read")
    padded = value.replace(" ", " " * (1 + access_module._MAX_CREDENTIALS_BYTES - len(value) + spaces))
    assert len(padded) == access_module._MAX_CREDENTIALS_BYTES + spaces
    answer = door.ask("GET", "/metrics", padded)
    assert answer.status_code == status
    assert door.refusals == ([] if status == 200 else [("malformed", "192.0.2.7")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"read:" + PASSWORD.encode(), None),
        (b"read" + PASSWORD.replace(":", "").encode(), "malformed"),
        (b"read:\x1f", "malformed"),
        (b"read:\x7f", "malformed"),
        (b"re\x00ad:x", "malformed"),
        (b"read: ", "password"),
        (b"read:~", "password"),
        (b"read:\x80", "password"),
        (b"read:", "password"),
    ],
)
def test_names_and_passwords_are_of_printable_characters(door: Door, text: bytes, reason: str | None) -> None:
    answer = door.ask("GET", "/metrics", raw_basic(text))
    assert answer.status_code == (200 if reason is None else 401)
    assert [refusal for refusal, _ in door.refusals] == ([] if reason is None else [reason])


def test_basic_credentials_are_base64_and_nothing_else(door: Door) -> None:
    encoded = basic("read")
    assert door.ask("GET", "/metrics", encoded).status_code == 200
    assert door.ask("GET", "/metrics", encoded[:-4] + b"*" + encoded[-4:]).status_code == 401
    assert [refusal for refusal, _ in door.refusals] == ["malformed"]


@pytest.mark.parametrize(("after", "checked"), [(3_599.0, 1), (3_600.0, 2)])
def test_a_right_password_is_remembered_for_an_hour_to_the_second(
    tmp_path: Path, after: float, checked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access_module._REMEMBERED_SECONDS == 3_600
    checks: list[bytes] = []
    checkpw = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda given, known: (checks.append(given), checkpw(given, known))[1])
    now = [0.0]
    door = Door(tmp_path, clock=lambda: now[0])
    assert door.ask("GET", "/metrics", basic("read")).status_code == 200
    now[0] = after
    assert door.ask("GET", "/metrics", basic("read")).status_code == 200
    assert len(checks) == checked
