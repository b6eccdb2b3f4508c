"""The same values in any two formats: no drift between them, by `compare` and by the daemon's own way."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kldrift.assembly.monitors import build_monitor
from kldrift.config.load import load_config
from kldrift.daemon.parts import run_once
from kldrift.datafiles.reference import read_columns
from kldrift.drift.references.data import build_references
from kldrift.drift.references.file import dump_references
from kldrift.errors import ReferenceProblem
from kldrift.export.telemetry import Telemetry
from kldrift.offline.compare import compare_files
from kldrift.records.samples import CategoricalColumn, RowRange
from kldrift.records.specs import (
    FeatureSpec,
    MonitorSpec,
    ReferenceData,
    ReferenceFamily,
    ReferenceFile,
    ReferenceInline,
    ReferenceLearn,
    ReferenceSpec,
    SegmentSpec,
    WindowSpec,
)
from kldrift.wire import decode, decode_rows

WINDOWS = (WindowSpec("1h", 3_600_000),)
Write = Callable[[Sequence[Any], Path, str], Path]


def parquet(values: Sequence[Any], folder: Path, name: str) -> Path:
    pl.DataFrame({"c": values}, strict=False).write_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def ndjson(values: Sequence[Any], folder: Path, name: str) -> Path:
    path = folder / f"{name}.ndjson"
    path.write_text("".join(json.dumps({"c": value}) + "\n" for value in values))
    return path


def plain_csv(values: Sequence[Any], folder: Path, name: str) -> Path:
    """As Python writes them: True, 1.0."""
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("c", "z"), *(("" if value is None else value, 0) for value in values)])
    return path


WRITERS = [parquet, ndjson, plain_csv]
N = 3000
#: Of a distribution from itself: what smoothing gives to the cells that are empty.
SMOOTHING = 2e-3
INTEGERS = np.random.default_rng(1).choice([1, 2, 3], N).tolist()
#: The same values in several types.
SAME: dict[str, list[list[Any]]] = {
    "integers": [INTEGERS, [float(i) for i in INTEGERS], [str(i) for i in INTEGERS], [f"{i}.00" for i in INTEGERS]],
    "booleans": [
        [i == 1 for i in INTEGERS], [str(i == 1) for i in INTEGERS], [str(i == 1).lower() for i in INTEGERS],
        [str(i == 1).upper() for i in INTEGERS], [int(i == 1) for i in INTEGERS], [float(i == 1) for i in INTEGERS],
    ],
    "missing": [["" if i == 1 else str(i) for i in INTEGERS], [None if i == 1 else float(i) for i in INTEGERS]],
}  # fmt: skip


def kl_of(reference: ReferenceSpec, live: Path) -> float:
    """Return the divergence of the rows of a file, decoded as bodies are."""
    spec = MonitorSpec("m", (FeatureSpec("c", "categorical", reference=reference),), WINDOWS)
    monitor = build_monitor(spec, 1)
    format_of = {".csv": "csv", ".ndjson": "ndjson"}[live.suffix]
    decoded = decode(format_of, [live.read_bytes()], monitor.schema, bins=monitor.bins)  # type: ignore[arg-type]
    monitor.add(decoded.batch, "", 1_000_000)
    return float(monitor.evaluate(1_000_000).divergences[0, 0, 0])


@pytest.mark.parametrize("what", SAME)
@pytest.mark.parametrize("write_live", WRITERS)
@pytest.mark.parametrize("write_reference", WRITERS)
def test_compare(what: str, write_reference: Write, write_live: Write, tmp_path: Path) -> None:
    given = MonitorSpec("m", (FeatureSpec("c", "categorical"),), WINDOWS)
    for values in SAME[what]:
        reference = write_reference(values, tmp_path, "reference")
        for others in SAME[what]:
            monitor = compare_files(reference, write_live(others, tmp_path, "live"), given, now_ms=1).monitor
            assert monitor.divergences[0, 0, 0] < SMOOTHING, (values[:3], others[:3])
            assert monitor.unseen_ratio[0, 0] == 0


@pytest.mark.parametrize("what", SAME)
def test_daemon(what: str, tmp_path: Path) -> None:
    for values in SAME[what]:
        reference = ReferenceData(parquet(values, tmp_path, "reference"))
        for others in SAME[what]:
            for write in (ndjson, plain_csv):
                assert kl_of(reference, write(others, tmp_path, "live")) < SMOOTHING, (values[:3], others[:3])


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["1.0", "1", "2.00", "-0.0", "1.10", "007", None, "True", "TRUE", "false"],
         CategoricalColumn(("0", "007", "1", "1.10", "2", "false", "true"),
                           np.array([2, 2, 4, 0, 3, 1, -1, 6, 6, 5], dtype=np.int32))),
        (["", "a", None, " ", "A"],
         CategoricalColumn((" ", "A", "a"), np.array([-1, 2, -1, 0, 1], dtype=np.int32))),
    ],
)  # fmt: skip
def test_reference_columns(values: list[str | None], column: CategoricalColumn, tmp_path: Path) -> None:
    for write in WRITERS:
        (found,) = read_columns(write(values, tmp_path, "reference"), [("c", "categorical")]).columns
        assert isinstance(found, CategoricalColumn)
        assert found.values == column.values, write
        np.testing.assert_array_equal(found.codes, column.codes)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (("1.0", "2.0", "3.0"), INTEGERS),
        (("True", "False"), [i == 1 for i in INTEGERS]),
        (("true", "false"), [int(i == 1) for i in INTEGERS]),
        (("1", "0"), [i == 1 for i in INTEGERS]),
    ],
)
def test_what_was_written_or_stored_in_another_spelling(
    texts: tuple[str, ...], values: list[Any], tmp_path: Path
) -> None:
    numbers = dict(zip(texts, (1, 2, 3) if len(texts) == 3 else (True, False), strict=True))
    counts = tuple(sum(value == number for value in values) for number in numbers.values())
    written = ReferenceInline(categories=texts, counts=counts)
    column = CategoricalColumn(texts, np.repeat(np.arange(len(texts), dtype=np.int32), counts))
    stored = tmp_path / "reference.json"
    stored.write_text(dump_references(build_references([FeatureSpec("c", "categorical")], [column], 1, "old")))
    for write in (ndjson, plain_csv):
        live = write(values, tmp_path, "live")
        assert kl_of(written, live) < SMOOTHING
        assert kl_of(ReferenceFile(stored), live) < SMOOTHING


def test_a_reference_file_with_two_spellings_of_a_category_is_refused(tmp_path: Path) -> None:
    column = CategoricalColumn(("1", "1.0", "2"), np.array([0, 1, 2] * 100, dtype=np.int32))
    stored = tmp_path / "reference.json"
    stored.write_text(dump_references(build_references([FeatureSpec("c", "categorical")], [column], 1, "old")))
    with pytest.raises(ReferenceProblem, match="c: expected each category once, got several spellings of 1,"):
        kl_of(ReferenceFile(stored), ndjson(["1"], tmp_path, "live"))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("first", SAME["booleans"])
def test_a_learned_reference_takes_what_comes_later(first: list[Any], write: Write, tmp_path: Path) -> None:
    """The vocabulary has the later texts as well; a boolean learned from one type is the same in another."""
    spec = MonitorSpec("m", (FeatureSpec("c", "categorical", reference=ReferenceLearn(N)),), WINDOWS)
    for later in SAME["booleans"]:
        monitor = build_monitor(spec, 1)
        for values in (first, later):
            path = write(values, tmp_path, "live")
            schema = monitor.schema
            decoded = (
                decode_rows("parquet", RowRange(path, 0, N), schema)
                if path.suffix == ".parquet"
                else decode({".csv": "csv", ".ndjson": "ndjson"}[path.suffix], [path.read_bytes()], schema)  # type: ignore[arg-type]
            )
            monitor.add(decoded.batch, "", 1_000_000)
        snapshot = monitor.evaluate(1_000_000)
        assert snapshot.samples[0, 0] == N
        assert snapshot.unseen_ratio[0, 0] == 0, (first[:3], later[:3])
        assert snapshot.divergences[0, 0, 0] < SMOOTHING


@pytest.mark.parametrize("values", SAME["booleans"])
def test_a_coin_is_fitted_to_booleans_of_any_type(values: list[Any], tmp_path: Path) -> None:
    for write in WRITERS:
        path = write(values, tmp_path, "reference")
        coin = ReferenceFamily("bernoulli", fit=path)
        for others in SAME["booleans"]:
            assert kl_of(coin, ndjson(others, tmp_path, "live")) < SMOOTHING


# --- missing values -------------------------------------------------------------------------------

MARKED = [None if i == 1 else i for i in INTEGERS]
WRITTEN = np.random.default_rng(2).choice(["NA", "N/A", "nan", "null", "None", ""], N).tolist()
CONFIG = """
sources:
  rows: {{type: file, path: {live}{of_source}}}
