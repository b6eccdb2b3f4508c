"""State in an SQLite file: write-ahead log, full synchronisation, one transaction per commit."""

import fcntl
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TextIO

from kldrift.errors import StateError
from kldrift.state.base import Commit, KeyedAnswer, Position
from kldrift.state.history import SCHEMA as HISTORY_SCHEMA

#: How long answers to keyed posts are kept, and how many of them.
KEPT_MS = 24 * 3_600_000
KEPT_ANSWERS = 1_000_000

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
)

#: On these, locks and shared memory do not work as SQLite requires.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs", "fuse.s3fs"}
)

#: Number of commits between deletions of old answers.
_SWEEP_EVERY = 256


class SqliteStore:
    """The state file, used by one process at a time.

    Parameters
    ----------
    path : the file; created if it does not exist
    clock_ms : the wall clock, for the age of answers
    on_moved : called with a message if the file could not be read and was moved aside

    Raises
    ------
    StateError
        another process uses the file, a newer version wrote it, it is on a network file system, or it is not writable
    """

    def __init__(self, path: Path, clock_ms: Callable[[], int], on_moved: Callable[[str], None]) -> None:
        self.path = path
        self._clock_ms = clock_ms
        self._commits = 0
        self._lock = Lock()
        self._asking = Lock()
        _refuse_network(path)
        self._lock_file = _take_lock(path)
        try:
            self._database = _open_or_move(path, on_moved)
            # A separate connection, because its callers must not wait for a commit.
            self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
        except (sqlite3.Error, OSError) as error:
            self._unlock()
            raise StateError(f"{path}: expected to open the state, got {error}; {_remedy(error)}") from None
        except StateError:
            self._unlock()
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
        """Return the answer to the post with this key, if it is less than a day old."""
        with self._reading(self._asking):
            row = self._reader.execute("SELECT digest, answer, at_ms FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None or row[2] <= self._clock_ms() - KEPT_MS:
            return None
        return KeyedAnswer(key, *row)

    @contextmanager
    def _reading(self, lock: Lock) -> Iterator[None]:
        try:
            with lock:
                yield
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: expected to read the state, got {error}; {_remedy(error)}") from None

    # --- writing ---------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """Store a commit durably: SQLite returns once the write-ahead log is on disk.

        Raises
        ------
        StateError
            nothing was stored; the caller may try again
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._write(commit)
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise StateError(f"{self.path}: expected to write the state, got {error}; {_remedy(error)}") from None

    def _write(self, commit: Commit) -> None:
        execute, many = self._database.execute, self._database.executemany
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
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
            [
                (source, stream, json.dumps(dict(position)))
                for source, streams in commit.positions.items()
                for stream, position in streams.items()
            ],
        )
        many(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
            [(answer.key, answer.digest, answer.answer, answer.at_ms) for answer in commit.answers],
        )
        if self._commits % _SWEEP_EVERY == 0:
            execute("DELETE FROM answers WHERE at_ms <= ?", (self._clock_ms() - KEPT_MS,))
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
        self._unlock()

    def _unlock(self) -> None:
        self._lock_file.close()


def _open_or_move(path: Path, on_moved: Callable[[str], None]) -> sqlite3.Connection:
    """Open the database. If it is damaged, move it aside and create a new one.

    SQLite mistakes a disk error for damage if it occurs while pages are checked. So a file counts as damaged only if
    all of it can be read and a second attempt fails as well.
    """
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
            f"{path} could not be read ({error}); it was moved to {_move_aside(path)}, counting starts from scratch"
        )
    return _open(path)


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
        it was written by a newer version
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
    try:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StateError(
                f"{path}: expected state of version {len(MIGRATIONS)} at most, got {version}, written by a newer"
                " kldrift; use that version, or set state.path to another file"
            )
        for number in range(version, len(MIGRATIONS)):
            database.executescript(f"BEGIN; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
        _check_content(database)
        database.execute("DELETE FROM positions WHERE FALSE")  # SQLite opens a file it cannot write to as read-only
    except BaseException:
        database.close()
        raise
    return database


def _check_content(database: sqlite3.Connection) -> None:
    """Read everything that will be used: SQLite checks the structure of its pages, not their content."""
    try:
        for (value,) in database.execute("SELECT value FROM entries"):
            zlib.decompress(value)
        for (position,) in database.execute("SELECT position FROM positions"):
            json.loads(position)
    except (zlib.error, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"an entry is damaged: {error}") from None


def _take_lock(path: Path) -> TextIO:
    """Lock the file next to `path` that names the process that uses it.

    Raises
    ------
    StateError
        another process has locked it, or the folder is not writable
    """
    lock = path.with_name(path.name + ".lock")
    try:
        file = lock.open("a+")
    except OSError as error:
        raise StateError(
            f"{path}: expected a writable folder, got {error.strerror}; set state.path to another place"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read(32).strip()
        file.close()
        raise StateError(
            f"{path}: expected to be the only process using this state, but process {owner or 'unknown'} has it;"
            " stop it, or give this process its own state.path"
        ) from None
    try:
        file.truncate(0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    except OSError as error:
        file.close()
        raise StateError(f"{path}: expected to write to {lock.name}, got {error.strerror}; {_remedy(error)}") from None
    return file


def _refuse_network(path: Path) -> None:
    """Refuse a file system on which locks and shared memory do not work as SQLite requires.

    Raises
    ------
    StateError
        the file would be on such a file system
    """
    folder = path.absolute().parent.resolve()
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux: file systems are unknown, nothing is refused
        return
    found = ("", "")
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    if found[1] in NETWORK_FILE_SYSTEMS:
        raise StateError(
            f"{path}: expected a local disk, {found[0]} is {found[1]}, where two processes could both believe they own"
            " the file and a power cut could lose confirmed samples; put state.path on a local disk"
        )


def _move_aside(path: Path) -> Path:
    """Rename the file and those that belong to it; returns the new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _remedy(error: Exception) -> str:
    text = str(error).lower()
    if "full" in text or "no space" in text:
        return "free up disk space"
    if "readonly" in text or "read-only" in text or "unable to open" in text or "denied" in text:
        return "make the folder of state.path writable for this user"
    return "check the disk, or set state.path to another file"
