"""The client against the daemon itself: what is counted across kills and restarts; TLS and credentials; bad values."""

import os
import random
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bcrypt
import numpy as np
import pytest

from kldrift.client import Client
from kldrift.client.endpoint import Credentials
from tests.e2e import processes
from tests.e2e.processes import daemon, free_port, until
from tests.web.certificates import Authority

pytestmark = pytest.mark.slow

CONFIG = """\
server:
  listen: "127.0.0.1:{port}"
{server}
state: {{path: state.db}}
engine: {{tick: 100ms}}
monitors:
  loans:
    windows: [1h]
    features:
      size: {{kind: numeric, reference: {{edges: [0, 1, 2, 4], counts: [500, 300, 200]}}}}
      country: {{kind: categorical, reference: {{counts: {{DE: 50, FR: 50}}}}}}
      latent: {{kind: vector, dimensions: 2, reference: {{family: normal, mean: 0, std: 1}}}}
"""


def written(folder: Path, port: int, server: str = "") -> Path:
    path = folder / "kldrift.yaml"
    path.write_text(CONFIG.format(port=port, server=server))
    return path


def counts(served: processes.Client, feature: str) -> list[int]:
    found: list[int] = served.json(f"/api/v1/monitors/loans/features/{feature}?window=1h")["live_counts"]
    return found


def test_every_kind_of_value_is_counted_as_what_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    rows: list[dict[str, Any]] = [
        {"size": 0.5, "country": "DE", "latent": [0.1, 0.2]},
        {"size": np.float32(1.5), "country": np.str_("FR"), "latent": np.array([0.1, 0.2], dtype=np.float32)},
        {"size": np.int64(3), "country": None, "latent": (1, 2)},
        {"size": float("nan"), "country": "IT", "latent": None},
        {"size": float("inf"), "country": object()},
        {"size": "3", "country": float("nan"), "latent": [1]},
        {},
    ]
    with daemon(written(tmp_path, port), port, tmp_path / "log") as served:
        with Client(monitor="loans", url=served.url) as client:
            for row in rows:
                client.log(row)
            assert client.flush()
            assert (client.sent, client.rejected, client.invalid, client.failed) == (7, 1, 1, 0)  # {} is no sample
        assert "'country': object" in caplog.text
        assert '"feature":"latent"' in caplog.text
        assert served.metric("kldrift_values_invalid_total", feature="latent") == 1
        assert served.metric("kldrift_values_invalid_total", feature="size") == 1
        assert served.metric("kldrift_values_invalid_total", feature="country") == 0
        assert served.metric("kldrift_samples_counted_total", monitor="loans") == 6
        until(lambda: sum(counts(served, "size")) == 6)
        assert counts(served, "size")[-2:] == [1, 1]  # NaN; text


