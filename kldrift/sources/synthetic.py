"""A made-up stream with a drift at a known row, for demonstrations and tests."""

import threading
from collections.abc import Callable, Generator, Mapping
from hashlib import blake2b

import numpy as np
import orjson

from kldrift.records.samples import Chunk
from kldrift.sources.base import Positions
from kldrift.sources.distributions import Distribution, Value

#: Rows drawn at once. Part of what a seed means: another number gives other rows.
BLOCK_ROWS = 4096


class SyntheticSource:
    """NDJSON rows with independent features of given distributions.

    Row k is a function of the seed, k and the names of the features only: each block of `BLOCK_ROWS` rows of a feature
    has its own Philox counters (Salmon et al. 2011), so that the stream can go on from any row. A position is
    ``{"row": next row, "start_ms": when row 0 was due}``. Row k is due at ``start_ms + 1000 k / rate``; after a pause
    the rows that came due meanwhile follow at once, as from any log.

    Parameters
    ----------
    name : in the configuration
    features : what to draw
    rate : rows a second; None or 0: as fast as they are taken
    seed : in [0, 2^64)
    rows : how many in all; None: no end
    drift_after_ms : when `drift_features` take over, from row 0 on: at row ``rate · drift_after_ms / 1000``
    drift_after_rows : the same as a row, also without a rate
    drift_features : the distributions after the drift; features not named keep theirs
    timestamp_field : a field that gets the instant when the row is due (ms); needs a rate
    clock_ms : the time, in ms since the epoch
    chunk_rows : rows in a chunk, at most
    poll_seconds : between two looks at the clock
    wait : waits until the event is set, at most so many seconds
    """

    stream = "synthetic"

    def __init__(
        self,
        name: str,
        features: Mapping[str, Distribution],
        rate: float | None,
        seed: int,
        clock_ms: Callable[[], int],
        *,
        rows: int | None = None,
        drift_after_ms: int | None = None,
        drift_after_rows: int | None = None,
        drift_features: Mapping[str, Distribution] | None = None,
        timestamp_field: str | None = None,
        chunk_rows: int = BLOCK_ROWS,
        poll_seconds: float = 0.1,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.name = name
        self._features = dict(features)
        self._rate = rate or None
        self._seed = seed
        self._rows = rows
        self._clock_ms = clock_ms
        self._timestamp_field = timestamp_field
        self._chunk_rows = chunk_rows
        self._poll_seconds = poll_seconds
        self._wait = wait
        self._block = -1
        self._lines: list[bytes] = []
        self._drift_features = dict(drift_features or {})
        unknown = sorted(self._drift_features.keys() - self._features.keys())
        if unknown:
            raise ValueError(f"drift_features: expected names out of {', '.join(features)}, got {', '.join(unknown)}")
        if drift_after_ms is not None and drift_after_rows is not None:
            raise ValueError("expected drift_after_ms or drift_after_rows, got both; drop one")
        if self._rate is None and (drift_after_ms is not None or timestamp_field is not None):
            raise ValueError(
                "drift_after_ms and timestamp_field need a rate: without one, rows have no times; set rate, or"
                " drift_after_rows"
            )
        if self._rate is not None and not 0 < self._rate < float("inf"):
            raise ValueError(f"rate: expected rows a second, 0 or more, got {rate}")
        if timestamp_field in self._features:
            raise ValueError(f"timestamp_field: {timestamp_field!r} is a feature; choose another name")
        self._drift_row = drift_after_rows
        if drift_after_ms is not None and self._rate is not None:
            self._drift_row = int(self._rate * drift_after_ms / 1000)

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the rows that are due; see `Source`."""
        position = positions.get(self.stream, {})
        row = int(position.get("row", 0))
        self._block = -1  # its timestamps may have been made for another start
        start_ms = int(position.get("start_ms", self._clock_ms() - self._due_after_ms(row)))
        while not stop.is_set() and (self._rows is None or row < self._rows):
            end = min(row + self._chunk_rows, self._due_rows(start_ms, row))
            if self._rows is not None:
                end = min(end, self._rows)
            # One block at a time: it is drawn once, however small the chunks.
            end = min(end, (row // BLOCK_ROWS + 1) * BLOCK_ROWS)
            if end <= row:
                yield None
                self._wait(stop, self._poll_seconds)
                continue
            payload = b"".join(self._block_lines(row // BLOCK_ROWS, start_ms)[row % BLOCK_ROWS :][: end - row])
            row = end
            yield Chunk(self.stream, {"row": row, "start_ms": start_ms}, payload, self._clock_ms())

    def _due_after_ms(self, row: int) -> int:
        return int(1000 * row / self._rate) if self._rate else 0

    def _due_rows(self, start_ms: int, row: int) -> int:
        """How many rows are due by now, from row 0 on."""
        if self._rate is None:
            return row + self._chunk_rows
        return int((self._clock_ms() - start_ms) * self._rate / 1000)

    def _block_lines(self, block: int, start_ms: int) -> list[bytes]:
        if block != self._block:
            first = block * BLOCK_ROWS
            columns: dict[str, list[Value | None]] = {}
            if self._timestamp_field is not None:
                columns[self._timestamp_field] = [start_ms + self._due_after_ms(first + k) for k in range(BLOCK_ROWS)]
            columns |= {name: self._column(name, block) for name in self._features}
            names = list(columns)
            self._lines = [
                orjson.dumps(dict(zip(names, values, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
                for values in zip(*columns.values(), strict=True)
            ]
            self._block = block
        return self._lines

    def _column(self, name: str, block: int) -> list[Value | None]:
        """One feature of a block, from before the drift, after it, or both."""
        after = BLOCK_ROWS  # the first row of the block that has drifted
        if self._drift_row is not None and name in self._drift_features:
            after = min(BLOCK_ROWS, max(0, self._drift_row - block * BLOCK_ROWS))
        before = self._draw(self._features[name], name, block)[:after] if after else []
        return before if after == BLOCK_ROWS else before + self._draw(self._drift_features[name], name, block)[after:]

    def _draw(self, distribution: Distribution, name: str, block: int) -> list[Value | None]:
        feature = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        values: list[Value | None] = list(distribution.draw(self._random(feature, block, 0), BLOCK_ROWS))
        if distribution.missing:
            gone = self._random(feature, block, 1).random(BLOCK_ROWS) < distribution.missing
            for k in np.flatnonzero(gone).tolist():
                values[k] = None
        return values

    def _random(self, feature: int, block: int, purpose: int) -> np.random.Generator:
        # The lowest counter word counts the draws; the others keep the streams apart.
        counter = np.array([0, purpose, block, feature], np.uint64)
        return np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
