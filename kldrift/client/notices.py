"""Warnings that do not fill the log."""

import logging
import time
from collections.abc import Callable

LOGGER = logging.getLogger("kldrift.client")
_EVERY_SECONDS = 60.0


class Notices:
    """Warnings of a kind at most once a minute, with how many were not said meanwhile."""

    def __init__(self, monitor: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._monitor = monitor
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def warn(self, kind: str, message: str) -> None:
        """Log it, unless that kind was said within the last minute."""
        now = self._clock()
        last, unsaid = self._said.get(kind, (-_EVERY_SECONDS, 0))
        if now - last < _EVERY_SECONDS:
            self._said[kind] = (last, unsaid + 1)
            return
        self._said[kind] = (now, 0)
        more = f" ({unsaid} more like it since the last warning)" if unsaid else ""
        LOGGER.warning("monitor %s: %s%s", self._monitor, message, more)
