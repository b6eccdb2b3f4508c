"""What is replayed is what the daemon would have computed."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.assembly.monitors import build_monitor
from kldrift.config.load import parse_config
from kldrift.config.records import Config
from kldrift.daemon.parts import run_once
from kldrift.datafiles.pieces import pieces
from kldrift.drift.references.learned import split
from kldrift.export.telemetry import Telemetry
from kldrift.offline.backtest.replay import Replay, default_step_ms, replay
from kldrift.offline.backtest.rows import BATCH_ROWS, History, Span, read_history, take
from kldrift.records.specs import MonitorSpec, TimestampSpec

NOW_MS = 1_900_000_000_000
BEGIN_MS = 1_700_000_000_000
MINUTE = 60_000

CONFIG = """
state: none
monitors:
  loans:
    timestamp: {field: ts, unit: ms}
    allowed_lateness: 2m
    windows: [10m, 30m]
    reference: REFERENCE
    SEGMENTS
    features:
      amount: {kind: numeric, bins: {method: uniform, count: 4, range: [0, 1]}}
      country: {kind: categorical}
"""


def table(n: int = 1500, every_ms: int = 4_000) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    amount = rng.random(n)
    amount[n // 2 :] **= 2
    return pl.DataFrame(
        {
            "ts": BEGIN_MS + np.arange(n) * every_ms + rng.integers(0, every_ms, n),
            "amount": amount,
            "country": rng.choice(["de", "fr", "it"], n),
        }
    )


def config(folder: Path, reference: str = "{data: reference.parquet}", segments: str = "") -> Config:
    text = CONFIG.replace("REFERENCE", reference).replace("SEGMENTS", segments)
    return parse_config(text, folder / "kldrift.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table().drop("ts").write_parquet(tmp_path / "reference.parquet")
    return tmp_path


def history(*paths: Path, span: Span = Span()) -> History:  # noqa: B008
    return read_history(paths, TimestampSpec("ts", "ms"), span, NOW_MS)


def replayed(spec: MonitorSpec, path: Path, every_ms: int | None = None, span: Span = Span()) -> Replay:  # noqa: B008
    return replay(build_monitor(spec, NOW_MS), history(path, span=span), every_ms or default_step_ms(spec))


WAYS = [
    ("{data: reference.parquet}", ""),
    ("{data: reference.parquet}", "segments: {by: country, limit: 2}"),
    ("{learn: 300}", ""),
    ("{previous: 20m, data: reference.parquet}", ""),
    ("{previous: 20m, learn: 200}", ""),
]


@pytest.mark.parametrize(("reference", "segments"), WAYS)
@pytest.mark.parametrize("every_ms", [50_000, 7_000])
def test_the_figures_at_each_step_are_those_of_a_monitor_fed_row_by_row(
    folder: Path, reference: str, segments: str, every_ms: int
) -> None:
    path = folder / "live.parquet"
    data = table(900)
    data.write_parquet(path)
    spec = config(folder, reference, segments).monitors[0]
    found = replayed(spec, path, every_ms)

    monitor = build_monitor(spec, NOW_MS)
    (decoded,) = pieces(path, monitor.schema, rows_at_a_time=BATCH_ROWS)
    rest, n = decoded.batch, 0
    times = data["ts"].to_list()
    for i, at_ms in enumerate(found.at_ms.tolist()):
        while n < len(times) and times[n] <= at_ms:
            row, rest = split(rest, 1)
            added = monitor.add(row, "file", times[n])
            assert added.counted == 1
            n += 1
        snapshot = monitor.evaluate(at_ms)
        assert snapshot.at_ms == at_ms
        for one in (snapshot, *snapshot.segments):
            track = found.tracks[one.segment]
            np.testing.assert_array_equal(track.lower[i], one.lower.astype(np.float32))
            np.testing.assert_array_equal(track.upper[i], one.upper.astype(np.float32))
            np.testing.assert_array_equal(track.kl[i], one.divergences[:, :, 0].astype(np.float32))
    assert n == len(times)
    assert (np.diff(found.at_ms) == every_ms).all()
    assert np.isfinite(found.tracks[None].lower).any()
    assert (len(found.tracks) > 1) == bool(segments)


def test_the_last_step_is_what_the_daemon_says_after_one_pass(shared_data: Path, tmp_path: Path) -> None:
    text = f"""
