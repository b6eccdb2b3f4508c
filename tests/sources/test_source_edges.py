"""Records, standard input and made-up rows, where one case ends and another begins."""

import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.records.samples import Chunk
from kldrift.records.sources import Distribution, StdinSourceConfig, SyntheticSourceConfig
from kldrift.sources import framing
from kldrift.sources.base import Surroundings
from kldrift.sources.distributions import sampler
from kldrift.sources.framing import read_records, records_end
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import BLOCK_ROWS, SyntheticSource

# --- records ------------------------------------------------------------------------------------------


class Bytes:
    """A reader of bytes, which counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[int] = []

    def available(self, offset: int, n: int) -> int:
        return max(0, min(n, len(self.data) - offset))

    def read(self, offset: int, n: int) -> bytes:
        self.reads.append(n)
        return self.data[offset : offset + n]


@pytest.mark.parametrize("probe", [1, 3, 8, 100])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_whole_records_of_a_stretch_are_read_whatever_its_size(
    probe: int, quoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_PROBE_BYTES", probe)
    data = b'ab\ncd,"x\ny"\n\nlonger than any probe of these\nrest'
    for n in range(len(data) + 3):
        for offset in (0, 3):
            piece = data[offset : offset + n]
            expected = piece[: records_end(piece, quoted)]
            reader = Bytes(data)
            assert read_records(reader, offset, n, quoted) == expected
            assert max(reader.reads, default=0) <= max(probe, len(piece))
            if len(piece) <= probe:
                assert len(reader.reads) == 1


@pytest.mark.parametrize(
    ("data", "length"),
    [(b'"\n', 0), (b'"\n"\n', 4), (b'\n"\n', 1), (b'"a"\n"', 4), (b'\n"\n\n', 1), (b'x"\ny\n', 0), (b'"', 0)],
)
def test_a_quote_at_the_very_beginning_counts(data: bytes, length: int) -> None:
    assert records_end(data, quoted=True) == length


# --- standard input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "skipped"), [(15, False), (16, True)])
def test_a_record_without_an_end_is_skipped_from_the_limit_on(length: int, skipped: bool, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    errors: list[str] = []
    source = StdinSource(
        StdinSourceConfig(name="stdin", format="ndjson"),
        Surroundings(lambda: 7, lambda reason, _: errors.append(reason)),
        fd=read_end,
        chunk_bytes=1,
        max_record_bytes=16,
        poll_seconds=0.01,
    )
    found = source.chunks({}, threading.Event())
    os.write(write_end, b"x" * length)
    until_none(found)
    os.write(write_end, b"\nnext\n")
    os.close(write_end)
    payload = b"".join(bytes(chunk.payload) for chunk in found if chunk is not None)  # type: ignore[arg-type]
    os.close(read_end)
    assert errors == (["record_too_long"] if skipped else [])
    assert payload == (b"next\n" if skipped else b"x" * length + b"\nnext\n")


def until_none(found: Generator[Chunk | None, None, None]) -> None:
    while next(found) is not None:
        pass


# --- made-up rows -------------------------------------------------------------------------------------


def synthetic(**changes: Any) -> SyntheticSource:
    given: dict[str, Any] = {
        "name": "demo",
        "rate_per_second": 0.0,
        "seed": 1,
        "rows": 2 * BLOCK_ROWS,
        "features": {"x": Distribution("uniform", {"low": 0, "high": 1}, missing=0.5)},
        "drift_after_ms": None,
        "drifted": {},
    }
    return SyntheticSource(SyntheticSourceConfig(**given | changes), Surroundings(lambda: 7, lambda *_: None))


def test_whether_a_value_is_missing_does_not_depend_on_the_value() -> None:
    plain = synthetic(features={"x": Distribution("uniform", {"low": 0, "high": 1})})
    holes = synthetic()
    values, with_holes = (made._column("x", 0) for made in (plain, holes))
    kept = [(a, b) for a, b in zip(values, with_holes, strict=True) if b is not None]
    assert all(a == b for a, b in kept)
    assert len(kept) == pytest.approx(BLOCK_ROWS / 2, rel=0.1)
    mean = sum(float(a) for a, _ in kept) / len(kept)  # type: ignore[arg-type]
    assert mean == pytest.approx(0.5, abs=0.05)


def test_the_rows_of_a_seed_stay_what_they_are_from_version_to_version() -> None:
    values = synthetic()._column("x", 0)
    assert [i for i, value in enumerate(values[:20]) if value is None] == [0, 3, 10, 11, 13, 15, 18]
    assert next(value for value in values if value is not None) == 0.38913203868492185
    assert [i for i, value in enumerate(synthetic()._column("x", 1)[:20]) if value is None] == [1, 2, 6, 9, 11, 14, 18]


# --- distributions ------------------------------------------------------------------------------------

INF = float("inf")


@pytest.mark.parametrize(
    ("name", "parameters", "fine"),
    [
        *(("normal", {"std": std}, fine) for std, fine in ((0.0, True), (0.5, True), (-0.1, False), (INF, False))),
        *(("lognormal", {"sigma": s}, fine) for s, fine in ((0.0, True), (0.5, True), (-0.1, False), (INF, False))),
        ("uniform", {"low": 0.0, "high": 0.0}, False),
        ("uniform", {"low": -INF, "high": 0.0}, False),
        ("uniform", {"low": 0.0, "high": INF}, False),
        ("uniform", {"low": 0.0, "high": 1e-9}, True),
        *(("exponential", {"scale": s}, fine) for s, fine in ((0.0, False), (0.5, True), (INF, False))),
        *(("poisson", {"rate": r}, fine) for r, fine in ((0.0, True), (0.5, True), (1e18, True), (1.1e18, False))),
        ("categorical", {"a": 0.0, "b": 0.5}, True),
        ("categorical", {"a": 0.0}, False),
        ("categorical", {"a": 1.0, "b": INF}, False),
        ("categorical", {"a": 1.0, "b": -1e-9}, False),
    ],
)
def test_parameters_up_to_their_bounds(name: Any, parameters: dict[str, float], fine: bool) -> None:
    given = Distribution(name, parameters)
    if fine:
        assert len(sampler(given).draw(np.random.default_rng(1), 3)) == 3
    else:
        with pytest.raises(ValueError, match="expected"):
            sampler(given)


@pytest.mark.parametrize(("missing", "fine"), [(0.0, True), (1.0, True), (1.01, False), (-0.01, False)])
def test_all_values_may_be_missing(missing: float, fine: bool) -> None:
    if not fine:
        with pytest.raises(ValueError, match="missing between 0 and 1"):
            sampler(Distribution("normal", missing=missing))
        return
    made = synthetic(features={"x": Distribution("normal", missing=missing)})
    assert sum(value is None for value in made._column("x", 0)) == missing * BLOCK_ROWS
