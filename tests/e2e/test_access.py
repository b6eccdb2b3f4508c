"""The daemon behind TLS and credentials, as a process: who gets in, what a reload changes, what is never shown."""

import base64
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import bcrypt
import httpx
import pytest

from tests.conftest import absent
from tests.e2e.processes import KLDRIFT, free_port, kldrift, process, until
from tests.web.certificates import Authority

CONFIG = """\
server:
  listen: "127.0.0.1:{port}"
  tls: {{certificate: tls.crt, key: tls.key, key_password_file: tls.password{client_ca}}}
  auth: {{tokens_file: tokens, users_file: users}}
log: {{level: debug, format: {format}}}
engine: {{tick: 100ms}}
monitors:
  coins:
    windows: [5m]
    features:
      coin: {{kind: categorical, reference: {{probabilities: {{heads: 0.5, tails: 0.5}}}}}}
"""
INGEST, READ, ADMIN = "1ngest-5ecret-0123456789", "r3ad-5ecret-0123456789", "4dmin-5ecret-0123456789"
NEXT_READ = "n3xt-5ecret-0123456789"
PASSWORD, KEY_PASSWORD = "pa55-5ecret", "k3y-5ecret-pa55"
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
SAMPLES = "/v1/monitors/coins/samples"


class Site:
    """A folder with a configuration and its secrets."""

    def __init__(self, folder: Path, log_format: str = "logfmt", mutual: bool = False) -> None:
        self.folder, self.port = folder, free_port()
        self.authority = Authority(folder / "authority")
        self.use_certificate("server")
        client_ca = f", client_ca: {self.authority.certificate}" if mutual else ""
        self.config = folder / "kldrift.yaml"
        self.config.write_text(CONFIG.format(port=self.port, format=log_format, client_ca=client_ca))
        self.put("tls.password", f"{KEY_PASSWORD}\n")
        self.put("tokens", f"scorer ingest {INGEST}\nprometheus read {READ}\nops admin {ADMIN}\n")
        self.put("users", f"grafana:{HASHED}:read\n")
        self.log = folder / "log"

    def put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)

    def use_certificate(self, name: str) -> None:
        pair = self.authority.issue(name, password=KEY_PASSWORD)
        shutil.copy(pair.certificate, self.folder / "tls.crt")
        shutil.copy(pair.key, self.folder / "tls.key")

    def session(self, value: str | None = None) -> httpx.Client:
        """A client that keeps its connection."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        headers = {} if value is None else {"authorization": value}
        return httpx.Client(verify=context, base_url=f"https://127.0.0.1:{self.port}", headers=headers, timeout=20)

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The daemon, once it is ready."""
        with process(KLDRIFT, "run", "-c", str(self.config), log=self.log) as daemon, self.session() as probe:

            def ready() -> bool:
                assert daemon.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
                try:
                    return probe.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, 60, "ready")
            yield daemon


