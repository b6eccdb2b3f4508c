"""The evaluations of the last week at decreasing resolution, for sparklines and timelines, not for verdicts."""

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from kldrift.errors import StateError
from kldrift.records.types import Float32Array, IntArray

SCHEMA = """
CREATE TABLE history (
    monitor TEXT, segment TEXT, level INTEGER, at_ms INTEGER, layout INTEGER NOT NULL, points BLOB NOT NULL,
    PRIMARY KEY (monitor, segment, level, at_ms)
);
CREATE INDEX history_by_age ON history (level, at_ms);
CREATE TABLE history_layouts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE drifts (
    monitor TEXT, segment TEXT, feature TEXT, severity INTEGER, since_ms INTEGER NOT NULL,
    PRIMARY KEY (monitor, segment, feature, severity)
) WITHOUT ROWID;
"""


class Level(NamedTuple):
    """One point per `period_ms`, kept for `span_ms`."""

    period_ms: int
    span_ms: int


#: Finest first. In total 582 points per series, 6 bytes each before compression.
LEVELS = (
    Level(10_000, 15 * 60_000),
    Level(60_000, 3 * 3_600_000),
    Level(600_000, 24 * 3_600_000),
    Level(3_600_000, 7 * 24 * 3_600_000),
)

#: Three digits, enough for charts, in a quarter of the bytes of float64. Values beyond 65,504 nats become infinite.
_STORED = np.dtype("<f2")

#: Segment column for the whole monitor; the name of a segment is preceded by a sign.
_WHOLE, _SEGMENT = "", "="

_POINTS = (
    "SELECT at_ms, layout, points FROM history"
    " WHERE monitor = ? AND segment = ? AND level = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms DESC"
)

#: (severity index, since when) by feature.
Since = Mapping[str, Mapping[int, int]]


class Layout(NamedTuple):
    """The windows and features that the points of a row belong to."""

    windows: tuple[str, ...]
    features: tuple[str, ...]


class Row(NamedTuple):
    """Points of one monitor or segment at one instant: (quantities, W, F) values of `layout`."""

    monitor: str
    segment: str | None
    level: int
    at_ms: int
    layout: Layout
    points: Float32Array


