"""`of`: the hour and the weekday of times and the length of texts, the same from every format and in references."""

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import parse_config
from kldrift.daemon.parts import run_once
from kldrift.datafiles.reference import read_columns
from kldrift.errors import ReferenceProblem
from kldrift.export.telemetry import Telemetry
from kldrift.kernels.compilation import warm_up
from kldrift.offline.compare import compare_files
from kldrift.records.formats import Format
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, RowRange
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import Aspect, TimeUnit
from kldrift.wire import decode, decode_rows

NAN = np.nan


def schema(of: Aspect, unit: TimeUnit = "iso8601") -> BatchSchema:
    # beside a feature that the kernels read
    return BatchSchema((FeatureSchema("x", "numeric"), FeatureSchema("v", "numeric", of=of, unit=unit)))


def as_csv(values: list[Any]) -> bytes:
    out = io.BytesIO()
    rows(values).with_columns(pl.col("v").cast(pl.String)).write_csv(out, quote_style="necessary")
    return out.getvalue()


def rows(values: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({"x": np.arange(len(values)), "v": pl.Series(values)})


def as_arrow(values: list[Any]) -> bytes:
    out = io.BytesIO()
    rows(values).write_ipc_stream(out)
    return out.getvalue()


BODIES: dict[str, tuple[Format, Callable[[list[Any]], bytes]]] = {
    "ndjson": ("ndjson", lambda values: "\n".join(json.dumps({"x": i, "v": v}) for i, v in enumerate(values)).encode()),
    "rows": ("json", lambda values: json.dumps([{"x": i, "v": v} for i, v in enumerate(values)]).encode()),
    "columns": ("json", lambda values: json.dumps({"x": list(range(len(values))), "v": values}).encode()),
    "csv": ("csv", as_csv),
    "arrow": ("arrow", as_arrow),
}


def found(way: str, values: list[Any], wanted: BatchSchema, tmp_path: Path) -> Decoded:
    warm_up()
    if way == "parquet":
        rows(values).write_parquet(tmp_path / "a.parquet")
        return decode_rows("parquet", RowRange(tmp_path / "a.parquet", 0, len(values)), wanted)
    name, made = BODIES[way]
    return decode(name, [made(values)], wanted)


def check(decoded: Decoded, expected: list[float], invalid: list[int]) -> None:
    np.testing.assert_array_equal(decoded.batch.columns[0], np.arange(len(expected)))
    np.testing.assert_array_equal(decoded.batch.columns[1], expected)
    assert [(feature, at.tolist()) for feature, at in decoded.batch.invalid] == ([(1, invalid)] if invalid else [])


TEXTS = [
    "2024-01-31T23:30:00Z",
    "2024-02-01 00:00:00.5",
    "2024-02-03T05:59+09:00",  # the clock it was written with: not the 2nd, as in UTC
    "1969-12-31",  # before 1970, and at midnight
    None,
    "2023-02-29",
    "2024-02-03T24:00",
    "soon",
    "2024-02-04T23:59:59-0800",
]
HOURS = [23, 0, 5, 0, NAN, NAN, NAN, NAN, 23]
WEEKDAYS = [2, 3, 5, 2, NAN, NAN, NAN, NAN, 6]


@pytest.mark.parametrize("times", [1, 5000], ids=["few", "many"])
@pytest.mark.parametrize("way", [*BODIES, "parquet"])
@pytest.mark.parametrize(("of", "expected"), [("hour", HOURS), ("weekday", WEEKDAYS)])
def test_of_texts(way: str, of: Aspect, expected: list[float], times: int, tmp_path: Path) -> None:
    invalid = [i for i in range(len(TEXTS) * times) if i % len(TEXTS) in (5, 6, 7)]
    decoded = found(way, TEXTS * times, schema(of), tmp_path)
    check(decoded, expected * times, invalid)
    assert decoded.bodies[0].errors[0].reason.startswith("expected a date or time (ISO 8601), got ")


@pytest.mark.parametrize("way", [*BODIES, "parquet"])
def test_length_of_texts(way: str, tmp_path: Path) -> None:
    check(found(way, ["a", "äöü", "a, b ", None, "12", "𝄞"], schema("length"), tmp_path), [1, 3, 5, NAN, 2, 1], [])


@pytest.mark.parametrize("way", [*BODIES, "parquet"])
@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_of_numbers(way: str, unit: TimeUnit, factor: int, tmp_path: Path) -> None:
    times = [datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC) + timedelta(hours=5 * i) for i in range(40)]
    numbers: list[int | None] = [None, *(int(time.timestamp()) * factor for time in times)]
    check(found(way, numbers, schema("hour", unit), tmp_path), [NAN, *(time.hour for time in times)], [])
    check(found(way, numbers, schema("weekday", unit), tmp_path), [NAN, *(time.weekday() for time in times)], [])


