"""From bytes to samples: pieces of sources, what to decode, and the result."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kldrift.records.categories import canonical
from kldrift.records.kinds import ColumnKind
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import Aspect, CodeArray, IntArray, TimeUnit


class Vocabulary:
    """Texts and their codes in order of appearance, for categories that are not known in advance.

    Decoders in several threads add to it. A code never changes once assigned. A text is found in any spelling.

    Parameters
    ----------
    limit : maximum number of texts with a code of their own
    texts : the initial texts
    """

    def __init__(self, limit: int, texts: Sequence[str] = ()) -> None:
        self.limit = limit
        self._texts = list(texts[:limit])
        self._codes: dict[str, int] = {}
        for code, text in enumerate(self._texts):  # stored ones may have another spelling
            self._codes.setdefault(canonical(text), code)
        self._lock = threading.Lock()

    def code(self, text: str) -> int:
        """Return the code of a text, assigning one if the text is new and there is room; else `limit`."""
        text = canonical(text)
        code = self._codes.get(text)
        if code is not None:
            return code
        with self._lock:
            if text not in self._codes and len(self._texts) < self.limit:
                self._texts.append(text)
                self._codes[text] = len(self._texts) - 1
            return self._codes.get(text, self.limit)

    def find(self, text: str) -> int | None:
        """Return the code of a text, or None if it has none."""
        return self._codes.get(canonical(text))

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, in order of their codes."""
        return tuple(self._texts)


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """What to decode for one column.

    A numeric column is (n_rows,) float64, NaN where missing. A categorical column is (n_rows,) int32: the index into
    `categories`, `unseen_code` for a value that is not among them, `missing_code` for missing. With a `vocabulary`
    instead of categories, codes are those of the vocabulary. A category is its text, in the spelling that
    `kldrift.records.categories` defines.
    A vector column is (n_rows, dimensions) float64, C-contiguous; all NaN where a vector is missing or invalid (not a
    list, the wrong length, or an element that is not a finite number). There is no column of kind ``posterior``: it is
    read as a vector.
    With `of`, a numeric column holds that aspect of the values, such as the hour of a time; `unit` is that of times
    that are numbers.
    """

    name: str
    kind: ColumnKind
    categories: tuple[str, ...] = ()
    dimensions: int = 0
    vocabulary: Vocabulary | None = None
    of: Aspect | None = None
    unit: TimeUnit = "iso8601"

    @property
    def unseen_code(self) -> int:
        """Code of a value that is not among the categories."""
        return len(self.categories) if self.vocabulary is None else self.vocabulary.limit

    @property
    def missing_code(self) -> int:
        """Code of a null, absent or invalid value."""
        return self.unseen_code + 1


@dataclass(frozen=True, slots=True)
class BatchSchema:
    """The columns that a monitor needs from a row.

    These are its features, followed by the column by which it is segmented, if it is. Two columns may read the same
    field.

    Parameters
    ----------
    missing_values : texts that stand for a missing value; None for those of the format
    segmented : whether the last column is that of the segments
    """

    features: tuple[FeatureSchema, ...]
    timestamp: TimestampSpec | None = None
    missing_values: frozenset[str] | None = None
    segmented: bool = False

    @property
    def watched(self) -> tuple[str, ...]:
        """The fields of the features: a row that holds none of them is no sample."""
        return tuple(feature.name for feature in (self.features[:-1] if self.segmented else self.features))

    @property
    def row_numbers(self) -> int:
        """Number of values (numbers and codes) in a row."""
        return sum(max(1, feature.dimensions) for feature in self.features)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of rows that were counted while they were read.

    Parameters
    ----------
    layout : the bins; these counts can only be added to counts with the same layout
    values : (n_cells,) int64
    """

    layout: object
    values: IntArray


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Rows as columns, in the order of the schema's features, or as counts.

    Parameters
    ----------
    n_rows : rows in every column, without rejected rows
    columns : one C-contiguous array per column of the schema, (n_rows,) or (n_rows, dimensions), float64 or int32 (see
        `FeatureSchema`)
    event_ms : (n_rows,) int64 event times; None where the schema has no timestamp
    invalid : (feature index, row indices) of values of the wrong type; the column holds *missing* there
    n_bytes : memory held by the batch, for the bounded queue
    counts : counts of the rows instead of columns
    """

    n_rows: int
    columns: tuple[npt.NDArray[np.float64] | npt.NDArray[np.int32], ...]
    event_ms: IntArray | None = None
    invalid: tuple[tuple[int, IntArray], ...] = ()
    n_bytes: int = 0
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row or one of its values was rejected; `feature` is None for a whole row."""

    row: int
    feature: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class BodyResult:
    """The result of one body in a gathered decode.

    Parameters
    ----------
    accepted : rows of this body in the batch, which are consecutive, in the order of the bodies
    rejected : rejected rows by reason, a word from a bounded set (``malformed``, ``not_an_object``, ``timestamp`` …)
    errors : the first ten, with row numbers counted from 0 in this body
    unreadable : why nothing could be read (`accepted` is 0 then), else None
    rows : (accepted,) row numbers of the accepted rows; None if they are 0, 1, 2 …
    """

    accepted: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()
    unreadable: str | None = None
    rows: IntArray | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a posted body, once its samples are committed.

    Parameters
    ----------
    accepted : rows that were counted
    rejected : rows that could not be read
    late : rows that arrived after their window had closed
    errors : the first ten reasons, with row numbers counted from 0 in the body
    unreadable : why nothing could be read (the numbers are 0 then), else None
    replayed : the post was sent before with the same key, and this is its first answer
    """

    accepted: int
    rejected: int = 0
    late: int = 0
    errors: tuple[RowError, ...] = ()
    unreadable: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch and the result of each body that went into it."""

    batch: SampleBatch
    bodies: tuple[BodyResult, ...]


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """A categorical column of reference data: distinct `values`, and `codes` into them, -1 where missing."""

    values: tuple[str, ...]
    codes: CodeArray


#: Numbers in the largest piece of a Parquet file (128 MB).
MAX_CHUNK_NUMBERS = 1 << 24


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows of a file whose format is not a byte stream (Parquet)."""

    path: Path
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a source.

    Parameters
    ----------
    stream : the log within the source that the piece came from (a path, a partition); each has its own position
    position : where to continue after this piece, in the source's own terms; can be written as JSON
    payload : complete records only; empty where only the position moves
    arrival_ms : when it was read; the event time of rows that carry none
    lag_records : number of records that wait after this piece, if known
    header : the record that names the columns, with its newline, if the format has one (CSV); not in `payload`
    lag_bytes : number of bytes of this stream that wait after this piece, if known
    times_ms : (n_records,) the records' own times, if the source has them; the event time of rows that carry none
    offsets : (n_records,) the offset of each record in its stream, if known; for the log
    """

    stream: str
    position: Mapping[str, int | str]
    payload: bytes | RowRange
    arrival_ms: int
    lag_records: int | None = None
    header: bytes = b""
    lag_bytes: int | None = None
    times_ms: IntArray | None = None
    offsets: IntArray | None = None
