"""The state file: whole commits or none, one process, and what is done with a file that is no good."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kldrift.errors import StateError
from kldrift.state import sqlite
from kldrift.state.base import Commit, KeyedAnswer, NoStore
from kldrift.state.sqlite import KEPT_MS, SqliteStore

NOW = 1_700_000_000_000


class Opened:
    """Stores on one file, with a clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = NOW
        self.moved: list[str] = []

    def __call__(self) -> SqliteStore:
        return SqliteStore(self.path, lambda: self.now_ms, self.moved.append)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path / "state.db")


FIRST = Commit(
    entries={"m": {"a": b"1", "b": b"\x00" * 1000}, "n": {"a": b"other"}},
    positions={"s": {"f": {"offset": 5, "path": "x"}, "g": {"offset": 7}}},
    answers=[KeyedAnswer("m\x00k", b"digest", "{}")],
)


def test_the_positions_of_a_renamed_source_move_before_others_are_stored(opened: Opened) -> None:
    store = opened()
    store.commit(Commit(positions={"a": {"f": {"offset": 1}, "g": {"offset": 2}}, "other": {"f": {"offset": 3}}}))
    store.commit(Commit(positions={"b": {"f": {"offset": 5}}}, renamed={"a": "b"}))
    assert store.positions() == {"b": {"f": {"offset": 5}, "g": {"offset": 2}}, "other": {"f": {"offset": 3}}}
    store.close()


def test_what_was_committed_is_there_after_the_file_is_opened_again(opened: Opened) -> None:
    store = opened()
    store.commit(FIRST)
    store.commit(Commit(entries={"m": {"a": None, "c": b"3"}}, positions={"s": {"f": {"offset": 9}}}))
    store.close()
    again = opened()
    assert again.entries("m") == {"b": b"\x00" * 1000, "c": b"3"}
    assert again.entries("n") == {"a": b"other"}
    assert again.entries("nobody") == {}
    assert again.positions() == {"s": {"f": {"offset": 9}, "g": {"offset": 7}}}
    assert again.answer("m\x00k") == KeyedAnswer("m\x00k", b"digest", "{}")
    assert again.answer("m\x00other") is None
    again.close()
    assert opened.moved == []


def test_entries_that_are_forgotten_go_before_the_new_ones_come(opened: Opened) -> None:
    store = opened()
    store.commit(FIRST)
    store.commit(Commit(entries={"m": {"z": b"26"}}, forgotten=["m"]))
    assert store.entries("m") == {"z": b"26"}
    assert store.entries("n") == {"a": b"other"}
    store.close()


