"""The time that the daemon goes by: the wall clock, but not where that jumps.

A wall clock that is set ahead by days and back again would empty every window on its way. So a jump against the
monotonic clock is told and not followed, until the wall clock has stayed with it for `SETTLED_MS`: then it was put
right, as NTP does after a machine was restored. Smaller steps are followed at once.
"""

import threading
import time
from collections.abc import Callable

from kldrift.engine.observing import now_ms

#: The wall clock jumps if it moves against the monotonic one by more than this.
JUMP_MS = 60_000
#: How long it must stay after a jump until it is followed.
SETTLED_MS = 300_000
#: Rows with times of their own may be as far ahead as the wall clock after a jump that is no longer than this, because
#: a machine that was suspended has such rows to catch up with.
MAX_AHEAD_MS = 24 * 3_600_000


def elapsed_ms() -> int:
    """A clock that is never set, and goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


class Clock:
    """The time, in ms since 1970; called by any thread, at least once per tick.

    Parameters
    ----------
    on_jump : called with how far (ms) the wall clock is ahead of the time that is gone by, and whether that is followed
    """

    def __init__(
        self,
        on_jump: Callable[[int, bool], None],
        wall_ms: Callable[[], int] = now_ms,
        elapsed: Callable[[], int] = elapsed_ms,
    ) -> None:
        self._on_jump = on_jump
        self._wall_ms = wall_ms
        self._elapsed_ms = elapsed
        self._lock = threading.Lock()
        self._offset = self._jumped = wall_ms() - elapsed()
        self._since = 0  # when (elapsed) the wall clock jumped to where it is

    def __call__(self) -> int:
        """Return the time."""
        with self._lock:
            elapsed = self._elapsed_ms()
            offset = self._wall_ms() - elapsed
            if abs(offset - self._offset) <= JUMP_MS:
                if self._jumped != self._offset:
                    self._on_jump(0, True)
                self._offset = self._jumped = offset
            elif abs(offset - self._jumped) > JUMP_MS:
                self._jumped, self._since = offset, elapsed
                self._on_jump(offset - self._offset, False)
            elif elapsed - self._since >= SETTLED_MS:
                self._on_jump(offset - self._offset, True)
                self._offset = self._jumped = offset
            return elapsed + self._offset

    @property
    def ahead_ms(self) -> int:
        """How far rows with times of their own may be ahead of the time, because the wall clock is."""
        with self._lock:
            ahead = self._jumped - self._offset
        return ahead if 0 < ahead <= MAX_AHEAD_MS else 0