@pytest.mark.parametrize("way", [*BODIES, "parquet"])
def test_what_stands_for_a_missing_value(way: str, tmp_path: Path) -> None:
    """0 as a time is missing here, and the hour 0 is not."""
    numbers = BatchSchema(schema("hour", "s").features, missing_values=frozenset({"0"}))
    midnight = 1_706_745_600
    batch = found(way, [0, midnight, midnight + 3600], numbers, tmp_path).batch
    np.testing.assert_array_equal(batch.columns[1], [NAN, 0, 1])
    assert batch.invalid == ()
    texts = BatchSchema(schema("length").features, missing_values=frozenset({"none"}))
    check(found(way, ["none", "some"], texts, tmp_path), [NAN, 4], [])


@pytest.mark.parametrize("way", ["ndjson", "rows", "columns", "arrow", "parquet"])
@pytest.mark.parametrize("of", ["hour", "length"])
def test_numbers_without_a_unit_are_invalid(way: str, of: Aspect, tmp_path: Path) -> None:
    check(found(way, [1_700_000_000, None], schema(of), tmp_path), [NAN, NAN], [0])


@pytest.mark.parametrize("way", ["arrow", "parquet"])
@pytest.mark.parametrize("unit", ["iso8601", "s"])
def test_of_times_with_a_type_in_utc(way: str, unit: TimeUnit, tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    times: list[datetime | None] = [datetime(1969, 5, 5, 1, tzinfo=zone) + timedelta(hours=7 * i) for i in range(50)]
    in_utc = [time.astimezone(UTC) for time in times if time is not None]
    check(found(way, [*times, None], schema("hour", unit), tmp_path), [*(t.hour for t in in_utc), NAN], [])
    check(found(way, [*times, None], schema("weekday", unit), tmp_path), [*(t.weekday() for t in in_utc), NAN], [])
    days: list[date | None] = [date(1969, 12, 20) + timedelta(days=i) for i in range(20)]
    check(found(way, [*days, None], schema("weekday", unit), tmp_path), [*(d.weekday() for d in days if d), NAN], [])


# --- ages ------------------------------------------------------------------------------------------

SEEN = "2024-03-01T00:00:00Z"
BORN = ["2024-02-29T12:00:00Z", "2024-02-29T21:00:00.5+09:00", "1964-03-01", "2024-03-01 01:00", None, "soon",
        "2024-02-29T23:59-01:30"]  # fmt: skip
AGES = [43_200, 43_199.5, 21_915 * 86_400, -3600, NAN, NAN, -5340]


def aged(way: str, born: list[Any], tmp_path: Path, unit: TimeUnit = "iso8601", seen: Any = SEEN) -> Decoded:
    """Rows that were seen at one time; of the last one no time is known."""
    warm_up()
    wanted = BatchSchema((FeatureSchema("v", "numeric", of="age", unit=unit),), TimestampSpec("ts", "iso8601"))
    table = pl.DataFrame({"v": pl.Series([*born, None]), "ts": [*[seen] * len(born), None]})
    rows = [{"v": v, "ts": ts} for v, ts in zip([*born, None], [*[seen] * len(born), None], strict=True)]
    out = io.BytesIO()
    match way:
        case "parquet":
            table.write_parquet(tmp_path / "a.parquet")
            return decode_rows("parquet", RowRange(tmp_path / "a.parquet", 0, table.height), wanted)
        case "arrow":
            table.write_ipc_stream(out)
            return decode("arrow", [out.getvalue()], wanted)
        case "csv":
            table.with_columns(pl.col("v").cast(pl.String)).write_csv(out)
            return decode("csv", [out.getvalue()], wanted)
        case "columns":
            return decode("json", [json.dumps(table.to_dict(as_series=False)).encode()], wanted)
        case "rows":
            return decode("json", [json.dumps(rows).encode()], wanted)
        case _:
            return decode("ndjson", ["\n".join(map(json.dumps, rows)).encode()], wanted)


@pytest.mark.parametrize("times", [1, 5000], ids=["few", "many"])
@pytest.mark.parametrize("way", [*BODIES, "parquet"])
def test_an_age_is_counted_from_the_time_of_the_row_in_seconds(way: str, times: int, tmp_path: Path) -> None:
    batch = aged(way, BORN * times, tmp_path).batch
    np.testing.assert_allclose(batch.columns[0], AGES * times, atol=1e-6)
    invalid = [i for i in range(len(BORN) * times) if i % len(BORN) == 5]
    assert [(feature, rows.tolist()) for feature, rows in batch.invalid] == [(0, invalid)]


@pytest.mark.parametrize("way", [*BODIES, "parquet"])
def test_ages_of_numbers_may_be_of_before_1970(way: str, tmp_path: Path) -> None:
    seen = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
    column = aged(way, [-86_400_000, 0, int(seen) * 1000], tmp_path, "ms").batch.columns[0]
    assert column.tolist() == [seen + 86_400, seen, 0]


@pytest.mark.parametrize("way", ["arrow", "parquet"])
def test_ages_of_times_with_a_type(way: str, tmp_path: Path) -> None:
    born = [date(1964, 3, 1), date(2024, 2, 29)]
    assert aged(way, born, tmp_path).batch.columns[0].tolist() == [21_915 * 86_400, 86_400]
    zone = timezone(timedelta(hours=2))
    times = [datetime(2024, 2, 29, 1, tzinfo=zone), datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)]
    expected = [25 * 3600, datetime(2024, 3, 1, tzinfo=UTC).timestamp() + 0.5]
    assert aged(way, times, tmp_path).batch.columns[0].tolist() == expected


