"""What a service manager is told: ready, reloading, stopping, and that divergences are still computed.

The protocol is sd_notify(3): lines of NAME=VALUE in a datagram. Without `NOTIFY_SOCKET` nobody asks; nothing is sent.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

#: The manager's socket takes a message at once, unless the manager is stuck; the event loop does not wait longer.
SEND_SECONDS = 1.0

#: Systemd drops a datagram of more than 4096 bytes whole, whatever else it says.
STATUS_LENGTH = 500

#: The watchdog is pinged so many times within its period.
PINGS_PER_PERIOD = 4


class Notifier:
    """Tells the service manager how the daemon is.

    Parameters
    ----------
    environment : `NOTIFY_SOCKET`, a path or @NAME in the abstract namespace; `WATCHDOG_USEC`, and `WATCHDOG_PID` where
        it is meant for one process only
    warn : told, once, why something could not be sent
    """

    def __init__(self, environment: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._warn: Callable[[str], None] | None = warn
        if self._address and self._address[0] not in "/@":
            self._fail(f"expected /PATH or @NAME in NOTIFY_SOCKET, got {self._address!r}")
            self._address = ""
        self.watchdog_seconds = self._period(environment) if self._address else None

    def _period(self, environment: Mapping[str, str]) -> float | None:
        period, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if not period or process not in ("", str(os.getpid())):
            return None
        if period.isascii() and period.isdigit() and int(period) > 0:
            return int(period) / 1e6
        self._fail(f"expected microseconds in WATCHDOG_USEC, got {period!r}; the watchdog is not pinged")
        return None

    def starting(self, status: str) -> None:
        """Nothing is taken yet, and why."""
        self._send(_status(status))

    def ready(self, status: str) -> None:
        """Started, or done with a reload, whether or not it succeeded; `status` is one line for `systemctl status`."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        since = time.monotonic_ns() // 1000  # on Linux that is CLOCK_MONOTONIC, which the manager compares with
        self._send("RELOADING=1", f"MONOTONIC_USEC={since}", _status("loading the configuration again"))

    def stopping(self) -> None:
        """The daemon stops by itself or was told to."""
        self._send("STOPPING=1", _status("stopping: what was taken is counted and stored"))

    async def watch(self, latest: Callable[[], object], tick_seconds: Callable[[], float]) -> None:
        """Ping the watchdog as long as evaluations come, until cancelled.

        `latest` gives the last evaluation. It is fresh when another one came within three ticks, or one period of the
        watchdog where that is longer; its age is that since it was first seen, so that a clock that is set does not
        matter. The pings end also when the event loop, in which this runs, hangs.
        """
        period = self.watchdog_seconds
        if period is None:
            return
        seen, since = latest(), time.monotonic()
        while True:
            now, evaluation = time.monotonic(), latest()
            if evaluation is not seen:
                seen, since = evaluation, now
            allowed = max(3 * tick_seconds(), period)
            if now - since <= allowed:
                self._send("WATCHDOG=1")
            else:
                age = f"{now - since:.1f} s old, expected {allowed:.1f} at most"
                self._send(_status(f"hung: the last evaluation is {age}"))
            await asyncio.sleep(period / PINGS_PER_PERIOD)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.connect(address)
                sender.send("\n".join(lines).encode())
        except OSError as error:
            self._fail(f"the service manager cannot be told {lines[0]}: {error} (NOTIFY_SOCKET {self._address!r})")

    def _fail(self, problem: str) -> None:
        if self._warn is not None:
            self._warn(problem)
            self._warn = None


def _status(text: str) -> str:
    """One line of bounded length: a configuration with many problems has many words."""
    line = " ".join(text.split())
    return f"STATUS={line if len(line) <= STATUS_LENGTH else f'{line[:STATUS_LENGTH]}…'}"
