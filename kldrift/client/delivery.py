"""A bounded buffer of rows and the background thread that sends them."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from kldrift.client.encoding import Batch, encode_row
from kldrift.client.endpoint import Answer, Endpoint, Unreachable
from kldrift.client.notices import Notices

#: Size at which a batch is complete; the daemon accepts 64 MiB.
BATCH_BYTES = 1 << 20
#: Bytes of memory per byte of a line: 50 floats take 3.5 KB as a dict and 1.4 KB as a line.
_MEMORY_RATIO = 2.5
#: The thread pauses after encoding for this long; otherwise a server's thread that wants the interpreter lock waits
#: for the switch interval, 5 ms. (At 5,000 rows of 50 features per second on a busy machine, a thread that was to wake
#: every millisecond did so 3 to 11 ms late at p99; without the pauses, 15 to 18 ms.)
_ENCODE_SECONDS = 0.0002
_YIELD_SECONDS = 0.00005
#: Pauses between attempts: doubled each time, and randomly shortened by up to a half.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 30.0
_LONGEST_PAUSE_AT_CLOSE_SECONDS = 0.25


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how much is sent together."""

    batch_rows: int
    interval_seconds: float
    max_rows: int
    max_bytes: int


@dataclass
class Counts:
    """Numbers of rows, except for `invalid` (values) and `retries` (attempts)."""

    sent: int = 0
    rejected: int = 0
    failed: int = 0
    dropped: int = 0
    invalid: int = 0
    retries: int = 0


