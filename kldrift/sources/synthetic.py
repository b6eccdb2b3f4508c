"""A synthetic stream that drifts at a known row, for demonstrations and tests."""

import threading
from collections.abc import Callable, Generator
from hashlib import blake2b

import numpy as np
import orjson

from kldrift.records.samples import Chunk
from kldrift.records.sources import SyntheticSourceConfig
from kldrift.sources.base import Positions, Surroundings
from kldrift.sources.distributions import Sampler, Value, sampler

#: Rows drawn at once. Part of what a seed means: a different block size yields different rows.
BLOCK_ROWS = 4096


class SyntheticSource:
    """NDJSON rows with independent features.

    Row k depends only on the seed, on k and on the names of the features: each block of `BLOCK_ROWS` rows of a feature
    has its own Philox counters (Salmon et al. 2011), so the stream can continue from any row. A position is
    ``{"row": next row, "start_ms": when row 0 was due}``. Row k is due at ``start_ms + 1000 k / rate``; after a pause,
    the rows that fell due in the meantime follow at once, as they would from any log. The drift begins at row
    ``rate · drift_after_ms / 1000``; features that do not drift keep their distribution.

    Parameters
    ----------
    chunk_rows : maximum number of rows in a chunk
    poll_seconds : time between two looks at the clock
    wait : waits until the event is set, for at most the given number of seconds

    Raises
    ------
    ValueError
        the record contradicts itself, or a distribution has a wrong parameter
    """

    stream = "synthetic"

    def __init__(
        self,
        config: SyntheticSourceConfig,
        surroundings: Surroundings,
        *,
        chunk_rows: int = BLOCK_ROWS,
        poll_seconds: float = 0.1,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.name = config.name
        self._features = {name: sampler(given) for name, given in config.features.items()}
        self._drifted = {name: sampler(given) for name, given in config.drifted.items()}
        self._rate = config.rate_per_second or None
        self._seed = config.seed
        self._rows = config.rows
        self._clock_ms = surroundings.clock_ms
        self._chunk_rows = chunk_rows
        self._poll_seconds = poll_seconds
        self._wait = wait
        self._block = -1
        self._lines: list[bytes] = []
        unknown = sorted(self._drifted.keys() - self._features.keys())
        if unknown:
            raise ValueError(f"drifted: expected names out of {', '.join(config.features)}, got {', '.join(unknown)}")
        if self._rate is not None and not 0 < self._rate < float("inf"):
            raise ValueError(f"rate: expected rows per second, 0 or more, got {config.rate_per_second}")
        self._drift_row: int | None = None
        if config.drift_after_ms is not None:
            if self._rate is None:
                raise ValueError("drift_after_ms needs a rate: without one, rows have no times; set a rate")
            self._drift_row = int(self._rate * config.drift_after_ms / 1000)

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the rows that are due; see `Source`."""
        position = positions.get(self.stream, {})
        row = int(position.get("row", 0))
        start_ms = int(position.get("start_ms", self._clock_ms() - self._due_after_ms(row)))
        while not stop.is_set() and (self._rows is None or row < self._rows):
            end = min(row + self._chunk_rows, self._due_rows(start_ms, row))
            if self._rows is not None:
                end = min(end, self._rows)
            # One block at a time: however small the chunks, it is drawn only once.
            end = min(end, (row // BLOCK_ROWS + 1) * BLOCK_ROWS)
            if end <= row:
                yield None
                self._wait(stop, self._poll_seconds)
                continue
            payload = b"".join(self._block_lines(row // BLOCK_ROWS)[row % BLOCK_ROWS :][: end - row])
            row = end
            yield Chunk(self.stream, {"row": row, "start_ms": start_ms}, payload, self._clock_ms())

    def _due_after_ms(self, row: int) -> int:
        return int(1000 * row / self._rate) if self._rate else 0

    def _due_rows(self, start_ms: int, row: int) -> int:
        """Return the number of rows due by now, counted from row 0."""
        if self._rate is None:
            return row + self._chunk_rows
        return int((self._clock_ms() - start_ms) * self._rate / 1000)

    def _block_lines(self, block: int) -> list[bytes]:
        if block != self._block:
            names = list(self._features)
            columns = [self._column(name, block) for name in names]
            self._lines = [
                orjson.dumps(dict(zip(names, values, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
                for values in zip(*columns, strict=True)
            ]
            self._block = block
        return self._lines

    def _column(self, name: str, block: int) -> list[Value | None]:
        """Return one feature of a block, which may lie before the drift, after it, or across it."""
        after = BLOCK_ROWS  # first row of the block that has drifted
        if self._drift_row is not None and name in self._drifted:
            after = min(BLOCK_ROWS, max(0, self._drift_row - block * BLOCK_ROWS))
        before = self._draw(self._features[name], name, block)[:after] if after else []
        return before if after == BLOCK_ROWS else before + self._draw(self._drifted[name], name, block)[after:]

    def _draw(self, distribution: Sampler, name: str, block: int) -> list[Value | None]:
        feature = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        values: list[Value | None] = list(distribution.draw(self._random(feature, block, 0), BLOCK_ROWS))
        if distribution.missing:
            is_missing = self._random(feature, block, 1).random(BLOCK_ROWS) < distribution.missing
            for k in np.flatnonzero(is_missing).tolist():
                values[k] = None
        return values

    def _random(self, feature: int, block: int, purpose: int) -> np.random.Generator:
        # The lowest counter word counts the draws; the other words keep the streams apart.
        counter = np.array([0, purpose, block, feature], np.uint64)
        return np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
