"""Rate-limited warnings."""

import logging
import time
from collections.abc import Callable

LOGGER = logging.getLogger("kldrift.client")
_EVERY_SECONDS = 60.0


class Notices:
    """Rate-limit warnings: at most one of each kind per minute, with a count of those suppressed."""

    def __init__(self, monitor: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._monitor = monitor
        self._clock = clock
        self._logged: dict[str, tuple[float, int]] = {}  # time of the last one, number suppressed since

    def warn(self, kind: str, message: str) -> None:
        """Log the message, unless one of its kind was logged within the last minute."""
        now = self._clock()
        last, suppressed = self._logged.get(kind, (-_EVERY_SECONDS, 0))
        if now - last < _EVERY_SECONDS:
            self._logged[kind] = (last, suppressed + 1)
            return
        self._logged[kind] = (now, 0)
        more = f" ({suppressed} more of this kind since the last warning)" if suppressed else ""
        LOGGER.warning("monitor %s: %s%s", self._monitor, message, more)
