"""State in an SQLite file: write-ahead log, full synchronisation, one transaction per commit."""

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from kldrift.errors import StateError
from kldrift.state.base import Commit, KeyedAnswer, Position
from kldrift.state.held_file import LOG, HeldFile, remedy
from kldrift.state.history import SCHEMA as HISTORY_SCHEMA

#: How long answers to keyed posts are kept while a daemon runs on the state, and how many of them.
KEPT_MS = 24 * 3_600_000
KEPT_ANSWERS = 1_000_000

#: Marks a database as ours: ``kldr`` in ASCII.
APPLICATION_ID = 0x6B6C6472

#: Entry i upgrades a file from version i to i + 1; a new file goes through all of them.
MIGRATIONS = (
    """
    CREATE TABLE entries (monitor TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (monitor, key)) WITHOUT ROWID;
    CREATE TABLE positions (source TEXT, stream TEXT, position TEXT NOT NULL, PRIMARY KEY (source, stream))
        WITHOUT ROWID;
    CREATE TABLE answers (key TEXT PRIMARY KEY, digest BLOB NOT NULL, answer TEXT NOT NULL, at_ms INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX answers_by_age ON answers (at_ms);
    """,
    HISTORY_SCHEMA,
    """
    CREATE TABLE owner (epoch INTEGER NOT NULL);
    INSERT INTO owner VALUES (0);
    """,
    """
    CREATE TABLE running (ms INTEGER NOT NULL);
    INSERT INTO running SELECT coalesce(max(at_ms), 0) FROM answers;
    """,
)

#: Number of commits between deletions of old answers.
_SWEEP_EVERY = 256


