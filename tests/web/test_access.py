"""Who is let in: every kind of credentials at every endpoint, and what a refusal says, costs and gives away."""

import asyncio
import base64
import hmac
import threading
from itertools import product
from pathlib import Path

import bcrypt
import httpx
import pytest

from kldrift.errors import ConfigError
from kldrift.web import access as access_module
from kldrift.web.access import REFUSALS, Access, needed_scope
from kldrift.web.app import App
from kldrift.web.credentials import SCOPES
from tests.web.fakes import FakeIngest, FakeReaders, call_app

TOKENS = {scopes: f"{scopes.replace(',', '-')}-token-0123456789" for scopes in (*SCOPES, "ingest,read,admin")}
PASSWORD = "open sesame: ü"
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()

#: Every endpoint, and what it needs.
ENDPOINTS = [
    ("POST", "/v1/monitors/loans/samples", "ingest"),
    ("POST", "/v1/monitors/nobody/samples", "ingest"),
    ("GET", "/v1/monitors/loans/samples", "ingest"),
    ("GET", "/metrics", "read"),
    ("HEAD", "/metrics", "read"),
    ("GET", "/", "read"),
    ("GET", "/api/v1/status", "read"),
    ("GET", "/api/v1/monitors", "read"),
    ("GET", "/api/v1/monitors/loans", "read"),
    ("GET", "/api/v1/monitors/loans/features/age", "read"),
    ("GET", "/nothing", "read"),
    ("OPTIONS", "/", "read"),
    ("POST", "/-/reload", "admin"),
    ("PUT", "/-/reload", "admin"),
    ("GET", "/-/reload", "admin"),
    ("GET", "/-/whatever", "admin"),
    ("GET", "/-/healthy", None),
    ("GET", "/-/ready", None),
]


class Door:
    """The application behind an access of these files; `refusals` is what it told."""

    def __init__(self, folder, tokens=True, users=True, clock=lambda: 0.0, hold_seconds=0.0) -> None:
        self.tokens_file, self.users_file = folder / "tokens", folder / "users"
        named = [(scopes.replace(",", "-"), scopes, token) for scopes, token in TOKENS.items()]
        self.tokens_file.write_text("".join(f"{name} {scopes} {token}\n" for name, scopes, token in named))
        self.users_file.write_text("".join(f"{name}:{HASHED}:{scopes}\n" for name, scopes, _ in named))
        for path in (self.tokens_file, self.users_file):
            path.chmod(0o600)
        self.refusals = []
        self.warnings = []
        self.readers = FakeReaders()
        self.ingest = FakeIngest()
        self.access = Access(
            self.tokens_file if tokens else None,
            self.users_file if users else None,
            lambda *refusal: self.refusals.append(refusal),
            self.warnings.append,
            clock,
            hold_seconds,
        )
        self.app = App(self.ingest, self.readers, lambda *_: None, access=self.access)

    async def request(self, method, path, *values, client="192.0.2.7"):
        transport = httpx.ASGITransport(self.app, client=(client, 4711))
        headers = [("content-type", "application/x-ndjson"), *(("authorization", value) for value in values)]
        async with httpx.AsyncClient(transport=transport, base_url="http://kldrift") as session:
            return await session.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)

    def ask(self, method, path, *values):
        return asyncio.run(self.request(method, path, *values))

    def read(self, *values):
        return self.ask("GET", "/metrics", *values)


@pytest.fixture
def door(tmp_path: Path):
    door = Door(tmp_path)
    yield door
    door.access.close()


def bearer(scopes) -> str:
    return f"Bearer {TOKENS[scopes]}"


def basic(user, password=PASSWORD):
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


# --- scopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "needed"), ENDPOINTS)
def test_each_endpoint_takes_its_scope_by_token_and_by_password_and_no_other(
    door: Door, method: str, path: str, needed: str | None
) -> None:
    for scopes, by_token in product(TOKENS, (True, False)):
        value = bearer(scopes) if by_token else basic(scopes.replace(",", "-"))
        status = door.ask(method, path, value).status_code
        if needed is None or needed in scopes.split(","):
            assert status not in (401, 403)
        else:
            assert status == 403
    assert door.ask(method, path).status_code == (401 if needed else 200)


def test_without_credentials_nobody_learns_what_there_is(door: Door) -> None:
    known = door.ask("POST", "/v1/monitors/loans/samples")
    assert known.status_code == 401
    assert door.ask("POST", "/v1/monitors/nobody/samples").content == known.content
    assert door.ask("GET", "/nothing").content == door.ask("GET", "/api/v1/status").content == known.content
    assert door.ingest.bodies == []


