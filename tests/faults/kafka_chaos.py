"""A broker that goes and comes back, a daemon that stands still, members that come and go: each record counted once.

What two daemons of a group count adds up to the topic, as each of them stops in order.
"""

import signal
import tempfile
import time
from pathlib import Path

from tests.e2e.processes import until
from tests.faults.crashing import CrashingDaemon
from tests.faults.kafka_kills import FEEDS, N_BINS, PARTITIONS, Writer, sources
from tests.kafka.broker import Broker, broker, jars

SETTLED_SECONDS = 120


def break_broker(kafka: Broker, seconds: float) -> None:
    """The broker is away for so long, and comes back over the same log."""
    kafka.stop()
    time.sleep(seconds)
    kafka.start()


def stand_still(daemon: CrashingDaemon, seconds: float) -> None:
    """The daemon does nothing for so long."""
    daemon.client.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    daemon.client.process.send_signal(signal.SIGCONT)


def come_and_go(daemon: CrashingDaemon, rounds: int, every: float) -> int:
    """A member joins and leaves in order; in how many rounds it counted something."""
    shared, before = 0, 0
    for _ in range(rounds):
        daemon.start()
        time.sleep(every)
        after = sum(daemon.counts())
        shared += after > before
        before = after
        daemon.stop()
        time.sleep(every)
    return shared


def seconds_behind(daemon: CrashingDaemon, writer: Writer) -> float:
    """How long it takes to count what is written now, and one more."""
    started, written = time.monotonic(), writer.written + 1
    until(lambda: sum(daemon.counts()) >= written, SETTLED_SECONDS, "what was written meanwhile counted")
    return time.monotonic() - started


def settled_counts(daemons: list[CrashingDaemon], total: int) -> list[int]:
    """Counts of the daemons together, once they add up to `total` and none is behind."""

    def added() -> list[int]:
        return [sum(counts) for counts in zip(*(daemon.counts() for daemon in daemons), strict=True)]

    until(lambda: sum(added()) >= total, SETTLED_SECONDS, f"{total} records counted")
    for daemon in daemons:
        until(lambda d=daemon: d.client.metric("kldrift_source_lag_records", source="s") == 0, what="lag of 0")  # type: ignore[misc]
    time.sleep(1.5)  # for what may be counted twice
    return added()


def run(
    outage: float,
    stopped: float,
    rounds: int,
    every: float,
    per_second: float,
    folder: Path,
    kafka: Broker,
    topic: str = "chaos",
) -> dict[str, float]:
    """One after another, while records come; what was seen. Raises AssertionError where a count is off by one."""
    kafka.create(topic, PARTITIONS)
    daemons = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        daemons.append(CrashingDaemon(folder / name, 0, sources(kafka, topic), FEEDS))
    first, second = daemons
    writer = Writer(kafka, topic, 1 << 60, per_second, 1)
    seen: dict[str, float] = {}
    try:
        first.start()
        writer.start()
        seconds_behind(first, writer)
        if outage:
            with writer.paused():
                break_broker(kafka, outage)
            seen["s behind after the outage"] = round(seconds_behind(first, writer), 1)
        if stopped:
            stand_still(first, stopped)
            seen["s behind after it stood still"] = round(seconds_behind(first, writer), 1)
        alone = sum(first.counts())
        seen["rounds in which both counted"] = come_and_go(second, rounds, every)
        second.start()
        before = sum(second.counts())
        until(lambda: sum(second.counts()) > before, what="a share of the second daemon")
        writer.stop()
        writer.check()
        counts = settled_counts(daemons, writer.written)
        seen |= {
            "records": writer.written,
            "before the second came": alone,
            "of the second": sum(second.counts()),
        }
    finally:
        writer.stop()
        for daemon in daemons:
            daemon.stop()
    assert counts[:N_BINS] == writer.expected, (counts, writer.expected)
    assert not any(counts[N_BINS:]), counts
    return seen


def main() -> None:
    """The full run."""
    missing = jars()
    assert missing is None, f"{missing} is not here"
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder) / "kafka") as kafka:
        started = time.monotonic()
        seen = run(60, 60, 30, 5, 10_000, Path(folder), kafka)
        print(f"each record counted exactly once: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
