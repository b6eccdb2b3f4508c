"""References that are learned from the first rows of a stream."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kldrift.drift.entries import below
from kldrift.drift.kinds import SHAPES
from kldrift.drift.references.data import build_references
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.categories import other_booleans
from kldrift.records.samples import CategoricalColumn, SampleBatch, Vocabulary
from kldrift.records.snapshots import AddResult
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import FloatArray, IntArray

Column = FloatArray | npt.NDArray[np.int32]

_NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


class Learning:
    """The first rows of a stream, kept until the references they make can be counted.

    Parameters
    ----------
    rows : number of rows that each learned column needs, by its index in the schema
    """

    def __init__(self, rows: Mapping[int, int]) -> None:
        self._wanted = dict(rows)
        self._kept: dict[int, list[Column]] = {index: [] for index in rows}
        self._invalid: dict[int, list[IntArray]] = {index: [] for index in rows}  # rows of each batch
        self._begun: dict[int, int] = {}  # rows that had come when a column was added by a reload
        self._n_stored: dict[int, int] = {}  # batches of each column
        self.n_rows = 0

    @property
    def rows_until_complete(self) -> int:
        """Number of rows until the next column is complete; 0 if one is complete now."""
        return min(self._begun.get(index, 0) + wanted for index, wanted in self._wanted.items()) - self.n_rows

    def add(self, batch: SampleBatch) -> None:
        """Keep the rows of a batch, at most `rows_until_complete`."""
        invalid = dict(batch.invalid)
        for index, kept in self._kept.items():
            kept.append(batch.columns[index].copy())
            self._invalid[index].append(invalid.get(index, _NO_ROWS))
        self.n_rows += batch.n_rows

    def take_complete(self) -> dict[int, tuple[Column, IntArray]]:
        """Remove the columns that have all of their rows; return them, and the rows of invalid values, by index."""
        complete = [
            index for index, wanted in self._wanted.items() if self._begun.get(index, 0) + wanted <= self.n_rows
        ]
        for index in complete:
            del self._wanted[index]
        return {index: _joined_batches(self._kept.pop(index), self._invalid.pop(index)) for index in complete}

    def changes(self) -> dict[str, bytes | None]:
        """Return what was kept since `stored`: batches of each column, and the number of rows."""
        found: dict[str, bytes | None] = {}
        for index, kept in self._kept.items():
            if index in self._begun and index not in self._n_stored:
                found[f"begun/{index}"] = str(self._begun[index]).encode()
            for i in range(self._n_stored.get(index, 0), len(kept)):
                found[f"{index}/{i:08}"] = _array_bytes(kept[i])
                if (rows := self._invalid[index][i]).size:
                    found[f"invalid/{index}/{i:08}"] = _array_bytes(rows)
        if found:
            found["rows"] = str(self.n_rows).encode()
        return found

    def stored(self) -> None:
        """Take note that the changes are stored."""
        self._n_stored = {index: len(kept) for index, kept in self._kept.items()}

    def touch(self) -> None:
        """Mark everything as changed."""
        self._n_stored = {}

    def restore(self, entries: Mapping[str, bytes], learned: Collection[int]) -> None:
        """Restore what `changes` returned; the columns `learned` have become references since.

        Raises
        ------
        ValueError
            an entry is damaged
        """
        for index in learned:
            del self._wanted[index], self._kept[index], self._invalid[index]
        self.n_rows = int(entries.get("rows", b"0"))
        self._begun = {int(index): int(rows) for index, rows in below("begun", entries).items()}
        for index, kept in self._kept.items():
            rows = below(f"invalid/{index}", entries)
            for batch, value in sorted(below(str(index), entries).items()):
                kept.append(_array(value))
                self._invalid[index].append(_array(rows[batch]) if batch in rows else _NO_ROWS)
        self.stored()

    def take_over(self, entries: Mapping[str, bytes], indices: Mapping[int, int], learned: Collection[int]) -> None:
        """Restore what another schema's `changes` returned; its column i is column ``indices[i]``, others begin now."""
        rows = entries.get("rows", b"0")
        moved = {"rows": rows}
        for old, new in indices.items():
            moved |= {f"{new}/{batch}": value for batch, value in below(str(old), entries).items()}
            moved |= {f"invalid/{new}/{batch}": value for batch, value in below(f"invalid/{old}", entries).items()}
            if f"begun/{old}" in entries:
                moved[f"begun/{new}"] = entries[f"begun/{old}"]
        for index in self._wanted.keys() - set(indices.values()) - set(learned):
            moved[f"begun/{index}"] = rows
        self.restore(moved, learned)

    @property
    def done(self) -> bool:
        """Whether nothing is left to learn."""
        return not self._wanted