@pytest.mark.parametrize(
    "raw_path",
    [b"/-/reload", b"/-/reload/", b"/-/%72eload", b"/%2d/reload", b"//-/reload", b"/-/healthy/../reload", b"/-/Reload"],
)
def test_another_spelling_of_reload_does_not_get_around_its_scope(door: Door, raw_path: bytes) -> None:
    reloads = []
    door.readers.reload = lambda: reloads.append(1)
    assert needed_scope(raw_path) in ("admin", "read")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/-/reload",
        "raw_path": raw_path,
        "query_string": b"",
        "headers": [(b"authorization", bearer("read").encode())],
    }
    sent = call_app(door.app, scope, [{"type": "http.request", "body": b""}])
    assert sent[0]["status"] in (403, 404)
    assert not reloads


def test_a_refusal_says_what_to_do(door: Door) -> None:
    missing = door.read()
    assert missing.json() == {"error": "expected credentials, got none; send an Authorization header (Bearer or Basic)"}
    assert missing.headers.get_list("www-authenticate") == [
        'Bearer realm="kldrift"',
        'Basic realm="kldrift", charset="UTF-8"',
    ]
    lacking = door.read(bearer("ingest"))
    assert lacking.status_code == 403
    assert "www-authenticate" not in lacking.headers
    assert lacking.json() == {
        "error": "expected credentials with the scope read, got those of ingest with ingest; use other credentials, "
        "or have the scope added to theirs"
    }


def test_only_schemes_that_can_succeed_are_offered(tmp_path: Path) -> None:
    tokens = Door(tmp_path, users=False)
    answer = tokens.read(basic("read"))
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == ['Bearer realm="kldrift"']
    users = Door(tmp_path, tokens=False)
    answer = users.read(bearer("read"))
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == ['Basic realm="kldrift", charset="UTF-8"']
    assert answer.json()["error"] == "expected credentials, got another scheme; use Basic"


# --- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed"),
        (b"Bearer", "token"),
        (b"Bearer ", "token"),
        (b"Bearer" + TOKENS["read"].encode(), "malformed"),
        (b"Token " + TOKENS["read"].encode(), "malformed"),
        (TOKENS["read"].encode(), "malformed"),
        (b"Bearer " + TOKENS["read"].encode()[:-1], "token"),
        (b"Bearer " + TOKENS["read"].encode() + b"0", "token"),
        (b"Bearer " + TOKENS["read"].encode().upper(), "token"),
        (b"Bearer " + TOKENS["read"].encode() + b"," + TOKENS["admin"].encode(), "token"),
        (b"Bearer \xff\xfe", "token"),
        (b"Bearer " + b"a" * 5000, "malformed"),
        (b"Basic", "malformed"),
        (b"Basic !!!!", "malformed"),
        (b"Basic " + base64.b64encode(b"no-colon"), "malformed"),
        (b"Basic " + base64.b64encode(b"read:nul\0byte"), "malformed"),
        (b"Basic " + base64.b64encode(b"read:line\nbreak"), "malformed"),
        (b"Basic " + base64.b64encode(b":"), "password"),
        (b"Basic " + base64.b64encode(b"read:"), "password"),
        (b"Basic " + base64.b64encode(b"READ:" + PASSWORD.encode()), "password"),
        (b"Basic " + base64.b64encode(b"read:\xff\xfe"), "password"),
        (b"Basic " + base64.b64encode(b"nobody:" + PASSWORD.encode()), "password"),
    ],
)
def test_credentials_that_are_none_are_refused_and_not_shown(door: Door, value: bytes, reason: str) -> None:
    answer = door.read(value)
    assert answer.status_code == 401
    assert door.refusals == [(reason, "192.0.2.7")]
    for secret in (*TOKENS.values(), PASSWORD, "read:"):
        assert secret not in answer.text
        assert secret not in str(answer.headers)


@pytest.mark.parametrize("second", ["Bearer wrong", bearer("read"), ""])
def test_two_authorization_headers_are_refused_whatever_they_hold(door: Door, second: str) -> None:
    assert door.read(bearer("read"), second).status_code == 401
    assert door.read(second, bearer("read")).status_code == 401
    assert [reason for reason, _ in door.refusals] == ["malformed"] * 2


