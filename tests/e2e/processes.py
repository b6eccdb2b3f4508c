"""The installed command as a process, as a user starts it; stopped by its own process id."""

import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KLDRIFT = str(Path(sys.executable).with_name("kldrift"))


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_steps = itertools.count(random.SystemRandom().randrange(5_000))


def free_port() -> int:
    """A port on loopback that nobody uses.

    Each of the workers that run tests side by side has a range of its own, below the ports that the kernel hands to
    clients (32768 on), so that nobody takes the port before the process that will listen on it has started.
    """
    while True:
        port = 10_000 + _WORKER % 4 * 5_000 + next(_steps) % 5_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], object], seconds: float = 30, what: str = "the condition") -> Any:
    """Poll; the condition's first true value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds} s")


@contextmanager
def process(*command: str, log: Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to `log`; at the end it is asked to stop, and has to."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd, start_new_session=True
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                raise AssertionError(f"{command[0]} did not stop on SIGTERM:\n{log.read_text()}") from None


class Client:
    """A daemon's HTTP side."""

    def __init__(self, port: int, running: subprocess.Popen[bytes], log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.process = running
        self.log = log

    def request(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, body, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        code, body = self.request(path)
        assert code == 200, body
        return json.loads(body)

    def post(self, monitor: str, body: bytes, media: str = "application/x-ndjson") -> Any:
        code, answer = self.request(f"/v1/monitors/{monitor}/samples", body, {"Content-Type": media})
        assert code == 200, answer
        return json.loads(answer)

    def metrics(self) -> dict[str, float]:
        """Series by their text, `name{labels}`."""
        code, body = self.request("/metrics")
        assert code == 200
        found = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        """The one series of this name with these labels."""
        for text, value in self.metrics().items():
            if re.match(rf"{name}(\{{|$)", text) and all(f'{k}="{v}"' in text for k, v in labels.items()):
                return value
        return None


@contextmanager
def daemon(config: Path, port: int, log: Path) -> Iterator[Client]:
    """``kldrift run`` with a configuration that listens on `port`, once it is ready."""
    with process(KLDRIFT, "run", "-c", str(config), log=log) as running:
        client = Client(port, running, log)

        def ready() -> bool:
            assert running.poll() is None, f"the daemon ended:\n{log.read_text()}"
            try:
                return client.request("/-/ready")[0] == 200
            except OSError:
                return False

        until(ready, 60, "ready")
        yield client


def kldrift(*arguments: str, cwd: Path | None = None, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    done = subprocess.run(
        [KLDRIFT, *arguments], input=stdin, capture_output=True, cwd=cwd, timeout=120, env=os.environ, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
