"""Errors of the disk while the daemon starts: it says what is wrong in one line, ends with 1, and spoils nothing."""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import KLDRIFT
from tests.faults.crashing import CrashingDaemon
from tests.faults.http_kills import body_of
from tests.faults.injection import injecting


@dataclass(frozen=True, slots=True)
class BadStart:
    """A fault that is there when the daemon starts, and what it has to say before it ends."""

    name: str
    file: str
    calls: str
    error: str
    says: str
    is_new: bool = False


BAD_STARTS = (
    BadStart("read-only folder", ".lock", "openat", "error=EROFS", "expected a writable folder"),
    BadStart(
        "read-only file", "", "openat", "error=EROFS:when=1", "make the folder of state.path writable for this user"
    ),
    BadStart("disk full", ".lock", "write", "error=ENOSPC", "free up disk space"),
    BadStart("error on read of a page", "", "read,pread64", "error=EIO:when=5+", "check the disk"),
    BadStart("read-only log", "-wal", "openat", "error=EROFS", "make the folder of state.path writable for this user"),
    BadStart("disk full, new state", "", "pwrite64", "error=ENOSPC", "free up disk space", is_new=True),
    BadStart("error on sync, new state", "", "fsync,fdatasync", "error=EIO", "check the disk", is_new=True),
    BadStart("error on read", "", "pread64", "error=EIO", "check the disk"),
)


def start_badly(bad: BadStart, config: Path, folder: Path) -> None:
    """Start the daemon in `folder` under a fault: it says what is wrong in one line, and ends with 1."""
    state = folder / "state.db"
    command = injecting(bad.calls, bad.error, state, folder / "trace", (bad.file,))
    with subprocess.Popen(
        [*command, "--seccomp-bpf", KLDRIFT, "run", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            said, _ = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise AssertionError(f"{bad.name}: it runs") from None
    assert "(INJECTED)" in (folder / "trace").read_text(), f"{bad.name}: nothing was injected: {said}"
    assert running.returncode == 1, (bad.name, running.returncode, said)
    assert said.count("\n") == 1, (bad.name, said)
    assert str(state) in said, (bad.name, said)
    assert bad.says in said, (bad.name, said)


def run_starts(bad_starts: Sequence[BadStart], folder: Path) -> int:
    """Start with each fault; after all of them the daemon starts, with what it had."""
    (folder / "new").mkdir()
    daemons = {is_new: CrashingDaemon(folder / ("new" if is_new else ""), 0) for is_new in (False, True)}
    body, bins = body_of(0)
    try:
        daemons[False].start()
        daemons[False].client.post("m", body)
        daemons[False].stop()
        for bad in bad_starts:
            where = folder / ("new" if bad.is_new else "")
            start_badly(bad, where / "kldrift.yaml", where)
        for is_new, daemon in daemons.items():
            daemon.start()
            assert sum(daemon.counts()) == (0 if is_new else len(bins))
        assert not list(folder.rglob("*.damaged*"))
    finally:
        for daemon in daemons.values():
            daemon.stop()
    return len(bad_starts)