@pytest.mark.parametrize("value", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "])
def test_the_scheme_has_no_case_and_spaces_do_not_count(door: Door, value: str) -> None:
    assert door.read(value.format(TOKENS["read"])).status_code == 200


def test_every_reason_is_one_of_a_bounded_set(door: Door) -> None:
    door.read()
    door.read(b"x")
    door.read("Bearer wrong")
    door.read(basic("read", "wrong"))
    door.read(bearer("admin"))
    assert [reason for reason, _ in door.refusals] == ["missing", "malformed", "token", "password", "scope"]
    assert {reason for reason, _ in door.refusals} | {"busy"} == set(REFUSALS)


def test_a_refusal_is_held_back_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        door = Door(tmp_path, hold_seconds=30)
        async with asyncio.timeout(20):
            refused = asyncio.create_task(door.request("GET", "/metrics", "Bearer wrong"))
            assert (await door.request("GET", "/metrics", bearer("read"))).status_code == 200
            assert (await door.request("GET", "/-/healthy")).status_code == 200
            while not door.refusals:
                await asyncio.sleep(0)
            assert not refused.done()
            refused.cancel()  # as at a stop
            assert (await refused).status_code == 503

    asyncio.run(scenario())


@pytest.mark.parametrize("scopes", [*TOKENS, None])
def test_a_token_is_compared_with_all_there_are_in_constant_time(
    door: Door, monkeypatch: pytest.MonkeyPatch, scopes: str | None
) -> None:
    compared = []
    compare_digest = hmac.compare_digest

    def compare(known, given):
        compared.append((len(known), len(given)))
        return compare_digest(known, given)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    door.read(bearer(scopes) if scopes else "Bearer x")
    assert compared == [(32, 32)] * len(TOKENS)


# --- passwords -------------------------------------------------------------------------------------


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch):
    """The users' hashes that passwords were checked against."""
    seen = []

    def check(password, hashed):
        seen.append(hashed)
        return bcrypt.checkpw(password, hashed)

    monkeypatch.setattr(access_module, "_fits", check)
    return seen


def test_a_password_that_was_right_is_not_checked_again_and_a_wrong_one_is(door: Door, checks: list[bytes]) -> None:
    for _ in range(5):
        assert door.read(basic("read")).status_code == 200
    assert len(checks) == 1
    for _ in range(2):
        assert door.read(basic("read", "wrong")).status_code == 401
    assert len(checks) == 3
    assert door.read(basic("read")).status_code == 200
    assert len(checks) == 3
    assert PASSWORD not in repr(vars(door.access._state))


def test_a_password_is_forgotten_an_hour_after_its_last_use(tmp_path: Path, checks: list[bytes]) -> None:
    now = 0.0
    door = Door(tmp_path, clock=lambda: now)
    for now, n_checks in ((0, 1), (3599, 1), (7000, 1), (10_599, 1), (14_200, 2)):  # noqa: B007 # the clock reads it
        assert door.read(basic("read")).status_code == 200
        assert len(checks) == n_checks
    door.access.close()


def test_an_unknown_user_takes_as_long_as_a_wrong_password(door: Door, checks: list[bytes]) -> None:
    assert door.read(basic("nobody", "wrong")).status_code == 401
    assert checks == [HASHED.encode()]


def test_even_the_password_of_another_lets_no_unknown_user_in(door: Door) -> None:
    for _ in range(2):
        assert door.read(basic("nobody")).status_code == 401
    assert door.access._state.verified == {}


def test_lines_as_apaches_htpasswd_writes_them_let_their_users_in(door: Door) -> None:
    """``htpasswd -nbB NAME PASSWORD`` of Apache 2.4.71, one of them with ``-C 10``; with the scopes behind."""
    door.users_file.write_text(
        "grafana:$2y$10$STajq/qOGi.FJwdUwwgHe.74OQrDh4Xf4ewcYW4Qe1C3RskHEyP4S:read\n\n"
        "quick:$2y$05$9J2uQiLIXfQz3HzFyI3XK./N3E7ADvQ0ViZsv6lEIe3RkQaIHBIrS:ingest\n\n"
        "umlaut:$2y$10$UKsIwk5oXVTDfW8p.gVfQORD8ewr6qDJxoHAEfEig/Jz7qSP3PbwO:read,ingest\n\n"
    )
    door.access.load()()
    assert door.read(basic("grafana", "open sesame")).status_code == 200
    assert door.read(basic("grafana", "open sesamE")).status_code == 401
    assert door.read(basic("quick", "open sesame")).status_code == 403  # known, without the scope
    assert door.read(basic("umlaut", "päss: wörd")).status_code == 200
    assert door.read(basic("umlaut", "päss: wör")).status_code == 401
    assert [warning.rpartition("users: ")[2] for warning in door.warnings if "quick" in warning] == [
        "the bcrypt cost of quick is only 5; hash the password again with -C 10"
    ]


