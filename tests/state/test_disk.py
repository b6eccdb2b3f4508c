"""A disk that is to blame, not the state on it: nothing is moved aside, and what to do about it is said.

Errors in the system calls of a running daemon are in `tests/faults/disk_errors.py`.
"""

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kldrift.errors import StateError
from kldrift.state import sqlite
from kldrift.state.base import Commit
from kldrift.state.held_file import remedy
from kldrift.state.sqlite import SqliteStore

FIRST = Commit(entries={"m": {"a": b"1"}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with something in it."""
    path = tmp_path / "state.db"
    store = SqliteStore(path, lambda: 0, pytest.fail)
    store.commit(FIRST)
    store.close()
    return path


@pytest.fixture
def looks(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The looks at the file; at the first one it seems to be damaged."""
    opened = sqlite._open
    looks: list[Path] = []

    def look(path: Path) -> sqlite3.Connection:
        looks.append(path)
        if len(looks) == 1:
            raise sqlite3.DatabaseError("Page 4: unable to get the page. error code=266")
        return opened(path)

    monkeypatch.setattr(sqlite, "_open", look)
    return looks


def test_a_file_that_is_whole_at_a_second_look_is_not_moved(path: Path, looks: list[Path]) -> None:
    store = SqliteStore(path, lambda: 0, pytest.fail)
    assert len(looks) == 2
    assert store.entries("m") == FIRST.entries["m"]
    store.close()


def test_a_file_that_cannot_be_read_to_its_end_is_not_moved(
    path: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sqlite, "_read_through", unreadable)
    with pytest.raises(StateError, match="Input/output error; check the disk"):
        SqliteStore(path, lambda: 0, pytest.fail)
    assert len(looks) == 1
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", "state.db.lock"]
    monkeypatch.undo()
    store = SqliteStore(path, lambda: 0, pytest.fail)  # nobody has the lock
    assert store.entries("m") == FIRST.entries["m"]
    store.close()


def test_a_file_is_read_to_its_end_whatever_becomes_of_it() -> None:
    with pytest.raises(OSError, match="Input/output error"):  # of the first page, where nothing is
        sqlite._read_through(Path("/proc/self/mem"))
    sqlite._read_through(Path("/dev/null"))
    sqlite._read_through(Path("/dev/none"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("database or disk is full", "free up disk space"),
        ("No space left on device", "free up disk space"),
        ("attempt to write a readonly database", "make the folder of state.path writable for this user"),
        ("Read-only file system", "make the folder of state.path writable for this user"),
        ("unable to open database file", "make the folder of state.path writable for this user"),
        ("Permission denied", "make the folder of state.path writable for this user"),
        ("disk I/O error", "check the disk, or set state.path to another file"),
    ],
)
def test_what_to_do_about_an_error(error: str, expected: str) -> None:
    assert remedy(sqlite3.OperationalError(error)) == expected


def test_a_lock_that_cannot_be_written_is_said(path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from kldrift.state.sqlite import SqliteStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "SqliteStore(Path(sys.argv[1]), lambda: 0, print)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"StateError: {path}: expected to write to state.db.lock, got File too large; check the" in done.stderr


def test_a_file_that_can_only_be_read_is_refused_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def read_only(path: Path, **rest: object) -> sqlite3.Connection:
        return real(f"file:{path}?mode=ro", uri=True, **rest)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(StateError, match=r"readonly database; make the folder of state\.path writable"):
        SqliteStore(path, lambda: 0, pytest.fail)
