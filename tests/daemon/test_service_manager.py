"""What a service manager is told, over a real datagram socket, by the notifier and by the daemon as a process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from kldrift.daemon.service_manager import PINGS_PER_PERIOD, Notifier
from tests.e2e.processes import KLDRIFT, free_port, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
engine: {{tick: 100ms}}
monitors:
  coins:
    features:
      coin: {{kind: categorical, reference: {{counts: {{heads: 500, tails: 500}}}}}}
"""

#: The daemon, whose engine hangs in an evaluation as soon as there is a file of that name.
HANGS = """\
import sys, threading
from pathlib import Path
from kldrift.cli import main
from kldrift.engine.engine import Engine

evaluate, file = Engine.evaluate, Path(sys.argv.pop())

def evaluate_or_hang(self):
    if file.exists():
        threading.Event().wait()
    evaluate(self)

Engine.evaluate = evaluate_or_hang
main()
"""


class Manager:
    """The receiving side: what systemd has."""

    def __init__(self, address: str) -> None:
        self.environment = address.replace("\0", "@")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(30)
        self.said: list[dict[str, str]] = []

    def next(self) -> dict[str, str]:
        message = self._socket.recv(4096).decode()
        self.said.append(dict(line.split("=", 1) for line in message.split("\n")))
        return self.said[-1]

    def until(self, name: str) -> dict[str, str]:
        """The next message with this name."""
        while name not in (message := self.next()):
            pass
        return message

    def pings_within(self, seconds: float) -> int:
        end, pings = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                pings += "WATCHDOG" in self.next()
            except TimeoutError:
                break
        self._socket.settimeout(30)
        return pings

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"\0kldrift-test-{os.getpid()}-{id(request)}"
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "kldrift.yaml"
    path.write_text(CONFIG.format(port=free_port()))
    return path