def test_of_a_long_password_72_bytes_count_as_with_htpasswd(door: Door) -> None:
    hashed = bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()
    door.users_file.write_text(f"read:{hashed}:read\n")
    door.access.load()()
    assert door.read(basic("read", "p" * 100)).status_code == 200
    assert door.read(basic("read", "p" * 71)).status_code == 401


class Gate:
    """Checks of passwords that wait until they are let on."""

    def __init__(self, monkeypatch) -> None:
        self.open = threading.Event()
        self.begun = 0
        monkeypatch.setattr(access_module, "_fits", self.check)

    def check(self, password, hashed):
        self.begun += 1
        assert self.open.wait(20)
        return bcrypt.checkpw(password, hashed)


def test_wrong_passwords_hold_up_neither_the_loop_nor_other_clients(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)

    async def scenario() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            flood = [group.create_task(door.request("GET", "/metrics", basic("read", f"wrong {i}"))) for i in range(50)]
            other = group.create_task(door.request("GET", "/metrics", basic("read"), client="192.0.2.8"))
            while sum(task.done() for task in flood) < 46:  # four wait, whatever the client sends
                await asyncio.sleep(0)
            assert gate.begun <= 1
            # meanwhile who needs no check is served
            assert (await door.request("GET", "/metrics", bearer("read"))).status_code == 200
            posted = await door.request("POST", "/v1/monitors/loans/samples", bearer("ingest"))
            assert posted.status_code == 200
            busy = next(task.result() for task in flood if task.done())
            assert busy.status_code == 503
            assert busy.headers["retry-after"] == "1"
            gate.open.set()
        assert sorted(task.result().status_code for task in flood) == [401] * 4 + [503] * 46
        assert other.result().status_code == 200
        assert not door.access._waiting
        assert not door.access._state.checking

    asyncio.run(scenario())


def test_of_all_clients_together_only_so_many_passwords_wait(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)

    async def scenario() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            flood = [
                group.create_task(door.request("GET", "/metrics", basic("read", f"wrong {i}"), client=f"192.0.2.{i}"))
                for i in range(100)
            ]
            while sum(task.done() for task in flood) < 68:
                await asyncio.sleep(0)
            gate.open.set()
        assert sorted(task.result().status_code for task in flood) == [401] * 32 + [503] * 68

    asyncio.run(scenario())


def test_the_same_credentials_at_the_same_time_are_checked_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)

    async def scenario() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            requests = [group.create_task(door.request("GET", "/metrics", basic("read"))) for _ in range(20)]
            while not gate.begun:
                await asyncio.sleep(0)
            requests[0].cancel()  # the one that began it; it goes on for the others
            await asyncio.wait(requests[:1])
            gate.open.set()
        assert [task.result().status_code for task in requests[1:]] == [200] * 19
        assert gate.begun == 1

    asyncio.run(scenario())


# --- new files -------------------------------------------------------------------------------------


def test_a_reload_replaces_tokens_and_users_and_forgets_passwords(door: Door, checks: list[bytes]) -> None:
    assert door.read(basic("read")).status_code == 200
    door.tokens_file.write_text("new read another-token-0123456789\n")
    use = door.access.load()
    assert door.read(bearer("read")).status_code == 200  # not in use yet
    use()
    assert door.read(bearer("read")).status_code == 401
    assert door.read("Bearer another-token-0123456789").status_code == 200
    assert door.read(basic("read")).status_code == 200
    assert len(checks) == 2
    door.users_file.write_text(f"other:{HASHED}:read\n")
    door.access.load()()
    assert door.read(basic("read")).status_code == 401
    assert door.read(basic("other")).status_code == 200


def test_a_broken_file_leaves_the_old_credentials_in_use(door: Door) -> None:
    door.tokens_file.write_text("read read\n")
    with pytest.raises(ConfigError, match=r"tokens:1: expected NAME SCOPES TOKEN, got 2 words"):
        door.access.load()
    assert door.read(bearer("read")).status_code == 200
    door.tokens_file.unlink()
    with pytest.raises(ConfigError, match="tokens: expected a file, got nothing"):
        door.access.load()
    assert door.read(bearer("read")).status_code == 200
    assert door.read().status_code == 401