class SqliteHistory:
    """The history's tables, in the state file or, without one, in a temporary file.

    Writes are not synchronised to disk one by one: a power cut may lose the last points, nothing else.

    Parameters
    ----------
    path : the state file, created by `SqliteStore`; None for a file that ends with the process

    Raises
    ------
    StateError
        the file could not be opened
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = Lock()
        self._layouts: dict[str, int] = {}
        try:
            self._database = sqlite3.connect(path or "", isolation_level=None, check_same_thread=False, timeout=2.0)
            self._database.execute("PRAGMA synchronous = NORMAL" if path else "PRAGMA synchronous = OFF")
            if path is None:
                self._database.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise StateError(f"expected to open the history, got {error}; check the disk") from None

    def write(self, rows: Sequence[Row], since: Mapping[tuple[str, str | None], Since], now_ms: int) -> None:
        """Add rows and delete expired ones; `since` replaces what is known about its monitors and segments.

        Raises
        ------
        StateError
            nothing was written
        """
        packed = [(row, _packed(row.points)) for row in rows]
        with self._lock:
            execute, many = self._database.execute, self._database.executemany
            try:
                execute("BEGIN IMMEDIATE")
                for row, points in packed:
                    key = (row.monitor, _key(row.segment), row.level, row.at_ms, self._layout(row.layout), points)
                    execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?, ?, ?)", key)
                for level in {row.level for row in rows}:
                    past = now_ms - LEVELS[level].span_ms
                    execute("DELETE FROM history WHERE level = ? AND at_ms < ?", (level, past))
                    execute(
                        "DELETE FROM history WHERE level = ? AND at_ms > ?", (level, now_ms)
                    )  # the clock was set back
                for (monitor, segment), features in since.items():
                    scope = (monitor, _key(segment))
                    execute("DELETE FROM drifts WHERE monitor = ? AND segment = ?", scope)
                    many(
                        "INSERT INTO drifts VALUES (?, ?, ?, ?, ?)",
                        [(*scope, feature, i, at) for feature, found in features.items() for i, at in found.items()],
                    )
                execute("COMMIT")
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    execute("ROLLBACK")
                self._layouts.clear()  # those of the transaction were rolled back
                raise StateError(f"expected to write the history, got {error}; continuing without this point") from None

    def _layout(self, layout: Layout) -> int:
        text = json.dumps(layout)
        if text not in self._layouts:
            self._database.execute("INSERT OR IGNORE INTO history_layouts (text) VALUES (?)", (text,))
            (found,) = self._database.execute("SELECT id FROM history_layouts WHERE text = ?", (text,)).fetchone()
            self._layouts[text] = found
        return self._layouts[text]

    def read(
        self, monitor: str, segment: str | None, wanted: Layout, from_ms: int, now_ms: int, n_quantities: int
    ) -> tuple[IntArray, Float32Array]:
        """Return the points of some windows and features since `from_ms`, each instant at the finest level that has it.

        Returns
        -------
        at_ms : (T,) int64, increasing
        points : (T, quantities, W, F) float32; NaN where a series had no value or did not exist

        Raises
        ------
        StateError
            the history could not be read
        """
        found: list[tuple[int, int, bytes]] = []  # latest first
        earliest = now_ms
        try:
            for level in range(len(LEVELS)):
                key = (monitor, _key(segment), level, from_ms, earliest)
                with self._lock:
                    found += self._database.execute(_POINTS, key).fetchall()
                earliest = found[-1][0] - 1 if found else now_ms
            found.reverse()
            points = np.full((len(found), n_quantities, len(wanted.windows), len(wanted.features)), np.nan, np.float32)
            for layout in {layout for _, layout, _ in found}:
                here = [t for t, row in enumerate(found) if row[1] == layout]
                self._copy([found[t][2] for t in here], self._layout_of(layout), wanted, points, np.array(here))
        except (sqlite3.Error, zlib.error, ValueError) as error:  # an error of the disk, or damaged content
            raise StateError(f"expected to read the history, got {error}") from None
        return np.array([at for at, _, _ in found], dtype=np.int64), points

    def _layout_of(self, number: int) -> Layout:
        with self._lock:
            (text,) = self._database.execute("SELECT text FROM history_layouts WHERE id = ?", (number,)).fetchone()
        return Layout(*map(tuple, json.loads(text)))

    @staticmethod
    def _copy(packed: Sequence[bytes], layout: Layout, wanted: Layout, into: Float32Array, rows: IntArray) -> None:
        """Copy the wanted windows and features that `layout` has into `rows`."""
        raw = b"".join(map(zlib.decompress, packed))
        stored = np.frombuffer(raw, _STORED).reshape(len(packed), -1, len(layout.windows), len(layout.features))
        to_w, from_w = _both(wanted.windows, layout.windows)
        to_f, from_f = _both(wanted.features, layout.features)
        for to, of in zip(to_w, from_w, strict=True):
            into[rows[:, None], :, to, to_f[None, :]] = stored[:, :, of, from_f].swapaxes(1, 2)

    def since(self) -> Mapping[tuple[str, str | None], Since]:
        """Return since when each feature has been drifting, by monitor and segment: milliseconds by severity index."""
        found: dict[tuple[str, str | None], dict[str, dict[int, int]]] = {}
        try:
            with self._lock:
                rows = self._database.execute(
                    "SELECT monitor, segment, feature, severity, since_ms FROM drifts"
                ).fetchall()
        except sqlite3.Error as error:
            raise StateError(f"expected to read the history, got {error}") from None
        for monitor, key, feature, severity, at_ms in rows:
            segment = None if key == _WHOLE else key[len(_SEGMENT) :]
            found.setdefault((monitor, segment), {}).setdefault(feature, {})[severity] = at_ms
        return found

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def _packed(points: Float32Array) -> bytes:
    with np.errstate(over="ignore"):  # the KL of Gaussians is unbounded
        return zlib.compress(np.asarray(points, dtype=_STORED).tobytes(), 1)


def _both(wanted: Sequence[str], there: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Return the indices, in each, of the names they share."""
    index = {name: i for i, name in enumerate(there)}
    pairs = [(i, index[name]) for i, name in enumerate(wanted) if name in index]
    return np.array([i for i, _ in pairs], dtype=np.int64), np.array([j for _, j in pairs], dtype=np.int64)


def _key(segment: str | None) -> str:
    return _WHOLE if segment is None else _SEGMENT + segment
