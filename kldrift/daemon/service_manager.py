"""Notify the service manager: ready, reloading, stopping, and that divergences are still being computed.

The protocol is sd_notify(3): NAME=VALUE lines in a datagram. Without `NOTIFY_SOCKET`, nothing is sent.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

#: The manager's socket accepts a message at once unless the manager is stuck; the event loop waits no longer than this.
SEND_SECONDS = 1.0

#: systemd drops a datagram of more than 4096 bytes altogether.
STATUS_LENGTH = 500

#: Watchdog pings per period.
PINGS_PER_PERIOD = 4


class Notifier:
    """Notifies the service manager of the daemon's state.

    Parameters
    ----------
    environment : `NOTIFY_SOCKET`, a path or @NAME in the abstract namespace; `WATCHDOG_USEC`, and `WATCHDOG_PID` where
        it is meant for one process only
    warn : called once, with the reason why something could not be sent
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
        self._fail(f"expected microseconds in WATCHDOG_USEC, got {period!r}; the watchdog will not be pinged")
        return None

    def starting(self, status: str) -> None:
        """Report that no samples are accepted yet, and why."""
        self._send(_status(status))

    def ready(self, status: str) -> None:
        """Report that starting or a reload is over, successful or not. `status` is the line in `systemctl status`."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Report the beginning of a reload; `ready` ends it."""
        since = time.monotonic_ns() // 1000  # on Linux this is CLOCK_MONOTONIC, which the manager compares it with
        self._send("RELOADING=1", f"MONOTONIC_USEC={since}", _status("reloading the configuration"))

    def stopping(self) -> None:
        """Report that the daemon is stopping, by itself or on request."""
        self._send("STOPPING=1", _status("stopping: accepted samples are counted and stored"))

    async def watch(self, latest: Callable[[], object], tick_seconds: Callable[[], float]) -> None:
        """Ping the watchdog while there are new evaluations, until cancelled.

        `latest` returns the last evaluation. Pings continue while a new one appears within three ticks, or within one
        watchdog period if that is longer. Age is measured from when an evaluation was first seen, so that setting the
        clock does not matter. Pings also stop if the event loop, in which this runs, hangs.
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
            self._fail(f"could not notify the service manager of {lines[0]}: {error} (NOTIFY_SOCKET {self._address!r})")

    def _fail(self, problem: str) -> None:
        if self._warn is not None:
            self._warn(problem)
            self._warn = None


def _status(text: str) -> str:
    """Return one line of bounded length; a configuration with many problems produces a long text."""
    line = " ".join(text.split())
    return f"STATUS={line if len(line) <= STATUS_LENGTH else f'{line[:STATUS_LENGTH]}…'}"