class Delivery:
    """The waiting rows and their thread.

    `log` reads `rows`, `room` and `bell` without taking a lock. The bell is a lock that is held while there is nothing
    to do: releasing it wakes the thread, never waits, and is safe in a signal handler.

    `room` is the number of rows that may wait. It is 0 before the thread runs and after the client was closed, so one
    comparison covers all three cases. It follows the size of the most recently encoded rows.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits, notices: Notices, compress: bool) -> None:
        self.rows: deque[Mapping[str, object]] = deque()
        self.room = 0
        self.bell = threading.Lock()
        self.bell.acquire()
        self.counts = Counts()
        self._endpoint, self._limits, self._notices, self._compress = endpoint, limits, notices, compress
        # Reentrant: a signal handler may call `log` inside a `log` that is just counting a dropped row.
        self._changed = threading.Condition(threading.RLock())
        self._in_hand = 0
        self._settled = 0
        self._flush_to = 0
        self._deadline = math.inf
        self._closing = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None

    # --- called by the threads that log --------------------------------------------------------------

    def start(self, row: Mapping[str, object]) -> bool:
        """Start the thread, with room for rows like the first one; False if it cannot run (any more)."""
        n_bytes = 2
        with suppress(Exception):  # not a row: `log` will notice
            n_bytes = len(encode_row(row)[0])
        with self._changed:
            if self._thread is None and not self._closing.is_set():
                thread = threading.Thread(target=self._run, name="kldrift-client", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is ending
                    self._notices.warn("thread", f"rows are dropped, because no thread can be started: {error}")
                    return False
                self._thread = thread
                self._make_room(n_bytes)
            return not self._closing.is_set()

    def ring(self) -> None:
        """Wake the thread."""
        with suppress(RuntimeError):  # another thread did
            self.bell.release()

    def drop(self, n_rows: int) -> None:
        """Count rows that found no room."""
        with self._changed:
            self.counts.dropped += n_rows
        why = "the client is closed" if self._closing.is_set() else f"{len(self.rows)} are already waiting to be sent"
        self._notices.warn("dropped", f"rows are dropped: {why}")

    def fail(self, n_rows: int, why: str) -> None:
        """Count rows that could not be put into the buffer."""
        with self._changed:
            self.counts.failed += n_rows
        self._notices.warn("failed", f"rows are lost: {why}")

    @property
    def pending(self) -> int:
        """Number of rows waiting or in flight."""
        with self._changed:
            return self._in_hand + len(self.rows)

    def flush(self, timeout: float) -> bool:
        """Send what was logged so far and wait until it is settled; False if that takes longer."""
        with self._changed:
            target = self._settled + self._in_hand + len(self.rows)
            self._flush_to = max(self._flush_to, target)
            self.ring()
            return self._changed.wait_for(lambda: self._settled >= target, timeout)

    def close(self, timeout: float) -> None:
        """Accept no more rows; `finish` must follow."""
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self.room = 0
            self._closing.set()
        self.ring()

    def finish(self) -> bool:
        """Wait until the deadline of `close`, then count unanswered rows as failed; True if there are none."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, self._deadline - time.monotonic()))
        with self._changed:
            left = self.pending
            self._over = True
            self.counts.failed += left
            self._settled += left
            self._in_hand = 0
            self.rows.clear()
            self._changed.notify_all()
        if left:
            self._notices.warn("closed", f"{left} rows had no answer when the client was closed; they may be lost")
        return left == 0

    def abandon(self) -> None:
        """Release what belongs to the parent, in the child after a fork."""
        self._endpoint.forget()

    # --- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                batch = self._next_batch()
                if batch is None or not self._deliver(batch):
                    break
            except Exception as error:  # noqa: BLE001  # the thread must not end with rows still to come
                self._notices.warn("error", f"rows are lost because of a bug in the client: {error!r}")
                self._settle(self._in_hand, failed=self._in_hand)
        self._endpoint.disconnect()

    def _next_batch(self) -> Batch | None:
        """Return the next rows to send; None once the client is closed and the buffer empty, or time is up."""
        limits = self._limits
        while True:
            self.bell.acquire(blocking=False)
            urgent = self._closing.is_set() or self._settled < self._flush_to
            if not urgent and len(self.rows) < limits.batch_rows:
                self.bell.acquire(timeout=limits.interval_seconds)
            with self._changed:
                if self._over:
                    return None
                rows = [self.rows.popleft() for _ in range(min(limits.batch_rows, len(self.rows)))]
                self._in_hand = len(rows)
            if rows:
                return self._encoded(rows)
            if self._closing.is_set():
                return None

    def _encoded(self, rows: list[Mapping[str, object]]) -> Batch:
        """Return a batch of the first rows, as many as fit into `BATCH_BYTES`; put the others back."""
        lines: list[bytes] = []
        n_bytes = n_invalid = 0
        since = time.perf_counter()
        for row in rows:
            line, problems = encode_row(row)
            lines.append(line)
            n_bytes += len(line)
            if problems:
                n_invalid += len(problems)
                self._notices.warn(
                    "invalid", f"expected a value that JSON can represent, got {problems[0]}; it counts as missing"
                )
            if n_bytes >= BATCH_BYTES:
                break
            if time.perf_counter() - since > _ENCODE_SECONDS:
                time.sleep(_YIELD_SECONDS)
                since = time.perf_counter()
        with self._changed:
            self.counts.invalid += n_invalid
            self.rows.extendleft(reversed(rows[len(lines) :]))
            self._in_hand = len(lines)
            self._make_room(n_bytes / len(lines))
        return Batch(lines)

    def _make_room(self, line_bytes: float) -> None:
        """Set the number of rows that may wait to as many as fit into `max_bytes` with lines of this size."""
        if not self._closing.is_set():
            fitting = int(self._limits.max_bytes / (line_bytes * _MEMORY_RATIO))
            self.room = max(1, min(self._limits.max_rows, fitting))

    def _deliver(self, batch: Batch) -> bool:
        """Send a batch until it is answered, in parts if it is too large; False if time runs out."""
        batches = [batch]
        while batches:
            batch = batches.pop()
            n_rows = len(batch.lines)
            answer = self._answered(batch)
            if answer is None:  # `finish` counts what is in hand
                return False
            if answer.meaning == "too_large" and n_rows > 1:
                batches += reversed(batch.halves())
            elif answer.meaning == "counted":
                self._settle(n_rows, sent=n_rows, rejected=answer.not_counted)
                if answer.detail:
                    self._notices.warn("rejected", f"rows or values were not counted: {answer.detail}")
            else:
                self._settle(n_rows, failed=n_rows)
                self._notices.warn("refused", f"rows are lost: the daemon answered {answer.detail}")
        return True

    def _answered(self, batch: Batch) -> Answer | None:
        """Return the final answer to a batch, after as many attempts as it takes; None at the deadline of `close`."""
        body = batch.body(self._compress)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0 or self._over:
                return None
            retry_after = None
            try:
                answer = self._endpoint.post(body, batch.key, left)
                if answer.meaning != "later":
                    return answer
                retry_after, reason = answer.retry_after, f"the daemon answered {answer.detail}"
            except Unreachable as problem:
                reason = f"no answer: {problem}"
            self._notices.warn("retry", f"{len(batch.lines)} rows will be sent again; {reason}")
            with self._changed:
                self.counts.retries += 1
            self._wait(pause * random.uniform(0.5, 1.0) if retry_after is None else retry_after, retry_after is None)  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _wait(self, seconds: float, may_shorten: bool) -> None:
        """Pause; after `close` for at most a quarter of a second, unless the daemon itself asked for longer."""
        end = time.monotonic() + seconds
        if may_shorten and self._closing.wait(seconds):
            end = min(end, time.monotonic() + _LONGEST_PAUSE_AT_CLOSE_SECONDS)
        if not may_shorten:
            self._closing.wait(seconds)
        time.sleep(max(0.0, min(end, self._deadline) - time.monotonic()))

    def _settle(self, n_rows: int, sent: int = 0, rejected: int = 0, failed: int = 0) -> None:
        """Count rows that were answered."""
        with self._changed:
            if self._over:  # `finish` counted them
                return
            self._in_hand -= n_rows
            self._settled += n_rows
            self.counts.sent += sent
            self.counts.rejected += rejected
            self.counts.failed += failed
            self._changed.notify_all()