monitors:
  m:
    sources: [rows]
    windows: [1h]
    reference: {{data: {reference}}}{of_monitor}
    features:
      c: {{kind: {kind}}}
"""


def marked(text: str | None = None) -> list[Any]:
    """Return the values with texts in place of missing ones."""
    return [
        (written if text is None else text) if value is None else str(value)
        for value, written in zip(MARKED, WRITTEN, strict=True)
    ]


def run(folder: Path, reference: Path, live: Path, kind: str, of_monitor: str = "", of_source: str = "") -> Any:
    """Return what the daemon makes of the rows of a file."""
    (folder / "kldrift.yaml").write_text(
        CONFIG.format(
            reference=reference.name,
            live=live.name,
            kind=kind,
            of_monitor=of_monitor and f"\n    missing_values: {of_monitor}",
            of_source=of_source and f", missing_values: {of_source}",
        )
    )
    snapshot, rows, _, failures = run_once(load_config(folder / "kldrift.yaml"), Telemetry())
    assert failures == []
    assert rows == N
    return snapshot.monitors[0]


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_markers_in_csv_are_what_null_is_elsewhere(kind: str, tmp_path: Path) -> None:
    nulls = parquet(MARKED, tmp_path, "nulls")
    texts = plain_csv(marked(), tmp_path, "texts")
    assert '"NA"' not in texts.read_text()
    spec = MonitorSpec("m", (FeatureSpec("c", kind),), WINDOWS)  # type: ignore[arg-type]
    for reference, live in ((nulls, texts), (texts, nulls), (texts, texts)):
        for found in (compare_files(reference, live, spec, now_ms=1).monitor, run(tmp_path, reference, live, kind)):
            assert found.divergences[0, 0, 0] < SMOOTHING
            assert found.missing_ratio[0, 0] == pytest.approx(INTEGERS.count(1) / N)
            assert found.invalid_ratio[0, 0] == 0
    assert compare_files(texts, texts, now_ms=1).monitor.divergences[0, 0, 0] < SMOOTHING
    assert compare_files(texts, nulls, now_ms=1).monitor.divergences[0, 0, 0] < SMOOTHING


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@pytest.mark.parametrize("write", WRITERS)
def test_configured_markers(kind: str, write: Write, tmp_path: Path) -> None:
    nulls = parquet(MARKED, tmp_path, "nulls")
    dashes = write(marked("-"), tmp_path, "dashes")
    for reference, live in ((nulls, dashes), (dashes, nulls), (dashes, dashes)):
        if write is not plain_csv and kind == "numeric":
            continue  # the others are texts, not numbers
        found = run(tmp_path, reference, live, kind, of_monitor='["-"]')
        assert found.divergences[0, 0, 0] < SMOOTHING
        assert found.missing_ratio[0, 0] == pytest.approx(INTEGERS.count(1) / N)
        given = load_config(tmp_path / "kldrift.yaml").monitors[0]
        assert compare_files(reference, live, given, now_ms=1).monitor.divergences[0, 0, 0] < SMOOTHING
    if write is plain_csv or kind == "categorical":
        assert run(tmp_path, nulls, dashes, kind).divergences[0, 0, 0] > 1


def test_numbers_that_stand_for_missing_ones(tmp_path: Path) -> None:
    nulls = parquet(MARKED, tmp_path, "nulls")
    for write in WRITERS:
        numbers = write([-999 if value is None else value for value in MARKED], tmp_path, "numbers")
        for kind in ("numeric", "categorical"):
            for reference, live in ((nulls, numbers), (numbers, nulls)):
                found = run(tmp_path, reference, live, kind, of_monitor="[-999]")
                assert found.divergences[0, 0, 0] < SMOOTHING, (write, kind)
                assert found.missing_ratio[0, 0] == pytest.approx(INTEGERS.count(1) / N)


def test_the_list_of_a_source_is_for_its_rows(tmp_path: Path) -> None:
    reference = plain_csv(marked("NA"), tmp_path, "reference")
    for kind in ("numeric", "categorical"):
        found = run(tmp_path, reference, plain_csv(marked("?"), tmp_path, "live"), kind, of_source='["?"]')
        assert found.divergences[0, 0, 0] < SMOOTHING
        assert found.missing_ratio[0, 0] == pytest.approx(INTEGERS.count(1) / N)
        live = ndjson(marked("?"), tmp_path, "live")
        if kind == "categorical":
            assert run(tmp_path, reference, live, kind, "[NA]", '["?"]').divergences[0, 0, 0] < SMOOTHING
            assert run(tmp_path, reference, live, kind, '["?"]', "[]").unseen_ratio[0, 0] > 0.3
    parquets = parquet(marked("?"), tmp_path, "live")
    assert run(tmp_path, reference, parquets, "categorical", "[NA]", '["?"]').divergences[0, 0, 0] < SMOOTHING


def test_namibia(tmp_path: Path) -> None:
    countries = np.random.default_rng(3).choice(["NA", "ZA", "BW"], N).tolist()
    for write in WRITERS:
        reference, live = write(countries, tmp_path, "reference"), write(countries, tmp_path, "live")
        found = run(tmp_path, reference, live, "categorical", of_monitor="[]")
        assert found.divergences[0, 0, 0] < SMOOTHING
        assert found.missing_ratio[0, 0] == 0
    # a category of the reference remains one, whatever the format of live rows
    found = run(
        tmp_path, parquet(countries, tmp_path, "reference"), plain_csv(countries, tmp_path, "live"), "categorical"
    )
    assert found.divergences[0, 0, 0] < SMOOTHING
    assert found.missing_ratio[0, 0] == 0


@pytest.mark.parametrize("values", SAME["booleans"])
def test_boolean_segments(values: list[Any], tmp_path: Path) -> None:
    """Segments of a reference that are booleans take 0 and 1, and the other way round."""

    def rows(flags: list[Any], name: str) -> Path:
        frame = pl.DataFrame({"s": flags, "c": np.random.default_rng(5).normal(size=N)})
        frame.write_parquet(tmp_path / name)
        return tmp_path / name

    reference = ReferenceData(rows(values, "reference.parquet"))
    features = (FeatureSpec("c", "numeric"),)
    spec = MonitorSpec("m", features, WINDOWS, reference, segments=SegmentSpec("s", limit=5))
    for others in SAME["booleans"]:
        monitor = build_monitor(spec, 1)
        live = RowRange(rows(others, "live.parquet"), 0, N)
        monitor.add(decode_rows("parquet", live, monitor.schema).batch, "", 1_000_000)
        segments = {one.segment: int(one.samples[0, 0]) for one in monitor.evaluate(1_000_000).segments}
        assert sorted(segments.values()) == sorted([INTEGERS.count(1), N - INTEGERS.count(1)])
        assert segments.keys() in ({"true", "false"}, {"0", "1"})


def test_a_segment_is_not_a_marker(tmp_path: Path) -> None:
    rows = [("a", 1), ("NA", 2), ("", 3), ("b", 4)] * 300
    path = tmp_path / "rows.csv"
    path.write_text("s,c\n" + "".join(f"{s},{c}\n" for s, c in rows))
    spec = MonitorSpec(
        "m", (FeatureSpec("c", "numeric"),), WINDOWS, ReferenceData(path), segments=SegmentSpec("s", limit=5)
    )
    monitor = build_monitor(spec, 1)
    monitor.add(decode("csv", [path.read_bytes()], monitor.schema).batch, "", 1_000_000)
    segments = {one.segment: int(one.samples[0, 0]) for one in monitor.evaluate(1_000_000).segments}
    assert segments == {"a": 300, "b": 300, "other": 600}


# --- values that are spelled otherwise ------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
def test_compare_says_that_values_are_spelled_otherwise(write: Write, tmp_path: Path) -> None:
    colours = np.random.default_rng(4).choice(["red", "dark green", "blue"], N).tolist()
    reference = write(colours, tmp_path, "reference")
    live = write([colour.title().replace(" ", "_") for colour in colours], tmp_path, "live")
    given = MonitorSpec("m", (FeatureSpec("c", "categorical"),), WINDOWS)
    for spec in (None, given):
        (note,) = (note for note in compare_files(reference, live, spec, now_ms=1).notes if "spelled" in note)
        assert note.startswith(f"live data {live.name}: c: None of the values is in the reference, which has '")
        assert any(note.endswith(f"as {a!r} and {b!r} are") for a, b in
                   (("Red", "red"), ("Dark_Green", "dark green"), ("Blue", "blue")))  # fmt: skip
        assert not any("spelled" in note for note in compare_files(reference, reference, spec, now_ms=1).notes)