def test_each_row_is_counted_once_while_the_daemon_is_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    config = written(tmp_path, port)
    rng = random.Random(1)
    expected: Counter[str] = Counter()
    url = f"http://127.0.0.1:{port}"
    clients = [Client(monitor="loans", url=url, batch_rows=20, compress=compress) for compress in (False, True)]

    def log(n: int) -> None:
        for _ in range(n):
            for client in clients:
                country = rng.choice(["DE", "FR", "IT"])
                expected[country] += 1
                client.log({"size": 0.5, "country": country})

    def sent() -> int:
        return sum(client.sent for client in clients)

    log(100)  # before the daemon starts
    for _ in range(3):
        with processes.process(processes.KLDRIFT, "run", "-c", str(config), log=tmp_path / "log") as running:
            before = sent()
            until(lambda before=before: sent() > before, 60, "the daemon took rows")
            end = time.monotonic() + rng.uniform(0.2, 0.6)
            while time.monotonic() < end:
                log(10)
                time.sleep(0.001)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
        log(100)
    with daemon(config, port, tmp_path / "log") as served:
        for client in clients:
            assert client.flush(60)
            assert (client.sent, client.failed, client.dropped) == (expected.total() // 2, 0, 0)
            assert client.retries > 0
            client.close()
        until(lambda: sum(counts(served, "country")) == expected.total(), 10, "every row in the window")
        answer = served.json("/api/v1/monitors/loans/features/country?window=1h")
        assert answer["live_counts"][:2] == [expected["DE"], expected["FR"]], answer


def test_tls_tokens_and_passwords_and_what_is_logged_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path / "authority")
    server, own = authority.issue("server"), authority.issue("own")
    token, password = "1ngest-5ecret-0123456789", "pa55-5ecret"
    secrets = {
        "tokens": f"scorer ingest {token}\n",
        "users": f"scorer:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}:ingest\n",
        "token": f"{token}\n",
        "password": f"{password}\n",
    }
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    port = free_port()
    config = written(
        tmp_path,
        port,
        f"  tls: {{certificate: {server.certificate}, key: {server.key}, client_ca: {authority.certificate}}}\n"
        "  auth: {tokens_file: tokens, users_file: users}",
    )
    url = f"https://127.0.0.1:{port}"
    tls = {"ca_file": authority.certificate, "certificate": own.certificate, "key": own.key}
    ways: list[dict[str, Any]] = [
        {"token": token},
        {"token_file": tmp_path / "token"},
        {"username": "scorer", "password": password},
        {"username": "scorer", "password_file": tmp_path / "password"},
    ]
    with processes.process(processes.KLDRIFT, "run", "-c", str(config), log=tmp_path / "log"):
        for way in ways:
            with Client(monitor="loans", url=url, **tls, **way) as client:
                client.log({"size": 1})
                assert client.flush(60), caplog.text
                assert client.sent == 1
        monkeypatch.setenv("KLDRIFT_TOKEN", token)
        with Client(monitor="loans", url=url, **tls) as client:
            client.log({"size": 1})
            assert client.flush(10)
        monkeypatch.delenv("KLDRIFT_TOKEN")
        caplog.clear()
        # the token is rotated: rows that waited in the meantime are counted
        (tmp_path / "token").write_text("n0t-a-5ecret-0123456789")
        with Client(monitor="loans", url=url, **tls, token_file=tmp_path / "token") as client:
            client.log({"size": 1})
            assert not client.flush(0.5)
            assert "401" in caplog.text
            (tmp_path / "token").write_text(token)
            assert client.flush(10)
        client = Client(monitor="loans", url=url, token=token)  # an unknown authority
        client.log({"size": 1})
        assert not client.flush(0.5)
        assert not client.close(0)
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert token not in caplog.text
    assert password not in caplog.text
    assert token not in repr(Credentials(token=token))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"url": "127.0.0.1:9867"}, "url like"),
    ({"url": "ftp://x"}, "url like"),
    ({"url": "http://x:70000"}, "url like"),
    ({"url": "http://user:secret@x"}, "username"),
    ({"url": 3}, "url like"),
    ({"monitor": ""}, "monitor's name"),
    ({"token": "a\nb"}, "printable"),
    ({"token": "x", "username": "u", "password": "p"}, "both"),
    ({"username": "u"}, "together"),
    ({"token_file": "absent"}, "token_file"),
    ({"url": "https://x", "ca_file": "absent"}, "absent"),
    ({"url": "https://x", "ca_file": "/dev/null"}, "PEM"),
    ({"url": "https://x", "key": "k"}, "certificate"),
    ({"ca_file": ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"}, "https"),
    ({"batch_rows": 0}, "batch_rows"),
    ({"interval_seconds": -1}, "interval_seconds"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_settings_that_cannot_work_are_refused_at_once_with_a_remedy(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Client(**{"monitor": "loans", **settings})
    assert "secret" not in str(caught.value)


def test_the_example_in_the_docstring_works_as_printed(tmp_path: Path) -> None:
    import kldrift.client

    lines = [line[4:] for line in (kldrift.client.__doc__ or "").splitlines() if line.startswith("    ")]
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as served:
        code = "\n".join(lines).replace("http://127.0.0.1:9867", served.url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert served.metric("kldrift_samples_counted_total", monitor="loans") == 1
