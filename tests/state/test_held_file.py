"""One process and one file: whatever is removed, replaced or linked, nothing that was confirmed is lost unnoticed."""

import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kldrift.errors import StateError
from kldrift.state.base import Commit
from kldrift.state.sqlite import MIGRATIONS, SqliteStore

FIRST = Commit(entries={"m": {"a": b"1"}})
SECOND = Commit(entries={"m": {"a": b"2", "b": b"3"}})

_OPEN = (
    "import sys; from pathlib import Path; from kldrift.state.sqlite import SqliteStore\n"
    "SqliteStore(Path(sys.argv[1]), lambda: 0, print)"
)


def opened(path: Path, on_moved: Callable[[str], object] = pytest.fail) -> SqliteStore:
    return SqliteStore(path, lambda: 0, lambda text: (on_moved(text), None)[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A store in use, with something in it."""
    store = opened(path)
    store.commit(FIRST)
    yield store
    store.close()


def files_of(path: Path) -> list[Path]:
    return [path, path.with_name("state.db-wal"), path.with_name("state.db-shm")]


def in_another_process(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=False)


# --- taken away -----------------------------------------------------------------------------------------


def test_a_removed_file_fails_the_commit_until_it_is_back(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for file in files_of(path):
        file.rename(away / file.name)
    for _ in range(2):
        with pytest.raises(StateError, match=r"state\.db has been removed while kldrift was using it"):
            store.commit(SECOND)
    for file in files_of(away / "state.db"):
        file.rename(path.with_name(file.name))
    store.commit(SECOND)
    store.close()
    with closing(opened(path)) as again:
        assert again.entries("m") == SECOND.entries["m"]


def test_a_removed_log_fails_the_commit(store: SqliteStore, path: Path) -> None:
    path.with_name("state.db-wal").unlink()  # SQLite would go on writing to it, and a restart would not read it
    with pytest.raises(StateError, match=r"state\.db-wal has been removed"):
        store.commit(SECOND)


def test_a_file_in_its_place_fails_the_commit_and_is_left_alone(store: SqliteStore, path: Path) -> None:
    for file in path.parent.glob("state.db*"):
        file.unlink()
    second = opened(path)  # as another daemon would, which sees a new file
    second.commit(FIRST)
    with pytest.raises(StateError, match=r"state\.db has been replaced by another file"):
        store.commit(SECOND)
    store.close()
    second.commit(Commit(entries={"m": {"c": b"4"}}))
    second.close()
    with closing(opened(path)) as again:
        assert again.entries("m") == {"a": b"1", "c": b"4"}


# --- two processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lock removed", "symbolic link", "hard link", "link to the folder"])
def test_a_second_process_is_refused_by_whatever_name_it_comes(
    store: SqliteStore, path: Path, tmp_path: Path, how: str
) -> None:
    other = tmp_path / "other.db"
    match how:
        case "lock removed":
            path.with_name("state.db.lock").unlink()
            other = path
        case "symbolic link":
            other.symlink_to(path)
        case "hard link":
            other.hardlink_to(path)
        case _:
            (tmp_path / "folder").symlink_to(tmp_path)
            other = tmp_path / "folder" / "state.db"
    second = in_another_process(other)
    assert second.returncode == 1
    assert "expected to be the only process using this state, but" in second.stderr
    store.commit(SECOND)
    store.close()
    assert in_another_process(other).returncode == 0


def test_a_process_that_was_overtaken_writes_no_more(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:  # one that the locks did not hold back, as on two machines
        other.execute("UPDATE owner SET epoch = epoch + 1")
        other.commit()
    with pytest.raises(StateError, match="another one has opened it since"):
        store.commit(SECOND)
    assert store.entries("m") == FIRST.entries["m"]


def test_a_link_is_followed_and_stays(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)  # to a file that does not exist yet
    with closing(opened(link)) as store:
        store.commit(FIRST)
    assert link.is_symlink()
    with closing(opened(path)) as again:
        assert again.entries("m") == FIRST.entries["m"]


# --- what is found at the start -------------------------------------------------------------------------


def test_an_empty_file_is_damaged_and_not_new(path: Path) -> None:
    path.touch()
    moved: list[str] = []
    opened(path, moved.append).close()
    (said,) = moved
    assert f"{path} could not be read (it is empty); it was moved to {path}.damaged-1" in said
    opened(path).close()
    path.write_bytes(b"")  # the name for the first one is in use
    opened(path, moved.append).close()
    assert f"{path}.damaged-2" in moved[1]
    assert sorted(file.name for file in path.parent.glob("*damaged*")) == ["state.db.damaged-1", "state.db.damaged-2"]


def test_the_database_of_another_program_is_refused_and_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
        other.execute("PRAGMA user_version = 1")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"got the database of another program; set state\.path to another file"):
        opened(path)
    assert path.read_bytes() == before
    assert not path.with_name("state.db-wal").exists()


def test_a_log_without_its_file_is_not_read_into_a_new_one(store: SqliteStore, path: Path) -> None:
    log = path.with_name("state.db-wal").read_bytes()
    assert log
    store.close()
    path.unlink()
    path.with_name("state.db-wal").write_bytes(log)
    moved: list[str] = []
    with closing(opened(path, moved.append)) as again:
        assert again.entries("m") == {}
    (said,) = moved
    assert "state.db is missing, but its write-ahead log is there" in said
    assert path.with_name("state.db.damaged-1-wal").read_bytes() == log


def test_state_from_before_there_was_a_mark_is_taken_over(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit(FIRST)
    with closing(sqlite3.connect(path)) as old:
        old.executescript("DROP TABLE owner; DROP TABLE running; PRAGMA application_id = 0; PRAGMA user_version = 2")
    with closing(opened(path)) as again:
        assert again.entries("m") == FIRST.entries["m"]
        again.commit(SECOND)


def test_state_of_the_first_version_is_taken_over(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1")
        old.execute("INSERT INTO entries VALUES ('m', 'a', ?)", (zlib.compress(b"1"),))
        old.commit()
    with closing(opened(path)) as store:
        assert store.entries("m") == {"a": b"1"}


def test_a_creation_that_was_cut_short_leaves_nothing_in_the_way(path: Path) -> None:
    path.with_name("state.db.new").write_bytes(b"half")
    with closing(opened(path)) as store:
        store.commit(FIRST)
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", "state.db.lock"]
    assert path.stat().st_size > 0
