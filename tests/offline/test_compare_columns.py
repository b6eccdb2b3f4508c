"""Which columns `compare` compares, and what it says of the others: gone, renamed, constant, identifiers, times."""

import json
from collections.abc import Callable
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import parse_config
from kldrift.offline.compare import Comparison, compare_files
from tests.cli.command import kldrift

N = 4000
FORMATS = ["csv", "ndjson", "parquet"]
NOW_MS = 1_700_000_000_000


def columns(seed: int = 0, **more: object) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"amount": rng.normal(size=N), "country": rng.choice(["de", "fr", "it"], N), **more})


def write(data: pl.DataFrame, path: Path) -> Path:
    {".csv": data.write_csv, ".ndjson": data.write_ndjson, ".parquet": data.write_parquet}[path.suffix](path)
    return path


@pytest.fixture(params=FORMATS)
def compared(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Comparison]:
    """Compare two tables in one of the formats."""

    def compare(reference: pl.DataFrame, live: pl.DataFrame, **given: object) -> Comparison:
        paths = [write(data, tmp_path / f"{name}.{request.param}")
                 for name, data in (("reference", reference), ("live", live))]  # fmt: skip
        return compare_files(*paths, now_ms=NOW_MS, **given)  # type: ignore[arg-type]

    return compare


def said(found: Comparison) -> dict[str, str]:
    assert all(change.severity == "critical" for change in found.changed.values())
    return {name: change.why for name, change in found.changed.items()}


def names(found: Comparison) -> list[str]:
    return [info.name for info in found.monitor.features]


# --- gone, renamed, of another type -------------------------------------------------------------------


def test_a_column_that_is_gone_is_critical(compared: Callable[..., Comparison]) -> None:
    found = compared(columns(), columns(1).drop("country"))
    assert said(found) == {"country": "gone from the live data"}
    assert found.drifts("critical")
    assert names(found) == ["amount"]


@pytest.mark.parametrize("new", ["Amount", "amount_eur", "amounts"])
def test_a_column_of_a_similar_name_is_suggested(compared: Callable[..., Comparison], new: str) -> None:
    found = compared(columns(), columns(1).rename({"amount": new}))
    assert said(found) == {"amount": f"gone from the live data; did you mean {new}, which is new?"}
    assert found.left_out == {new: "new in the live data"}


def test_a_column_of_the_same_distribution_is_suggested(compared: Callable[..., Comparison]) -> None:
    live = columns(1, wide=np.random.default_rng(2).normal(size=N) * 3).rename({"amount": "x", "country": "y"})
    found = compared(columns(both=live["wide"]), live.with_columns(both="wide"))
    assert said(found) == {
        name: f"gone from the live data; did you mean {new}, which is new and has the same distribution?"
        for name, new in (("amount", "x"), ("country", "y"))
    }


def test_a_new_column_is_no_drift(compared: Callable[..., Comparison]) -> None:
    found = compared(columns(), columns(1, new=np.arange(N)))
    assert found.left_out == {"new": "new in the live data"}
    assert not found.changed
    assert not found.drifts("warning")


def test_a_column_that_a_monitor_wants_is_critical_where_it_is_gone(compared: Callable[..., Comparison]) -> None:
    config = """
monitors:
  m:
    windows: [1h]
    reference: {learn: 1000}
    features: {amount: {kind: numeric}, country: {kind: categorical}, absent: {kind: numeric}}
"""
    given = parse_config(config, Path("kldrift.yaml")).monitors[0]
    found = compared(columns(), columns(1).rename({"country": "Country"}), given=given)
    assert said(found) == {"country": "gone from the live data; did you mean Country?"}
    assert found.left_out == {"absent": "not in the reference nor in the live data"}
    assert names(found) == ["amount"]