def _joined_batches(parts: Sequence[Column], invalid: Sequence[IntArray]) -> tuple[Column, IntArray]:
    """Join the parts of a column, and the rows of its invalid values, which are numbered within each part."""
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    rows = [own + start for own, start in zip(invalid, starts, strict=True)]
    return np.concatenate([np.asarray(part) for part in parts]), np.concatenate(rows)


def _array_bytes(array: Column | IntArray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _array(stored: bytes) -> Any:
    return np.load(io.BytesIO(stored), allow_pickle=False)


def to_learn(spec: FeatureSpec, rows: int, offset_ms: int = 0) -> FeatureReference:
    """Return what stands in for a reference until it is learned: cells, but nothing to compare with."""
    shape = SHAPES[spec.kind].preliminary(spec)
    n_cells = len(shape.cells)
    return FeatureReference(
        name=spec.name,
        shape=shape,
        panes=None,
        probabilities=np.full(n_cells, 1 / n_cells),
        source=f"the first {rows:,} rows of the stream",
        learn=rows,
        offset_ms=offset_ms,
        knows_missing=False,
    )


def learned_reference(
    spec: FeatureSpec,
    awaited: FeatureReference,
    learned: tuple[Column, IntArray],
    vocabulary: Vocabulary | None,
    now_ms: int,
) -> FeatureReference:
    """Return the reference that the rows make, or one that supports no verdict where they make none.

    Parameters
    ----------
    learned : the column, and the rows of its invalid values
    """
    column, invalid = learned
    source = awaited.source
    data: FloatArray | CategoricalColumn
    if vocabulary is None:
        data = column.astype(np.float64, copy=False)
    else:
        data = CategoricalColumn(vocabulary.texts, np.where(column < vocabulary.limit, column, -1).astype(np.int32))
        if np.any(column == vocabulary.limit):
            flaw = f"more than {vocabulary.limit:,} different values among {source}: is it an identifier? remove it"
            return replace(awaited, learn=0, flaw=flaw)
    try:
        (made,) = build_references([spec], [data], now_ms, source, [invalid], by_time=True)
    except ReferenceProblem as problem:
        return replace(awaited, learn=0, flaw=str(problem))
    if vocabulary is not None:  # these have cells from now on
        for text in other_booleans(made.shape.schema(spec.name).categories):
            vocabulary.code(text)
    return replace(made, offset_ms=awaited.offset_ms)


def split(batch: SampleBatch, row: int) -> tuple[SampleBatch, SampleBatch]:
    """Split a batch into the rows before `row` and the others."""
    return _part(batch, 0, row), _part(batch, row, batch.n_rows)


def _part(batch: SampleBatch, start: int, stop: int) -> SampleBatch:
    invalid = [(feature, rows[(rows >= start) & (rows < stop)] - start) for feature, rows in batch.invalid]
    return replace(
        batch,
        n_rows=stop - start,
        columns=tuple(column[start:stop] for column in batch.columns),
        event_ms=None if batch.event_ms is None else batch.event_ms[start:stop],
        invalid=tuple((feature, rows) for feature, rows in invalid if rows.size),
    )


def joined(first: AddResult, second: AddResult, row: int) -> AddResult:
    """Join the results of both parts of a batch that was split at `row`."""

    def rows(a: IntArray, b: IntArray) -> IntArray:
        return np.concatenate([a, b + row])

    return AddResult(
        first.counted + second.counted,
        rows(first.late, second.late),
        rows(first.future, second.future),
        first.invalid + second.invalid,
        first.folded + second.folded,
        first.learned + second.learned,
    )