state: none
sources:
  market: {{type: file, path: {shared_data / "electricity.csv.gz"}, format: csv}}
monitors:
  electricity:
    sources: [market]
    timestamp: {{field: time, unit: iso8601}}
    allowed_lateness: 1h
    windows: [4w, 12w]
    reference: {{learn: 17520}}
    features:
      nswprice: {{kind: numeric}}
      transfer: {{kind: numeric}}
      class: {{kind: categorical}}
"""
    loaded = parse_config(text, tmp_path / "kldrift.yaml")
    snapshot, rows, _, failures = run_once(loaded, Telemetry())
    assert failures == []
    daemon = snapshot.monitors[0]
    spec = loaded.monitors[0]
    assert spec.timestamp is not None
    known = read_history([shared_data / "electricity.csv.gz"], spec.timestamp, Span(), NOW_MS)
    found = replay(build_monitor(spec, NOW_MS), known, default_step_ms(spec)).tracks[None]
    assert known.rows == rows == 45_312
    assert known.backwards == 0
    np.testing.assert_array_equal(found.lower[-1], daemon.lower.astype(np.float32))
    np.testing.assert_array_equal(found.kl[-1], daemon.divergences[:, :, 0].astype(np.float32))


def test_the_lower_bound_does_not_depend_on_the_tolerances(folder: Path) -> None:
    """So that one replay tells of every tolerance."""
    path = folder / "live.parquet"
    table().write_parquet(path)
    spec = config(folder).monitors[0]
    other = replace(spec, features=tuple(replace(f, warning=0.3, critical=2.0) for f in spec.features))
    a, b = replayed(spec, path), replayed(other, path)
    np.testing.assert_array_equal(a.tracks[None].lower, b.tracks[None].lower)
    assert b.features[0].warning == 0.3


# --- order, gaps, ends -------------------------------------------------------------------------------


def test_rows_out_of_order_are_sorted(folder: Path) -> None:
    straight, mixed = folder / "straight.parquet", folder / "mixed.ndjson"
    table().write_parquet(straight)
    table().sample(fraction=1, shuffle=True, seed=1).write_ndjson(mixed)
    assert history(straight).backwards == 0
    assert history(mixed).backwards > 100
    spec = config(folder, "{learn: 300}").monitors[0]
    a, b = replayed(spec, straight), replayed(spec, mixed)
    np.testing.assert_array_equal(a.at_ms, b.at_ms)
    np.testing.assert_array_equal(a.tracks[None].lower, b.tracks[None].lower)


def test_several_files_are_read_in_order_of_their_times(folder: Path) -> None:
    data = table()
    parts = [folder / name for name in ("c.csv", "a.parquet", "b.ndjson")]
    data[:500].write_csv(parts[0])
    data[500:1000].write_parquet(parts[1])
    data[1000:].write_ndjson(parts[2])
    whole = folder / "whole.parquet"
    data.write_parquet(whole)
    known = history(parts[2], parts[0], parts[1])
    assert known.paths == tuple(parts)
    assert known.backwards == 0
    spec = config(folder).monitors[0]
    a = replay(build_monitor(spec, NOW_MS), known, 50_000)
    np.testing.assert_array_equal(a.tracks[None].lower, replayed(spec, whole).tracks[None].lower)
    assert history(parts[0], parts[0]).backwards == 1


def test_a_gap_of_years_costs_the_steps_until_the_windows_are_empty(folder: Path) -> None:
    path = folder / "live.parquet"
    early = table(10).with_columns(pl.col("ts") - 20 * 365 * 86_400_000)
    pl.concat([early, table()]).write_parquet(path)
    spec = config(folder).monitors[0]
    found = replayed(spec, path)
    #   rows 40 s, then 30 min until the longest window is empty, then 100 min of rows
    assert 120 + 36 <= found.at_ms.size <= 120 + 40
    assert found.at_ms[-1] - found.at_ms[0] > 19 * 365 * 86_400_000
    clean = folder / "clean.parquet"
    table().write_parquet(clean)
    n = replayed(spec, clean).at_ms.size
    np.testing.assert_array_equal(found.tracks[None].lower[-n:], replayed(spec, clean).tracks[None].lower)


def test_one_row_is_one_step(folder: Path) -> None:
    path = folder / "live.csv"
    table(1).write_csv(path)
    found = replayed(config(folder).monitors[0], path)
    assert found.at_ms.size == 1
    assert np.isnan(found.tracks[None].lower).all()


def test_rows_without_a_time_or_from_the_future_are_left_out_and_counted(folder: Path) -> None:
    path = folder / "live.ndjson"
    table(50).write_ndjson(path)
    more = f'{{"amount": 1}}\n{{"ts": "x", "amount": 1}}\n{{"ts": {NOW_MS + 10 * MINUTE}, "amount": 1}}\nnonsense\n'
    path.write_text(path.read_text() + more)
    known = history(path)
    assert known.rows == 50
    assert {reason: n for reason, n in known.rejected.items() if n} == {"timestamp": 2, "malformed": 1, "future": 1}
    spec = config(folder).monitors[0]
    batches = list(known.batches(build_monitor(spec, NOW_MS).schema))
    assert sum(batch.n_rows for batch in batches) == 50


def test_from_and_to_cut_the_rows(folder: Path) -> None:
    path = folder / "live.parquet"
    data = table()
    data.write_parquet(path)
    first, last = data["ts"][100], data["ts"][200]
    known = history(path, span=Span(first, last))
    assert (known.rows, known.first_ms, known.last_ms) == (100, first, data["ts"][199])


@pytest.mark.parametrize(("unit", "as_written"), [("s", 1000.0), ("us", 0.001), ("ns", 0.000001)])
def test_times_come_in_the_units_of_the_configuration(tmp_path: Path, unit: str, as_written: float) -> None:
    path = tmp_path / "live.csv"
    data = table(20)
    data.with_columns((pl.col("ts") / as_written).cast(pl.Int64).alias("ts")).write_csv(path)
    known = read_history([path], TimestampSpec("ts", unit), Span(), NOW_MS)  # type: ignore[arg-type]
    assert known.rows == 20
    assert abs(known.first_ms - data["ts"][0]) < 1000


def test_datetimes_of_parquet_are_times_whatever_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "live.parquet"
    data = table(20)
    data.with_columns(pl.from_epoch("ts", time_unit="ms")).write_parquet(path)
    known = read_history([path], TimestampSpec("ts", "iso8601"), Span(), NOW_MS)
    assert known.first_ms == data["ts"][0]
    assert datetime.fromtimestamp(known.first_ms / 1000, UTC).year == 2023


def test_taken_rows_keep_their_invalid_values(tmp_path: Path) -> None:
    path = tmp_path / "live.ndjson"
    path.write_text('{"ts": 3, "amount": []}\n{"ts": 1, "amount": 1}\n{"ts": 2, "amount": {}}\n')
    spec = config(tmp_path, "{learn: 64}").monitors[0]
    (decoded,) = pieces(path, build_monitor(spec, NOW_MS).schema, rows_at_a_time=BATCH_ROWS)
    assert [(f, rows.tolist()) for f, rows in decoded.batch.invalid] == [(0, [0, 2])]
    turned = take(decoded.batch, np.array([1, 2, 0]))
    assert [(f, rows.tolist()) for f, rows in turned.invalid] == [(0, [1, 2])]
    assert take(decoded.batch, np.array([1])).invalid == ()
    assert turned.event_ms is not None
    assert turned.event_ms.tolist() == [1, 2, 3]
