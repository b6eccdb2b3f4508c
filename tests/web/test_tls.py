"""HTTPS on real sockets: certificates of server and clients, and how they are exchanged."""

import asyncio
import contextlib
import errno
import shutil
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kldrift.errors import ConfigError
from kldrift.web import tls as tls_module
from kldrift.web.app import App
from kldrift.web.guard import Guard, Timeouts
from kldrift.web.secret_files import Watch
from kldrift.web.serve import WebServer, bind, new_event_loop
from kldrift.web.tls import Tls
from tests.web.certificates import Authority, Pair, openssl
from tests.web.fakes import FakeIngest, FakeReaders
from tests.web.guarded import Heard


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority):
    return authority.issue("server")


class Files:
    """A server's files, to be replaced; `tls` is made of them."""

    def __init__(self, folder, pair, client_ca=None, password=None) -> None:
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.client_ca = None if client_ca is None else folder / "ca.crt"
        self.password_file = None if password is None else folder / "password"
        self.put(pair)
        if client_ca is not None:
            shutil.copy(client_ca, self.client_ca)
        if password is not None:
            self.password_file.write_text(f"{password}\n")
            self.password_file.chmod(0o600)
        self.expiries, self.failures, self.warnings = [], [], []
        self.tls = Tls(
            *(self.certificate, self.key, self.client_ca, self.password_file),
            *(self.expiries.append, self.failures.append, self.warnings.append),
        )

    def put(self, pair) -> None:
        shutil.copy(pair.certificate, self.certificate)
        shutil.copy(pair.key, self.key)


@contextlib.asynccontextmanager
async def serving(tls, **options):
    app = App(FakeIngest(), FakeReaders(), lambda *_: None)
    server = WebServer(app, bind("127.0.0.1", 0), tls=tls.context, **options)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


def run(scenario):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(scenario)