AGE_CONFIG = """
state: none
sources:
  files: {type: file, path: live.SUFFIX, format: SUFFIX}
monitors:
  m:
    sources: [files]
    windows: [10y]
    timestamp: {field: ts, unit: iso8601}
    reference: {data: reference.parquet}
    features: {born: {kind: numeric, of: age}}
"""


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_ages_drift_and_dates_that_move_on_do_not(suffix: str, tmp_path: Path) -> None:
    def table(year: int, seed: int, younger: float) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        seen = [
            datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=int(i)) for i in np.sort(rng.integers(0, 9000, 4000))
        ]
        ages = rng.normal(40 - younger, 5, 4000) * 365.25
        born = [(ts - timedelta(days=float(age))).date().isoformat() for ts, age in zip(seen, ages, strict=True)]
        return pl.DataFrame({"ts": [ts.isoformat() for ts in seen], "born": born})

    reference = table(2014, 0, 0)
    reference.write_parquet(tmp_path / "reference.parquet")
    config = parse_config(AGE_CONFIG.replace("SUFFIX", suffix), tmp_path / "kldrift.yaml")
    path = tmp_path / f"live.{suffix}"
    for younger, detected in ((0.0, [0, 0]), (5.0, [1, 1])):
        live = table(2024, 1, younger)
        {"parquet": live.write_parquet, "csv": live.write_csv, "ndjson": live.write_ndjson}[suffix](path)
        snapshot, counted, _, failures = run_once(config, Telemetry())
        assert (counted, failures) == (4000, [])
        assert snapshot.monitors[0].detected[0].tolist() == detected
    with pytest.raises(ReferenceProblem, match="an age counts from the time of the row"):
        compare_files(tmp_path / "reference.parquet", path, config.monitors[0], now_ms=10**12)
    reference.drop("ts").write_parquet(tmp_path / "reference.parquet")
    with pytest.raises(
        ReferenceProblem, match="born: an age counts from the time of the row, of which the file has no"
    ):
        run_once(config, Telemetry())


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_references_are_read_alike(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"a.{suffix}", rows(TEXTS)
    {"parquet": table.write_parquet, "csv": table.write_csv, "ndjson": table.write_ndjson}[suffix](path)
    for of, expected in (("hour", HOURS), ("weekday", WEEKDAYS)):
        read = read_columns(path, [schema(of).features[1]])  # type: ignore[arg-type]
        np.testing.assert_array_equal(read.columns[0], expected)
        assert read.invalid[0].tolist() == [5, 6, 7]
    table.select(v=pl.Series(["x"] * len(TEXTS))).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ReferenceProblem, match=r"b\.parquet: v: expected a date or time \(ISO 8601\), got String"):
        read_columns(tmp_path / "b.parquet", [schema("hour").features[1]])


CONFIG = """
state: none
sources:
  files: {type: file, path: live.SUFFIX, format: SUFFIX}
monitors:
  m:
    sources: [files]
    windows: [1h]
    reference: {data: reference.parquet}
    features:
      at: {kind: numeric, of: hour}
      day: {kind: numeric, of: weekday}
      note: {kind: numeric, of: length}
"""


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_a_monitor_sees_other_hours_and_no_other_weekdays(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def table(month: int, first_hour: int) -> pl.DataFrame:
        days = [datetime(2024, month, 1, tzinfo=UTC) + timedelta(days=int(i)) for i in rng.integers(0, 28, 4000)]
        at = [day + timedelta(hours=first_hour + int(i)) for day, i in zip(days, rng.integers(0, 8, 4000), strict=True)]
        notes = ["x" * int(n) for n in rng.integers(1, 30, 4000)]
        return pl.DataFrame({"at": at, "day": [day.date().isoformat() for day in days], "note": notes})

    live = table(2, 14).with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    table(1, 9).write_parquet(tmp_path / "reference.parquet")
    path = tmp_path / f"live.{suffix}"
    {"parquet": live.write_parquet, "csv": live.write_csv, "ndjson": live.write_ndjson}[suffix](path)
    config = parse_config(CONFIG.replace("SUFFIX", suffix), tmp_path / "kldrift.yaml")
    assert config.monitors[0].features[0].bins.method == "discrete"
    snapshot, counted, _, failures = run_once(config, Telemetry())
    assert (counted, failures) == (4000, [])
    monitor = snapshot.monitors[0]
    assert monitor.detected[:, 1].tolist() == [1, 0, 0]
    # 9 to 16 against 14 to 21: five of eight hours are new
    assert monitor.out_of_range_ratio[0, 0] == pytest.approx(5 / 8, abs=0.03)
    compared = compare_files(tmp_path / "reference.parquet", path, config.monitors[0], now_ms=10**12).monitor
    np.testing.assert_array_equal(compared.counts, monitor.counts)