class SqliteStore:
    """The state file, used by one process at a time.

    The age of an answer is the time for which processes have run on the state since: it goes on from process to
    process with their monotonic clocks. By the wall clock, a jump forward would forget keys whose posts are still sent
    again, and these would count twice.

    Parameters
    ----------
    path : the file; created if it does not exist
    monotonic_ms : a clock that is never set, for the age of answers
    on_moved : called with a message if the file could not be read and was moved aside

    Raises
    ------
    StateError
        another process uses the file, a newer version wrote it, it is on a network file system, or it is not writable
    """

    def __init__(self, path: Path, monotonic_ms: Callable[[], int], on_moved: Callable[[str], None]) -> None:
        self.path = path
        self._monotonic_ms = monotonic_ms
        self._commits = 0
        self._lock = Lock()
        self._asking = Lock()
        self._file = HeldFile(path)
        try:
            self._database = _open_or_move(self._file, on_moved)
            # A separate connection, because its callers must not wait for a commit.
            self._reader = _connect(self._file.real)
            self._epoch = _take_over(self._database)
            (ran_ms,) = self._database.execute("SELECT ms FROM running").fetchone()
            self._began_ms = monotonic_ms() - int(ran_ms)
            self._reader.execute("SELECT epoch FROM owner")  # opens the log as well, while it is there
            self._file.remember()
        except (sqlite3.Error, OSError) as error:
            self._file.release()
            raise StateError(f"{path}: expected to open the state, got {error}; {remedy(error)}") from None
        except StateError:
            self._file.release()
            raise

    # --- reading ---------------------------------------------------------------------------------

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        """Return what a monitor has stored."""
        with self._reading(self._lock):
            rows = self._database.execute("SELECT key, value FROM entries WHERE monitor = ?", (monitor,)).fetchall()
        return {key: zlib.decompress(value) for key, value in rows}

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        """Return the position of every stream, by source."""
        found: dict[str, dict[str, Position]] = {}
        with self._reading(self._lock):
            rows = self._database.execute("SELECT source, stream, position FROM positions").fetchall()
        for source, stream, position in rows:
            found.setdefault(source, {})[stream] = json.loads(position)
        return found

    def answer(self, key: str) -> KeyedAnswer | None:
        """Return the answer to the post with this key, if it is less than a day of running old."""
        with self._reading(self._asking):
            row = self._reader.execute("SELECT digest, answer, at_ms FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None or row[2] <= self._running_ms() - KEPT_MS:
            return None
        return KeyedAnswer(key, row[0], row[1])

    def _running_ms(self) -> int:
        """Return for how long processes have run on this state."""
        return self._monotonic_ms() - self._began_ms

    @contextmanager
    def _reading(self, lock: Lock) -> Iterator[None]:
        try:
            with lock:
                yield
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: expected to read the state, got {error}; {remedy(error)}") from None

    # --- writing ---------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """Store a commit durably: SQLite returns once the write-ahead log is on disk.

        Raises
        ------
        StateError
            nothing was stored, or not where a restart would find it; the caller may try again
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._require_owner()
                self._write(commit)
                self._database.execute("COMMIT")
                self._file.check()  # afterwards, so that no commit is missed; to repeat one changes nothing
            except StateError:
                self._roll_back()
                raise
            except sqlite3.Error as error:
                self._roll_back()
                raise StateError(f"{self.path}: expected to write the state, got {error}; {remedy(error)}") from None

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._database.execute("ROLLBACK")

    def _require_owner(self) -> None:
        (epoch,) = self._database.execute("SELECT epoch FROM owner").fetchone()
        if epoch != self._epoch:
            raise StateError(
                f"{self.path}: expected to be the only process using this state, but another one has opened it since;"
                " stop it, or give this process its own state.path, and restart this one"
            )

    def _write(self, commit: Commit) -> None:
        execute, many = self._database.execute, self._database.executemany
        running_ms = self._running_ms()
        execute("UPDATE running SET ms = ?", (running_ms,))
        many("DELETE FROM entries WHERE monitor = ?", [(monitor,) for monitor in commit.forgotten])
        for monitor, entries in commit.entries.items():
            many(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                [(monitor, key, zlib.compress(value, 1)) for key, value in entries.items() if value is not None],
            )
            many(
                "DELETE FROM entries WHERE monitor = ? AND key = ?",
                [(monitor, key) for key, value in entries.items() if value is None],
            )
        many(
            "UPDATE OR REPLACE positions SET source = ? WHERE source = ?",
            [(new, old) for old, new in commit.renamed.items()],
        )
        many(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
            [
                (source, stream, json.dumps(dict(position)))
                for source, streams in commit.positions.items()
                for stream, position in streams.items()
            ],
        )
        many(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
            [(answer.key, answer.digest, answer.answer, running_ms) for answer in commit.answers],
        )
        if self._commits % _SWEEP_EVERY == 0:
            execute("DELETE FROM answers WHERE at_ms <= ?", (running_ms - KEPT_MS,))
            execute(
                "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY at_ms LIMIT"
                " max(0, (SELECT count(*) FROM answers) - ?))",
                (KEPT_ANSWERS,),
            )
        self._commits += 1

    def close(self) -> None:
        """Merge the write-ahead log into the file and release it for other processes."""
        with self._lock, self._asking:
            self._reader.close()
            self._database.close()
        self._file.release()


def _open_or_move(file: HeldFile, on_moved: Callable[[str], None]) -> sqlite3.Connection:
    """Open the database. If it is damaged, move it aside and create a new one.

    SQLite mistakes a disk error for damage if it occurs while pages are checked. So a file counts as damaged only if
    all of it can be read and a second attempt fails as well.
    """
    path = file.real
    if not path.exists():
        if file.has_log:  # which SQLite would read into the new file
            on_moved(
                f"{path} is missing, but its write-ahead log is there; that was moved to {file.move_aside()}{LOG},"
                " counting starts from scratch"
            )
        _create(path)
    file.hold()
    try:
        return _open(path)
    except sqlite3.OperationalError:  # the disk, a lock or permissions, not the content
        raise
    except sqlite3.DatabaseError:
        _read_through(path)
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        on_moved(
            f"{path} could not be read ({error}); it was moved to {file.move_aside()}, counting starts from scratch"
        )
    _create(path)
    file.hold()
    return _open(path)


def _create(path: Path) -> None:
    """Make a database without content, under another name first: a file of this name always has its tables."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    database = _connect(new)
    try:
        _upgrade(database, 0)
    finally:
        database.close()
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _take_over(database: sqlite3.Connection) -> int:
    """Let every other process that has the database open notice it; return the number of this one."""
    (epoch,) = database.execute("UPDATE owner SET epoch = epoch + 1 RETURNING epoch").fetchone()
    return int(epoch)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)


def _read_through(path: Path) -> None:
    """Read every byte of the file and its log.

    Raises
    ------
    OSError
        the disk could not read them
    """
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError), path.with_name(path.name + suffix).open("rb") as file:
            while file.read(1 << 20):
                pass


def _open(path: Path) -> sqlite3.Connection:
    """Open the database, check that it is intact, and upgrade it to this version.

    Raises
    ------
    sqlite3.DatabaseError
        it is damaged, or not a database
    StateError
        it was written by a newer version, or by another program
    """
    if path.stat().st_size == 0:
        raise sqlite3.DatabaseError("it is empty")
    database = _connect(path)
    try:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        if not _is_ours(database):
            raise StateError(
                f"{path}: expected the state of a kldrift, got the database of another program;"
                " set state.path to another file"
            )
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StateError(
                f"{path}: expected state of version {len(MIGRATIONS)} at most, got {version}, written by a newer"
                " kldrift; use that version, or set state.path to another file"
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _upgrade(database, version)
        _check_content(database)
        database.execute("DELETE FROM positions WHERE FALSE")  # SQLite opens a file it cannot write to as read-only
    except BaseException:
        database.close()
        raise
    return database


def _is_ours(database: sqlite3.Connection) -> bool:
    """Return whether the database has the mark of kldrift, or the tables of one written before there was a mark."""
    (mark,) = database.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return mark == APPLICATION_ID or (mark == 0 and {"entries", "positions", "answers"} <= tables)


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    """Bring a database of this version up to date."""
    for number in range(version, len(MIGRATIONS)):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number + 1}"
        database.executescript(f"BEGIN; {MIGRATIONS[number]}; {marks}; COMMIT;")


def _check_content(database: sqlite3.Connection) -> None:
    """Read everything that will be used: SQLite checks the structure of its pages, not their content."""
    try:
        for (value,) in database.execute("SELECT value FROM entries"):
            zlib.decompress(value)
        for (position,) in database.execute("SELECT position FROM positions"):
            json.loads(position)
    except (zlib.error, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"an entry is damaged: {error}") from None