def trusting(authority, pair=None, maximum=None):
    """A client's context."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    if maximum is not None:
        context.minimum_version, context.maximum_version = maximum, maximum
    return context


async def get(port, context, path="/metrics"):
    async with httpx.AsyncClient(verify=context) as client:
        return (await client.get(f"https://127.0.0.1:{port}{path}")).status_code


async def answered(port, context):
    """200, or None where the handshake fails (with TLS 1.3 a client hears of it when it reads)."""
    try:
        return await get(port, context)
    except httpx.TransportError:
        return None


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def connected(port, context):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    return reader, writer, writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


async def ask(reader, writer):
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return await reader.readuntil(b"metrics")


def serial(pair):
    return openssl("x509", "-in", pair.certificate, "-noout", "-serial").strip().removeprefix("serial=")


# --- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop])
def test_requests_are_answered_over_tls_in_either_event_loop(
    tmp_path: Path, authority: Authority, server_pair: Pair, loop_factory: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls) as port:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert await get(port, trusting(authority, maximum=version)) == 200
        assert files.failures == []
        assert files.warnings == []

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def test_tls_1_1_is_refused(tmp_path: Path, authority: Authority, server_pair: Pair) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        context = trusting(authority)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        async with serving(files.tls) as port:
            assert await answered(port, context) is None
            await until(lambda: files.failures)
        assert files.failures == ["other"]

    run(scenario())


def test_whoever_speaks_http_without_tls_is_counted(tmp_path: Path, server_pair: Pair) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls) as port, httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{port}/metrics")
        assert files.failures == ["plain_http"]

    run(scenario())


def test_a_client_that_does_not_trust_the_certificate_is_counted(tmp_path: Path, server_pair: Pair) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        stranger = Authority(tmp_path / "stranger", "stranger")

        def connect(port) -> None:  # on a socket of its own, so that the alert is sent
            with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
                trusting(stranger).wrap_socket(plain, server_hostname="127.0.0.1")

        async with serving(files.tls) as port:
            await asyncio.to_thread(connect, port)
            await until(lambda: files.failures)
        assert files.failures == ["refused_by_client"]

    run(scenario())


def test_whoever_only_looks_whether_the_port_is_open_is_not_counted(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            assert await get(port, trusting(authority)) == 200
        assert files.failures == []

    run(scenario())


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["nothing", "the beginning of a hello"])
def test_a_handshake_that_does_not_end_is_cut_off(
    tmp_path: Path, server_pair: Pair, sent: bytes, loop_factory: Callable[..., Any]
) -> None:
    heard = Heard()

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        guard = Guard(Timeouts(header=0.2), events=heard)
        async with serving(files.tls, guard=guard) as port, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await until(lambda: heard.open == 1)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await until(lambda: heard.open == 0)
            writer.close()
        assert files.failures == []

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
    assert heard.evicted == ["header"]


def test_unfinished_handshakes_count_as_their_clients_connections(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    heard = Heard()

    async def get_from(source, port):
        """The answer to a client at an address of its own; None where it is not let in."""
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(authority), local_addr=(source, 0)
            )
            answer = await ask(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return None
        writer.close()
        return answer

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        guard = Guard(max_connections=100, max_client_connections=3, events=heard)
        async with serving(files.tls, guard=guard) as port, asyncio.timeout(20):
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await until(lambda: heard.open == 3)
            assert await get_from("127.0.0.1", port) is None
            assert heard.refused == ["client"]
            assert b"200 OK" in await get_from("127.0.0.2", port)
            for _, writer in idle:
                writer.close()
            await until(lambda: heard.open == 0)
            assert b"200 OK" in await get_from("127.0.0.1", port)

    run(scenario())
    assert heard.most == 4


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop])
def test_a_request_that_comes_together_with_the_end_of_the_handshake_is_answered(
    tmp_path: Path, authority: Authority, server_pair: Pair, loop_factory: Callable[..., Any]
) -> None:
    def ask_at_once(port):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            client.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            plain.sendall(outgoing.read())
            while True:
                try:
                    return client.read(100)
                except ssl.SSLWantReadError:
                    incoming.write(plain.recv(65536))

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls) as port:
            for _ in range(20):
                assert b"200 OK" in await asyncio.to_thread(ask_at_once, port)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def test_clients_that_go_away_in_the_middle_of_a_handshake_leave_nothing(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    heard = Heard()

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls, guard=Guard(events=heard)) as port:
            for n in range(60):
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                client = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                hello = outgoing.read()
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(hello[: len(hello) * n // 50])
                if n % 2:
                    writer.transport.abort()
                else:
                    writer.close()
            await until(lambda: heard.open == 0)
            assert await get(port, trusting(authority)) == 200

    run(scenario())
    assert heard.evicted == []


def test_a_connection_that_could_not_be_accepted_is_accepted_later(
    tmp_path: Path, authority: Authority, server_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "_PAUSE_SECONDS", 0.05)

    class Full:
        """A listening socket of a process that may have no more open files, at first."""

        def __init__(self, listening) -> None:
            self.listening, self.left = listening, 3

        def fileno(self):
            return self.listening.fileno()

        def accept(self):
            self.left -= 1
            if self.left >= 0:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.listening.accept()

        def __getattr__(self, name):
            return getattr(self.listening, name)

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        full = Full(bind("127.0.0.1", 0))
        server = WebServer(App(FakeIngest(), FakeReaders(), lambda *_: None), full, tls=files.tls.context)
        await server.start()
        assert await get(server.port, trusting(authority)) == 200
        assert full.left < 0
        await server.stop()

    run(scenario())


def test_a_stop_does_not_wait_for_handshakes(tmp_path: Path, server_pair: Pair) -> None:
    heard = Heard()

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls, guard=Guard(events=heard)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: heard.open == 1)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 5
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    run(scenario())
    assert heard.open == 0


def test_a_stop_does_not_wait_for_a_client_that_says_no_farewell(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        async with serving(files.tls) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
            assert b"200 OK" in await ask(reader, writer)
            writer.transport.pause_reading()
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 5
        writer.transport.abort()

    run(scenario())


# --- certificates of clients -----------------------------------------------------------------------


def test_with_an_authority_of_clients_only_its_valid_certificates_get_in(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger")
    good, expired = authority.issue("client"), authority.issue("late", days=-1)
    foreign = stranger.issue("foreign")

    async def scenario() -> None:
        files = Files(tmp_path, server_pair, authority.certificate)
        async with serving(files.tls) as port:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                files.failures.clear()
                assert await answered(port, trusting(authority, good, version)) == 200
                assert await answered(port, trusting(authority, None, version)) is None
                assert await answered(port, trusting(authority, expired, version)) is None
                assert await answered(port, trusting(authority, foreign, version)) is None
                await until(lambda: len(files.failures) == 3)
                assert files.failures == ["no_certificate", "bad_certificate", "bad_certificate"]

    run(scenario())


def test_after_the_authority_was_exchanged_the_old_ones_clients_are_out(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    other = Authority(tmp_path / "other", "other")
    old, new = authority.issue("old"), other.issue("new")

    async def scenario() -> None:
        files = Files(tmp_path, server_pair, authority.certificate)
        async with serving(files.tls) as port:
            assert await answered(port, trusting(authority, old)) == 200
            assert await answered(port, trusting(authority, new)) is None
            shutil.copy(other.certificate, files.client_ca)
            files.tls.load()()
            assert await answered(port, trusting(authority, old)) is None
            assert await answered(port, trusting(authority, new)) == 200

    run(scenario())


# --- exchange --------------------------------------------------------------------------------------


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    renewed = authority.issue("renewed", days=60)

    async def scenario() -> None:
        files = Files(tmp_path, server_pair)
        context = trusting(authority)
        async with serving(files.tls) as port:
            reader, writer, shown = await connected(port, context)
            assert b"200 OK" in await ask(reader, writer)
            assert shown == serial(server_pair)
            files.put(renewed)
            use = files.tls.load()
            use()
            assert b"200 OK" in await ask(reader, writer)  # the same connection
            _, second, shown = await connected(port, context)
            assert shown == serial(renewed)
            for open_writer in (writer, second):
                open_writer.close()
        assert len(files.expiries) == 2
        assert files.expiries[1] > files.expiries[0] + 20 * 86_400

    run(scenario())


def test_the_expiry_is_the_certificates(tmp_path: Path, authority: Authority, server_pair: Pair) -> None:
    chain = tmp_path / "chain.crt"
    text = server_pair.certificate.read_text()
    chain.write_text(f"Bag Attributes: none\n{text}{authority.certificate.read_text()}")
    far = authority.issue("far", days=365 * 40)  # after 2049 the date is written in another form
    for path, pair in ((chain, server_pair), (far.certificate, far)):
        written = openssl("x509", "-in", pair.certificate, "-noout", "-enddate").strip().removeprefix("notAfter=")
        expected = datetime.strptime(written, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        assert tls_module.load_context(path, pair.key, None, None, print)[1] == expected.timestamp()


def broken(name):
    """What a renewal may leave behind; each takes the files, the authority, and a way to make a certificate."""

    def other_key(files, authority) -> None:
        shutil.copy(authority.issue("other").key, files.key)

    def cut_short(files, authority) -> None:
        files.certificate.write_bytes(files.certificate.read_bytes()[:200])

    def empty_key(files, authority) -> None:
        files.key.write_bytes(b"")

    def absent(files, authority) -> None:
        files.certificate.unlink()

    def expired(files, authority) -> None:
        files.put(authority.issue("expired", days=-1))

    def encrypted(files, authority) -> None:
        files.put(authority.issue("encrypted", password="1234"))

    def no_authority(files, authority) -> None:
        files.client_ca.write_text("none\n")

    def leaf_as_authority(files, authority) -> None:
        shutil.copy(files.certificate, files.client_ca)

    def writable(files, authority) -> None:
        files.key.chmod(0o602)

    return locals()[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other_key", "tls.key: expected the key of the certificate in .*tls.crt, got that of another; replace both"),
        ("cut_short", "tls.crt: expected a certificate in PEM, got none; begin the file with the server's certificate"),
        ("empty_key", "tls.key: expected the certificate in .*tls.crt and its key, both in PEM, got files that"),
        ("absent", "tls.crt: expected a file, got nothing; correct server.tls.certificate or make the file"),
        ("expired", "tls.crt: expected a valid certificate, got one that expired on 20..-..-..; renew it"),
        ("encrypted", "tls.key: expected a key without encryption, got an encrypted one; name its server.tls.key_pass"),
        ("no_authority", "ca.crt: expected the certificate of an authority in PEM, got none; name the one that signs"),
        ("leaf_as_authority", "ca.crt: expected the certificate of an authority in PEM, got none; name the one"),
        ("writable", "tls.key: expected a file that not everyone can write, got mode 0602; chmod 600 it"),
    ],
)
def test_a_broken_renewal_leaves_the_old_certificate_in_use(
    tmp_path: Path, authority: Authority, server_pair: Pair, name: str, words: str
) -> None:
    client = authority.issue("client")

    async def scenario() -> None:
        files = Files(tmp_path, server_pair, authority.certificate)
        async with serving(files.tls) as port:
            broken(name)(files, authority)
            with pytest.raises(ConfigError, match=words):
                files.tls.load()
            _, writer, shown = await connected(port, trusting(authority, client))
            assert shown == serial(server_pair)
            writer.close()
        assert len(files.expiries) == 1

    run(scenario())


def test_at_the_start_an_expired_certificate_is_worth_a_warning(tmp_path: Path, authority: Authority) -> None:
    files = Files(tmp_path, authority.issue("expired", days=-1))
    [warning] = files.warnings
    assert "expected a valid certificate, got one that expired on 20" in warning


def test_an_encrypted_key_takes_its_password_from_a_file(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("encrypted", password="a pass phrase")

    async def scenario() -> None:
        files = Files(tmp_path, pair, password="a pass phrase")
        async with serving(files.tls) as port:
            assert await get(port, trusting(authority)) == 200

    run(scenario())
    with pytest.raises(ConfigError, match=r"expected a key that .*key_password_file decrypts") as caught:
        Files(tmp_path, pair, password="another phrase")
    assert "phrase" not in str(caught.value)


# --- files that change -----------------------------------------------------------------------------


def test_files_are_loaded_when_they_change_and_only_then(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    heard = []
    files = Files(tmp_path, server_pair)
    watch = Watch([files.tls], heard.append)
    watch.look()
    assert heard == []
    files.put(authority.issue("renewed"))
    watch.look()
    watch.look()
    assert heard == [()]
    assert len(files.expiries) == 2
    files.key.write_text("half of a key")
    watch.look()
    watch.look()
    assert len(heard) == 2
    assert "tls.key" in heard[1][0]
    files.put(server_pair)
    watch.look()
    assert heard[2:] == [()]


def test_a_mounted_secret_that_changes_by_its_links_is_seen(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """As Kubernetes does: tls.crt → ..data/tls.crt, and ..data → ..2026_1, which is exchanged."""
    heard = []
    for version, pair in (("..2026_1", server_pair), ("..2026_2", authority.issue("renewed"))):
        (tmp_path / version).mkdir()
        shutil.copy2(pair.certificate, tmp_path / version / "tls.crt")
        shutil.copy2(pair.key, tmp_path / version / "tls.key")
    data = tmp_path / "..data"
    data.symlink_to("..2026_1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    expiries = []
    tls = Tls(tmp_path / "tls.crt", tmp_path / "tls.key", None, None, expiries.append, print, print)
    watch = Watch([tls], heard.append)
    exchanged = tmp_path / "..tmp"
    exchanged.symlink_to("..2026_2")
    exchanged.rename(data)
    watch.look()
    assert heard == [()]
    assert len(expiries) == 2