def bearer(token: str) -> str:
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_each_scope_and_what_is_counted(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.running(), site.session() as session:

        def ask(method: str, path: str, value: str | None) -> int:
            headers = {"content-type": "application/x-ndjson"}
            if value is not None:
                headers["authorization"] = value
            body = b'{"coin": "heads"}\n' if path == SAMPLES else None
            return session.request(method, path, headers=headers, content=body).status_code

        expected = {
            ("POST", SAMPLES): bearer(INGEST),
            ("GET", "/metrics"): bearer(READ),
            ("GET", "/api/v1/status"): basic("grafana", PASSWORD),
            ("POST", "/-/reload"): bearer(ADMIN),
        }
        for (method, path), value in expected.items():
            assert ask(method, path, value) == 200
            assert ask(method, path, None) == 401
            for other in set(expected.values()) - {value, bearer(READ), basic("grafana", PASSWORD)}:
                assert ask(method, path, other) == 403
        assert ask("GET", "/metrics", bearer(READ[::-1])) == 401
        assert ask("GET", "/metrics", basic("grafana", "wrong")) == 401
        assert ask("GET", "/metrics", "Digest x") == 401
        assert ask("GET", "/-/healthy", None) == 200
        metrics = session.get("/metrics", headers={"authorization": bearer(READ)}).text
    for reason, n in {"missing": 4, "token": 1, "password": 1, "malformed": 1, "scope": 6, "busy": 0}.items():
        assert f'kldrift_http_unauthorized_total{{reason="{reason}"}} {n}.0\n' in metrics
    assert "kldrift_tls_certificate_expiry_timestamp_seconds 1." in metrics
    assert 'kldrift_tls_handshake_failures_total{reason="plain_http"} 0.0\n' in metrics
    assert "kldrift_server_files_last_reload_successful 1.0\n" in metrics
    told = [line for line in site.log.read_text().splitlines() if 'msg="access denied"' in line]
    assert len(told) == 5  # one a reason, not one a request
    assert all("client=127.0.0.1" in line for line in told)


def test_a_sighup_takes_over_tokens_and_certificate_and_keeps_them_when_they_are_broken(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.running() as daemon, site.session(bearer(READ)) as old, site.session(bearer(ADMIN)) as admin:
        assert old.get("/metrics").status_code == 200
        site.use_certificate("renewed")
        site.put("tokens", f"prometheus read {NEXT_READ}\nops admin {ADMIN}\n")
        daemon.send_signal(signal.SIGHUP)
        until(lambda: old.get("/metrics").status_code == 401)  # the same connection, another token
        with site.session(bearer(NEXT_READ)) as new:
            assert new.get("/metrics").status_code == 200
            with ssl.create_default_context(cafile=site.authority.certificate).wrap_socket(
                socket.create_connection(("127.0.0.1", site.port)), server_hostname="127.0.0.1"
            ) as connection:
                shown = connection.getpeercert()
            assert shown is not None
            assert "renewed" in str(shown["subject"])
            site.put("tokens", "prometheus read\n")
            site.put("tls.key", "no key\n")
            answer = admin.post("/-/reload")
            assert answer.status_code == 500
            assert [problem.split(": ")[0].rsplit("/", 1)[1] for problem in answer.json()["problems"]] == [
                "tls.key",
                "tokens:1",
            ]
            assert new.get("/metrics").status_code == 200
            with site.session() as another:
                assert another.get("/-/healthy").status_code == 200


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_secret_is_in_anything_that_the_daemon_puts_out(tmp_path: Path, log_format: str) -> None:
    site = Site(tmp_path, log_format)
    said = []

    def hear(answer: httpx.Response) -> None:
        said.append(answer.text + str(answer.headers))

    with site.running(), site.session() as session:
        values = [bearer(READ), bearer(INGEST), bearer(ADMIN), basic("grafana", PASSWORD), basic(PASSWORD, PASSWORD)]
        values += [f"Token {READ}", READ, f"Bearer {READ}{INGEST}", f"Basic {READ}", f"{bearer(READ)}, {bearer(ADMIN)}"]
        paths = ["/", "/metrics", "/api/v1/status", "/api/v1/monitors", "/api/v1/monitors/coins", "/nothing", SAMPLES]
        for value in values:
            for path in paths:
                hear(session.get(path, headers={"authorization": value}))
            hear(session.post(SAMPLES, headers={"authorization": value}, content=b"x"))
            hear(session.post("/-/reload", headers={"authorization": value}))
        site.put("tokens", f"{READ}\n{ADMIN} read {INGEST} x\nread {ADMIN} {READ}\n")
        site.put("users", f"{PASSWORD}\ngrafana:{PASSWORD}:read\nread:{HASHED}\n")
        hear(session.post("/-/reload", headers={"authorization": bearer(ADMIN)}))
        done = kldrift("check", "-c", str(site.config))
        assert done.returncode == 2
        said += [done.stdout, done.stderr]
        site.put("tokens", f"prometheus read {READ}\n")
        site.put("users", f"grafana:{HASHED}:read\n")
        done = kldrift("check", "-c", str(site.config))
        assert done.returncode == 0
        assert "lets in: TLS; tokens: 1, users: 1" in done.stdout
        said += [done.stdout, done.stderr]
    said.append(site.log.read_text())
    everything = "\n".join(said)
    assert "access denied" in everything
    digests = [sha256(token.encode()).hexdigest() for token in (INGEST, READ, ADMIN)]
    encoded = base64.b64encode(f"grafana:{PASSWORD}".encode()).decode()
    for secret in ("5ecret", HASHED, encoded, *digests, "PRIVATE KEY"):
        assert secret not in everything


@pytest.mark.parametrize("command", ["run", "check"])
def test_files_that_cannot_be_used_end_the_command_with_every_problem(tmp_path: Path, command: str) -> None:
    site = Site(tmp_path)
    site.put("tokens", f"prometheus {READ}\n")
    (tmp_path / "users").unlink()
    site.put("tls.password", "wrong\n")
    done = kldrift(command, "-c", str(site.config))
    assert done.returncode == 2
    for words in (
        "tls.key: expected a key that server.tls.key_password_file decrypts, got another; correct the password",
        "tokens:1: expected NAME SCOPES TOKEN, got 2 words",
        "users: expected a file, got nothing; correct server.auth.users_file or make the file",
    ):
        assert words in done.stderr


@pytest.mark.parametrize("by", ["authorization: {type: Bearer, credentials_file: token}", "basic_auth"])
def test_prometheus_scrapes_with_credentials_over_mutual_tls(tmp_path: Path, by: str) -> None:
    if shutil.which("prometheus") is None:
        absent("prometheus")
    site = Site(tmp_path, mutual=True)
    pair = site.authority.issue("prometheus")
    site.put("token", READ)
    site.put("password", PASSWORD)
    if by == "basic_auth":
        by = "basic_auth: {username: grafana, password_file: password}"
    (tmp_path / "prometheus.yml").write_text(
        f"""\
scrape_configs:
  - job_name: kldrift
    scheme: https
    scrape_interval: 1s
    tls_config: {{ca_file: {site.authority.certificate}, cert_file: {pair.certificate}, key_file: {pair.key}}}
    {by}
    static_configs: [{{targets: ["127.0.0.1:{site.port}"]}}]
"""
    )
    port = free_port()
    prometheus = (
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
    )

    def scraped() -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": "kldrift_build_info"})
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and bool(answer.json()["data"]["result"])  # 503 while it starts

    with (
        process(KLDRIFT, "run", "-c", str(site.config), log=site.log),
        process(*prometheus, log=tmp_path / "prometheus.log"),
    ):
        until(scraped, 60, "a scrape")
    assert "access denied" not in site.log.read_text()