def test_a_commit_that_fails_half_way_leaves_nothing(opened: Opened) -> None:
    store = opened()
    store.commit(FIRST)
    store._database.execute(
        "CREATE TRIGGER no BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )
    broken = Commit(
        entries={"m": {"a": b"2"}},
        positions={"s": {"f": {"offset": 99}}},
        answers=[KeyedAnswer("k", b"", "")],
        forgotten=["n"],
    )
    with pytest.raises(StateError, match="expected to write the state, got disk I/O error"):
        store.commit(broken)
    assert store.entries("m")["a"] == b"1"
    assert store.entries("n") == {"a": b"other"}
    assert store.positions()["s"]["f"] == {"offset": 5, "path": "x"}
    store._database.execute("DROP TRIGGER no")
    store.commit(broken)
    assert store.positions()["s"]["f"] == {"offset": 99}
    store.close()


def test_a_full_disk_is_told_and_later_commits_succeed(opened: Opened) -> None:
    store = opened()
    store.commit(FIRST)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    large = Commit(entries={"m": {"big": os.urandom(100_000)}})
    with pytest.raises(StateError, match="full; free up disk space"):
        store.commit(large)
    assert "big" not in store.entries("m")
    store._database.execute("PRAGMA max_page_count = 1000000")
    store.commit(large)
    assert len(store.entries("m")["big"]) == 100_000
    store.close()


def test_answers_are_kept_for_a_day(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SWEEP_EVERY", 1)
    store = opened()
    store.commit(FIRST)
    opened.now_ms += KEPT_MS - 1
    assert store.answer("m\x00k") is not None
    opened.now_ms += 1
    assert store.answer("m\x00k") is None
    store.commit(Commit(answers=[KeyedAnswer("new", b"", "")]))
    assert store._database.execute("SELECT key FROM answers").fetchall() == [("new",)]
    store.close()


def test_answers_age_while_a_process_runs_whatever_the_clock_of_the_next_one_says(opened: Opened) -> None:
    store = opened()
    opened.now_ms += 5
    store.commit(FIRST)
    opened.now_ms += KEPT_MS // 2
    store.commit(Commit())
    store.close()
    for elsewhere in (NOW + 400 * KEPT_MS, 0):  # monotonic clocks begin anywhere, and nothing runs in between
        opened.now_ms = elsewhere
        store = opened()
        assert store.answer("m\x00k") is not None
        opened.now_ms += KEPT_MS // 2 - 1
        assert store.answer("m\x00k") is not None
        opened.now_ms += 1
        assert store.answer("m\x00k") is None
        store.close()  # without a commit: what it ran does not count


def test_answers_of_a_state_without_time_of_running_are_kept_for_a_day_from_now(opened: Opened) -> None:
    store = opened()
    store.commit(FIRST)
    store._database.executescript(f"UPDATE answers SET at_ms = {NOW}; DROP TABLE running; PRAGMA user_version = 3")
    store.close()
    opened.now_ms = 17
    again = opened()
    opened.now_ms += KEPT_MS - 1
    assert again.answer("m\x00k") is not None
    opened.now_ms += 1
    assert again.answer("m\x00k") is None
    again.close()


def test_old_answers_go_at_the_first_commit_and_at_each_of_so_many(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SWEEP_EVERY", 4)
    opened().close()
    store = opened()
    for number in range(10):
        store.commit(Commit(answers=[KeyedAnswer(f"k{number}", b"", "")]))
        opened.now_ms += KEPT_MS  # old at once
        (kept,) = store._database.execute("SELECT count(*) FROM answers").fetchone()
        assert kept == 1 + number % 4
    store.close()


def test_of_too_many_answers_the_oldest_go(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SWEEP_EVERY", 1)
    monkeypatch.setattr(sqlite, "KEPT_ANSWERS", 10)
    store = opened()
    for i in range(25):
        opened.now_ms += 1
        store.commit(Commit(answers=[KeyedAnswer(f"k{i}", b"", "")]))
    kept = {key for (key,) in store._database.execute("SELECT key FROM answers")}
    assert kept == {f"k{i}" for i in range(15, 25)}
    store.close()


def test_a_second_process_is_refused_and_told_who_has_the_file(opened: Opened) -> None:
    store = opened()
    script = (
        "import sys; from pathlib import Path; from kldrift.state.sqlite import SqliteStore\n"
        "SqliteStore(Path(sys.argv[1]), lambda: 0, print)"
    )
    second = subprocess.run([sys.executable, "-c", script, opened.path], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"expected to be the only process using this state, but process {os.getpid()} has it" in second.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", script, opened.path]).returncode == 0


def test_a_second_store_of_the_same_process_is_refused_as_well(opened: Opened) -> None:
    store = opened()
    with pytest.raises(StateError, match=f"but process {os.getpid()} has it"):
        opened()
    store.close()
    opened().close()


def test_a_state_can_be_used_from_any_thread(opened: Opened) -> None:
    store = opened()
    with ThreadPoolExecutor() as pool:
        pool.submit(store.commit, FIRST).result()
        assert pool.submit(store.answer, "m\x00k").result() == FIRST.answers[0]
    store.close()


def test_without_a_state_nothing_is_remembered() -> None:
    store = NoStore()
    store.commit(FIRST)
    assert (store.entries("m"), store.positions(), store.answer("m\x00k")) == ({}, {}, None)
    store.close()


@pytest.mark.parametrize("damage", ["no database", "pages", "entry"])
def test_a_damaged_file_is_moved_aside_and_said_loudly(opened: Opened, damage: str) -> None:
    store = opened()
    store.commit(
        Commit(entries={"m": {f"k{i}": bytes([i % 251]) * 997 for i in range(2_000)}}, positions=FIRST.positions)
    )
    store.close()
    if damage == "no database":
        opened.path.write_bytes(b"hello" * 1000)
    elif damage == "pages":
        data = bytearray(opened.path.read_bytes())
        data[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
        opened.path.write_bytes(data)
    else:
        with sqlite3.connect(opened.path) as database:
            database.execute("UPDATE entries SET value = x'00ff' WHERE key = 'k5'")
        database.close()
    spoilt = opened.path.read_bytes()
    again = opened()
    assert again.entries("m") == {}
    assert again.positions() == {}
    again.commit(FIRST)
    again.close()
    (said,) = opened.moved
    aside = opened.path.with_name("state.db.damaged-1")
    assert str(aside) in said
    assert aside.read_bytes() == spoilt
    last = opened()
    assert last.entries("m") == FIRST.entries["m"]
    last.close()


def test_state_of_a_newer_version_is_refused_and_untouched(opened: Opened) -> None:
    opened().close()
    with sqlite3.connect(opened.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = opened.path.read_bytes()
    with pytest.raises(
        StateError, match=f"version {len(sqlite.MIGRATIONS)} at most, got 99, written by a newer kldrift"
    ):
        opened()
    assert opened.path.read_bytes() == before
    assert opened.moved == []


def test_state_of_an_older_version_is_brought_up_to_date(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    store.commit(FIRST)
    store.close()
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, "ALTER TABLE answers ADD COLUMN note TEXT"))
    newer = opened()
    assert newer._database.execute("PRAGMA user_version").fetchone() == (len(sqlite.MIGRATIONS),)
    assert newer.entries("m") == FIRST.entries["m"]
    newer.close()


@pytest.mark.parametrize(
    ("mounts", "refused"),
    [
        (["/ ext4", "{folder} nfs4"], "{folder} is nfs4"),
        (["{folder} nfs4", "/ ext4"], "{folder} is nfs4"),  # whatever order they are in
        (["{folder} nfs4", "{above} ext4"], "{folder} is nfs4"),
        (["{folder} ext4", "/ nfs4"], None),
        (["/ nfs4", "{folder}/inner ext4", "{folder}-beside ext4"], "/ is nfs4"),  # those do not hold the file
        (["/ ext4", "{folder}/inner nfs4", "{folder}-beside nfs4"], None),
        (["{folder} ext4", "{folder} nfs4"], "{folder} is nfs4"),  # one over the other: the last is what is seen
        (["{folder} nfs4", "{folder} ext4"], None),
        ([], None),
    ],
)
def test_network_file_systems_are_refused_with_a_reason(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, mounts: list[str], refused: str | None
) -> None:
    folder = opened.path.parent.resolve()
    text = "".join(f"device {mount.format(folder=folder, above=folder.parent)} rw 0 0\n" for mount in mounts)
    read_text = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: text if str(self) == "/proc/self/mounts" else read_text(self, *a, **k),
    )
    if refused is None:
        opened().close()
        return
    with pytest.raises(StateError) as error:
        opened()
    assert f"expected a local disk, {refused.format(folder=folder)}, where" in str(error.value)


def test_a_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="expected a writable folder"):
        SqliteStore(tmp_path / "none" / "state.db", lambda: NOW, print)