def test_what_is_ignored_is_not_reported(compared: Callable[..., Comparison]) -> None:
    found = compared(columns(label=[0, 1] * (N // 2)), columns(1), ignored=["label"])
    assert not found.changed
    assert not found.left_out


@pytest.mark.parametrize(("reference", "live"), [("parquet", "csv"), ("csv", "parquet"), ("ndjson", "csv")])
def test_text_that_looks_like_numbers_is_text_where_the_other_file_has_types(
    tmp_path: Path, reference: str, live: str
) -> None:
    """CSV cannot tell the postal code 10115 from a number."""
    codes = [pl.Series("code", np.random.default_rng(i).choice(["10115", "20095", "50667"], N)) for i in (0, 1)]
    found = compare_files(
        write(columns().with_columns(codes[0]), tmp_path / f"reference.{reference}"),
        write(columns(1).with_columns(codes[1]), tmp_path / f"live.{live}"),
        now_ms=NOW_MS,
    )
    assert [(info.name, info.kind) for info in found.monitor.features][-1] == ("code", "categorical")
    assert found.monitor.unseen_ratio[0, -1] == 0
    assert not found.drifts("warning")


def test_fields_that_come_late_are_compared_and_named(tmp_path: Path) -> None:
    """Fields that are first seen after 10,000 lines."""
    rng = np.random.default_rng(0)
    lines = [json.dumps({"x": rng.normal()}) for _ in range(12_000)]
    late = [json.dumps({"x": rng.normal(), "late": rng.normal() + 9, "new": 1}) for _ in range(12_000)]
    live = tmp_path / "live.ndjson"
    live.write_text("\n".join(lines + late))
    reference = write(
        pl.DataFrame({"x": rng.normal(size=N), "late": rng.normal(size=N), "rare": rng.normal(size=N)}),
        tmp_path / "reference.parquet",
    )
    found = compare_files(reference, live, now_ms=NOW_MS)
    assert names(found) == ["x", "late"]
    assert found.monitor.missing_ratio[0].tolist() == [0, 0.5]
    assert found.left_out == {"new": "new in the live data"}
    assert said(found) == {"rare": "gone from the live data"}
    with live.open("a") as file:  # one line that no sample would have
        file.write('\n{"rare": 0.5}')
    found = compare_files(reference, live, now_ms=NOW_MS)
    assert names(found) == ["x", "late", "rare"]
    assert found.monitor.missing_ratio[0, 2] == pytest.approx(24_000 / 24_001)
    assert not found.changed


# --- what `init` leaves out ---------------------------------------------------------------------------


def test_a_constant_that_is_the_same_is_left_out_and_another_value_is_drift(
    compared: Callable[..., Comparison],
) -> None:
    reference = columns(year=[2015] * N, model=["a"] * N, on=[True] * N)
    found = compared(reference, columns(1, year=[2015] * N, model=["a"] * N, on=[True] * N))
    assert found.left_out == {
        "year": "constant: always 2015",
        "model": "constant: always a",
        "on": "constant: always true",
    }
    assert not found.drifts("warning")
    assert names(found) == ["amount", "country"]
    found = compared(reference, columns(1, year=[2018] * N, model=["a", "b"] * (N // 2), on=[False] * N))
    assert said(found) == {
        "year": "constant: always 2015 in the reference, but 4,000 of 4,000 live values differ, such as 2018",
        "model": "constant: always a in the reference, but 2,000 of 4,000 live values differ, such as b",
        "on": "constant: always true in the reference, but 4,000 of 4,000 live values differ, such as false",
    }
    assert found.drifts("critical")


def test_a_few_other_values_of_a_constant_are_told_and_no_drift_and_more_are_a_warning(tmp_path: Path) -> None:
    reference = write(columns(year=[2015] * N), tmp_path / "reference.parquet")
    found = {}
    for n_others in (3, 100, 400):
        years = [2018] * n_others + [2015] * (N - n_others)
        comparison = compare_files(reference, write(columns(1, year=years), tmp_path / "live.csv"), now_ms=NOW_MS)
        found[n_others] = comparison.changed["year"].severity if comparison.changed else comparison.left_out["year"]
    # Clopper-Pearson at 0.00005: 400 of 4,000 are at least 8.2 %, and 0 of 4,000 at most 0.25 %; KL 0.21
    assert found == {
        3: "constant: always 2015 in the reference, but 3 of 4,000 live values differ, such as 2018",
        100: "warning",
        400: "critical",
    }


def test_identifiers_are_left_out_with_the_reason_of_init(compared: Callable[..., Comparison]) -> None:
    uuids = [[f"{i:032x}" for i in np.random.default_rng(seed).permutation(10**6)[:N]] for seed in (0, 1)]
    found = compared(columns(id=np.arange(N), uuid=uuids[0]), columns(1, id=np.arange(N) + N, uuid=uuids[1]))
    assert found.left_out == {
        "id": "whole numbers that only grow, each once: numbers of rows, or identifiers",
        "uuid": "each of its 4,000 values comes once: an identifier, or free text",
    }
    assert names(found) == ["amount", "country"]
    assert not found.drifts("warning")


def days(month: int) -> list[date]:
    rng = np.random.default_rng(month)
    return [date(2024, month, 1) + timedelta(days=int(i)) for i in rng.integers(0, 28, N)]


@pytest.mark.parametrize(
    "written",
    [
        lambda day: day,
        lambda day: day.isoformat(),
        lambda day: f"{day.isoformat()}T12:00:00Z",
        lambda day: int(f"{day:%Y%m%d}"),
        lambda day: int((day - date(1970, 1, 1)).total_seconds()),
        lambda day: int((day - date(1970, 1, 1)).total_seconds()) * 1000,
    ],
    ids=["date", "iso date", "iso time", "yyyymmdd", "epoch s", "epoch ms"],
)
def test_shuffled_times_of_another_month_are_no_drift(
    compared: Callable[..., Comparison], written: Callable[[date], object]
) -> None:
    january, february = ([written(day) if i % 9 else None for i, day in enumerate(days(month))] for month in (1, 2))
    found = compared(columns(signup_date=january), columns(1, signup_date=february))
    assert "a time, which only moves on" in found.left_out["signup_date"]
    assert not found.drifts("warning")
    assert names(found) == ["amount", "country"]


def test_a_time_that_is_none_any_more_is_critical(compared: Callable[..., Comparison]) -> None:
    reference = columns(at=[day.isoformat() for day in days(1)])
    found = compared(reference, columns(1, at=["yesterday", "today"] * (N // 2)))
    assert said(found) == {"at": "times in the reference, text in the live data"}
    found = compared(reference, columns(1, at=[None] * N))
    assert said(found) == {"at": "no values in the live data"}


@pytest.mark.parametrize("reference", FORMATS)
@pytest.mark.parametrize("live", FORMATS)
def test_a_column_without_values_and_times_of_day_are_no_drift_in_any_two_formats(
    reference: str, live: str, tmp_path: Path
) -> None:
    def table(seed: int, name: str) -> Path:
        clock = [time(int(h)) for h in np.random.default_rng(seed).integers(0, 24, N)]
        data = columns(seed, clock=clock, null=pl.Series([None] * N, dtype=pl.Float64))
        return write(
            data.with_columns(pl.col("clock").cast(pl.String)) if "typed" not in name else data, tmp_path / name
        )

    found = compare_files(table(0, f"typed.{reference}"), table(1, f"live.{live}"), now_ms=NOW_MS)
    assert found.left_out["null"] == "no values in the reference"
    assert not found.changed
    if reference == "parquet":
        assert found.left_out["clock"] == "times of day, which have no bins; make numbers of them"


# --- one verdict ---------------------------------------------------------------------------------------


def drifting(tmp_path: Path) -> Path:
    """A shift of 0.55 sigma whose bound is above the critical tolerance, among others that do not drift."""
    rng = np.random.default_rng(5)
    for name, shift in (("reference", 0.0), ("live", SHIFT)):
        data = {f"x{i}": rng.normal(size=N) for i in range(40)} | {"y": rng.normal(size=N) + shift}
        pl.DataFrame(data).write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


SHIFT = 0.55


def test_the_row_the_verdict_json_report_and_exit_code_say_the_same(tmp_path: Path) -> None:
    folder = drifting(tmp_path)
    given = ("compare", "reference.parquet", "live.parquet")
    answer = json.loads(kldrift(*given, "--json", cwd=folder).stdout)
    (y,) = (each for each in answer["features"] if each["feature"] == "y")
    assert y["lower"] > 0.1  # by its bound alone it is critical
    assert answer["drift"] == {"warning": True, "critical": False}
    assert answer["verdicts"]["y"] == "warning"
    assert y["reading"].startswith("Warning: ")
    assert "does not confirm it" in y["reading"]
    text = kldrift(*given, "--html", "out.html", cwd=folder).stdout
    (row,) = (line for line in text.splitlines() if "│ y " in line)
    assert "│ warning │" in row
    assert "warning: y" in text
    assert "critical" not in text
    report = (folder / "out.html").read_text()
    assert "1 of 41 features drifts: 1 warning." in report
    assert "state-critical" not in report.split("<body")[1]
    assert kldrift(*given, "--fail-on", "critical", cwd=folder).returncode == 0
    assert kldrift(*given, "--fail-on", "warning", cwd=folder).returncode == 3


def test_what_is_gone_counts_in_every_output(tmp_path: Path) -> None:
    write(columns(), tmp_path / "reference.parquet")
    write(columns(1).rename({"country": "land"}), tmp_path / "live.csv")
    given = ("compare", "reference.parquet", "live.csv", "--fail-on", "critical")
    done = kldrift(*given, "--html", "out.html", cwd=tmp_path)
    assert done.returncode == 3
    why = "gone from the live data; did you mean land, which is new and has the same distribution?"
    assert done.stdout.splitlines()[:2] == ["changed columns:", f"  country: {why} (critical)"]
    assert "critical: country" in done.stdout
    report = (tmp_path / "out.html").read_text()
    assert "1 column changed: 1 critical. No drift in 1 feature." in report
    assert why in report
    done = kldrift(*given, "--json", cwd=tmp_path)
    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert answer["drift"] == {"warning": True, "critical": True}
    assert answer["changed"] == {"country": {"severity": "critical", "why": why}}
    assert kldrift(*given, "--ignore", "country", cwd=tmp_path).returncode == 0


def test_rows_without_a_verdict_stand_below_with_their_reason(tmp_path: Path) -> None:
    """A vector of another mean has the largest KL, and too few values for a verdict."""
    rng = np.random.default_rng(0)
    for name, n, shift in (("reference", N, 0.0), ("live", 300, 5.0)):
        vectors = pl.Series("v", (rng.normal(size=(n, 30)) + shift).tolist(), dtype=pl.List(pl.Float64))
        data = pl.DataFrame({"v": vectors, "x": rng.normal(size=n)})
        data.write_parquet(tmp_path / f"{name}.parquet")
    text = kldrift("compare", "reference.parquet", "live.parquet", cwd=tmp_path).stdout
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert rows == ["x", "v"]
    assert "v: undecided: 300 samples so far, and a verdict needs" in text


@pytest.mark.parametrize("live", ["live.csv", "live.ndjson", "live.parquet"])
@pytest.mark.parametrize("swapped", [False, True])
def test_booleans_and_0_and_1_are_the_same(live: str, tmp_path: Path, *, swapped: bool) -> None:
    flags = [np.random.default_rng(seed).random(N) < 0.3 for seed in (0, 1)]
    one, other = (flags[0], flags[1].astype(int)) if not swapped else (flags[0].astype(int), flags[1])
    reference = write(columns(on=one), tmp_path / "reference.parquet")
    found = compare_files(reference, write(columns(1, on=other), tmp_path / live), now_ms=NOW_MS)
    assert names(found) == ["amount", "country", "on"]
    assert found.monitor.divergences[0, 2, 0] < 0.005
    assert found.monitor.samples[0, 2] == N
    assert not found.changed
    counts = write(columns(1, on=np.arange(N) % 7), tmp_path / live)
    assert "on" in compare_files(reference, counts, now_ms=NOW_MS).changed or swapped


def test_two_samples_of_categories_with_a_long_tail_do_not_drift(tmp_path: Path) -> None:
    """Three thousand rows miss 2 % of what is drawn from 300 values; the report said that it drifts."""
    rng = np.random.default_rng(8)
    p = 1 / np.arange(1, 301) ** 1.5
    values = np.array([f"page {i}" for i in range(300)])
    for name, rows in (("a.csv", 3_000), ("b.parquet", 20_000)):
        frame = pl.DataFrame({"page": rng.choice(values, rows, p=p / p.sum())})
        frame.write_csv(tmp_path / name) if name.endswith("csv") else frame.write_parquet(tmp_path / name)
    done = kldrift("compare", "a.csv", "b.parquet", "--json", "--fail-on", "warning", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
