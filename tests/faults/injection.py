"""Errors in place of system calls on the state's files, by strace: in a daemon that runs, or from its start on."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATE_FILES = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Fault:
    """System calls on the state's files, and the error that they end in."""

    name: str
    calls: str
    error: str


WRITES = "write,pwrite64,ftruncate,fallocate"
FAULTS = (
    Fault("disk full", WRITES, "ENOSPC"),
    Fault("read-only", f"openat,{WRITES}", "EROFS"),
    Fault("error on write", WRITES, "EIO"),
    Fault("error on sync", "fsync,fdatasync", "EIO"),
)


def untraceable() -> str | None:
    """Why system calls of another process cannot be replaced here, if so."""
    if shutil.which("strace") is None:
        return "strace is not here"
    with subprocess.Popen(["sleep", "2"]) as traced:
        tried = subprocess.run(
            ["strace", "-qq", "-o", "/dev/null", "-p", str(traced.pid)], capture_output=True, text=True, check=False
        )
    return None if tried.returncode == 0 else f"strace may not attach to a process here ({tried.stderr.strip()})"


def injecting(calls: str, error: str, state: Path, trace: Path, suffixes: Sequence[str] = STATE_FILES) -> list[str]:
    """The command that has these calls on the state's files end in an error, to be completed."""
    files = [word for suffix in suffixes for word in ("-P", str(state) + suffix)]
    return ["strace", "-f", "-qq", "-o", str(trace), *files, "-e", f"trace={calls}", "-e", f"inject={calls}:{error}"]


@contextmanager
def suffering(fault: Fault, pid: int, state: Path) -> Iterator[None]:
    """The fault, in a running process; it has to come to pass at least once."""
    trace = state.with_name("trace")
    command = injecting(fault.calls, f"error={fault.error}", state, trace)
    running = subprocess.Popen([*command, "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        running.terminate()
        _, said = running.communicate(timeout=20)
    assert "(INJECTED)" in trace.read_text(), f"{fault.name}: nothing was injected; strace said: {said}"