@contextmanager
def started(
    command: list[str], manager: Manager, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            env={**os.environ, "NOTIFY_SOCKET": manager.environment, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


# --- the notifier --------------------------------------------------------------------------------


def test_each_state_is_one_datagram(manager: Manager, warnings: list[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environment}, warnings.append)
    notifier.starting("kernels are being prepared")
    notifier.ready("monitors: 2")
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping()
    assert manager.next() == {"STATUS": "kernels are being prepared"}
    assert manager.next() == {"READY": "1", "STATUS": "monitors: 2"}
    reloading = manager.next()
    # systemd compares it with its own CLOCK_MONOTONIC to tell this reload's READY from an earlier one
    assert before <= int(reloading.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert reloading == {"RELOADING": "1", "STATUS": "reloading the configuration"}
    assert manager.next() == {"STOPPING": "1", "STATUS": "stopping: accepted samples are counted and stored"}
    assert not warnings


def test_a_status_is_one_line_that_fits_into_what_systemd_takes(manager: Manager, warnings: list[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environment}, warnings.append)
    notifier.ready("line 1: expected a number\nREADY=0\n" + "€" * 10_000)
    message = manager.next()
    assert message.keys() == {"READY", "STATUS"}
    assert message["STATUS"].startswith("line 1: expected a number READY=0 €€€")
    assert message["STATUS"].endswith("€…")
    assert len(message["STATUS"].encode()) < 2000


def test_nothing_is_sent_or_said_where_no_manager_asks(warnings: list[str]) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000"}, warnings.append)
    notifier.ready("ready")
    assert notifier.watchdog_seconds is None
    asyncio.run(asyncio.wait_for(notifier.watch(object, lambda: 1.0), 5))  # there is nothing to watch for: it returns
    assert not warnings


def test_a_socket_that_is_gone_is_warned_of_once(tmp_path: Path, warnings: list[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, warnings.append)
    notifier.ready("ready")
    notifier.stopping()
    [warning] = warnings
    assert warning.startswith("could not notify the service manager of READY=1: [Errno 2] No such file or directory")
    assert warning.endswith(f"(NOTIFY_SOCKET '{tmp_path / 'gone'}')")


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative/path", "7"])
def test_an_address_of_another_kind_is_warned_of(address: str, warnings: list[str]) -> None:
    Notifier({"NOTIFY_SOCKET": address}, warnings.append).ready("ready")
    assert warnings == [f"expected /PATH or @NAME in NOTIFY_SOCKET, got {address!r}"]


@pytest.mark.parametrize(
    ("environment", "seconds", "warned"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0, []),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0, []),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, []),  # another process is to ping
        ({}, None, []),
        *(
            (
                {"WATCHDOG_USEC": bad},
                None,
                [f"expected microseconds in WATCHDOG_USEC, got {bad!r}; the watchdog will not be pinged"],
            )
            for bad in ("0", "-1", "30s", "1e6", "²")
        ),
    ],
)
def test_the_period_of_the_watchdog(
    environment: dict[str, str], seconds: float | None, warned: list[str], warnings: list[str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/nowhere", **environment}, warnings.append)
    assert notifier.watchdog_seconds == seconds
    assert warnings == warned


def test_pings_go_on_with_fresh_evaluations_and_end_with_stale_ones(manager: Manager, warnings: list[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environment, "WATCHDOG_USEC": "400000"}, warnings.append)
    evaluations = [object()]

    async def scenario() -> None:
        watching = asyncio.ensure_future(notifier.watch(lambda: evaluations[0], lambda: 0.05))
        try:
            for _ in range(8):  # twice the age that is allowed
                await asyncio.sleep(0.1)
                evaluations[0] = object()
            said = [await asyncio.to_thread(manager.next) for _ in range(8)]
            assert said == [{"WATCHDOG": "1"}] * 8
            hung = await asyncio.to_thread(manager.until, "STATUS")
            assert hung["STATUS"].startswith("hung: the last evaluation is 0.")
            assert hung["STATUS"].endswith("expected 0.4 at most")
            assert not await asyncio.to_thread(manager.pings_within, 0.5)
            evaluations[0] = object()  # it was slow, not dead
            await asyncio.to_thread(manager.until, "WATCHDOG")
        finally:
            watching.cancel()

    asyncio.run(scenario())
    assert not warnings


def test_a_long_tick_is_not_taken_for_a_hang(manager: Manager, warnings: list[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environment, "WATCHDOG_USEC": "100000"}, warnings.append)
    evaluation = object()

    async def scenario() -> int:
        watching = asyncio.ensure_future(notifier.watch(lambda: evaluation, lambda: 3600.0))
        try:
            return await asyncio.to_thread(manager.pings_within, 0.6)
        finally:
            watching.cancel()

    assert asyncio.run(scenario()) > PINGS_PER_PERIOD
    assert all(message == {"WATCHDOG": "1"} for message in manager.said)


# --- the daemon as a process ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_daemon_tells_of_its_life(manager: Manager, config: Path, tmp_path: Path) -> None:
    with started([KLDRIFT, "run", "-c", str(config)], manager, {}, tmp_path / "log") as running:
        assert manager.next()["STATUS"].startswith("starting: compiling kernels")
        ready = manager.next()
        assert ready["READY"] == "1"
        assert ready["STATUS"].endswith("; monitors: 1, sources: 0")

        good = config.read_text()
        running.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC" in manager.until("RELOADING")
        assert manager.next() == ready

        config.write_text(good.replace("categorical", "catgorical"))
        running.send_signal(signal.SIGHUP)
        assert "RELOADING" in manager.next()
        refused = manager.next()
        assert refused["READY"] == "1"
        assert f"; new configuration rejected, the old one stays in use: {config}:6: " in refused["STATUS"]

        running.terminate()
        assert manager.next()["STOPPING"] == "1"
        assert running.wait(15) == 0
    assert not any("WATCHDOG" in message for message in manager.said)


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_daemon_without_its_reference_is_never_ready(manager: Manager, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("{counts: {heads: 500, tails: 500}}", "{data: gone.parquet}"))
    with started([KLDRIFT, "run", "-c", str(config)], manager, {}, tmp_path / "log") as running:
        manager.until("STOPPING")
        assert running.wait(15) == 2
    assert not any("READY" in message for message in manager.said)


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["abstract"], indirect=True)
def test_the_pings_of_a_daemon_end_when_its_engine_hangs(manager: Manager, config: Path, tmp_path: Path) -> None:
    hang, script = tmp_path / "hang", tmp_path / "hangs.py"
    script.write_text(HANGS)
    command = [sys.executable, str(script), "run", "-c", str(config), str(hang)]
    with started(command, manager, {"WATCHDOG_USEC": "1000000"}, tmp_path / "log") as running:
        manager.until("READY")
        assert manager.pings_within(2.5) >= 5  # well beyond the age that is allowed, one second
        hang.touch()
        status = manager.until("STATUS")["STATUS"]
        assert status.startswith("hung: the last evaluation is 1.")
        assert not manager.pings_within(1.5)  # longer than the period: here systemd would have ended it
        assert running.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_the_pings_of_a_stopped_process_end(manager: Manager, config: Path, tmp_path: Path) -> None:
    command = [KLDRIFT, "run", "-c", str(config)]
    with started(command, manager, {"WATCHDOG_USEC": "400000"}, tmp_path / "log") as running:
        manager.until("WATCHDOG")
        running.send_signal(signal.SIGSTOP)
        until(lambda: not manager.pings_within(0.5), 5, "silence")
        running.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG")
