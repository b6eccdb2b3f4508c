"""Whatever a table holds, what is written about it loads, and says of each column what became of it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from kldrift.assembly.monitors import build_monitors
from kldrift.config.load import parse_config
from kldrift.datafiles.sample import read_sample
from kldrift.errors import ReferenceProblem
from kldrift.offline.init.document import Place, scalar, value, write_document
from kldrift.offline.init.proposal import Plan, make_plan
from kldrift.records.kinds import Kind
from kldrift.records.sources import FileSourceConfig

NASTY = [
    "no", "on", "~", "null", "12", "1e5", ".inf", "0x1f", "1:30", "<<", "- a", "a: b", "a #b", "{x}", "[x]", "&a", "*a",
    "!a", "%a", "@a", "`a", "'a'", "\\a", " a", "a ", "<script>alert(1)</script>", "../..", "${HOME}", "$$", "名前",
    "🎉", "\u202eevil", "\ufeffa", "x" * 200, "?", "? a", "---", "...", "|", ">", "=", "!!str",
]  # fmt: skip


def flat(kinds: object, n_windows: int, divergences: object) -> int:
    """A number of series that is never too large."""
    return 1


def plan_of(path: Path) -> Plan:
    return make_plan(read_sample(path), flat, 50_000)


def text_of(plan: Plan, **place: object) -> str:
    return write_document(plan, Place("kldrift init t", "m", "t.parquet", **place))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_names_that_mean_something_in_yaml_are_quoted(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"t.{kind}"
    table = pl.DataFrame({name: rng.normal(size=1200) for name in NASTY})
    {"parquet": table.write_parquet, "csv": table.write_csv, "ndjson": table.write_ndjson}[kind](path)
    text, n_written = write_document(plan_of(path), Place("kldrift init t", "m", path.name))
    config = parse_config(text, tmp_path / "kldrift.yaml")
    features = config.monitors[0].features
    assert [feature.name for feature in features] == NASTY
    assert n_written == len(NASTY)
    (monitor,) = build_monitors(config.monitors, 0)
    assert len(monitor.features) == len(NASTY)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300).filter(lambda text: "\0" not in text and text.strip()))
def test_any_text_is_what_it_was_after_loading(text: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    written = f"monitors: {{m: {{timestamp: {{field: {value(text)}, unit: s}}, features: {{x: {{kind: categorical,"
    written += f" reference: {{counts: {{{scalar(text)}: 3}}}}}}}}}}}}"
    (monitor,) = parse_config(written, Path("kldrift.yaml"), {}).monitors
    assert monitor.timestamp is not None
    assert monitor.timestamp.field == text
    assert monitor.features[0].reference.categories == (text,)  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=dataframes(
        min_cols=1,
        max_cols=6,
        min_size=1,
        max_size=40,
        allow_null=True,
        excluded_dtypes=[pl.Object, pl.Decimal, pl.Categorical, pl.Enum],
    ),
    names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), min_size=6, max_size=6, unique=True),
    times=st.integers(1, 40),
)
def test_any_table_gives_a_configuration_that_loads_and_builds(
    table: pl.DataFrame, names: list[str], times: int
) -> None:
    table = pl.concat([table] * times).rename(dict(zip(table.columns, names, strict=False)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        try:
            table.write_parquet(path)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return  # not every type can be written
        plan = plan_of(path)
        told = {guess.name for guess in (*plan.features, *plan.left_out)}
        assert told == set(table.columns)
        if not plan.features:
            return
        config = parse_config(text_of(plan), Path(folder) / "kldrift.yaml")
        assert [feature.name for feature in config.monitors[0].features] == [guess.name for guess in plan.features]
        build_monitors(config.monitors, 0)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(min_size=1, max_size=300), kind=st.sampled_from(["csv", "ndjson", "parquet", "csv.gz"]))
def test_any_bytes_are_read_or_refused_in_words(body: bytes, kind: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{kind}"
        path.write_bytes(body)
        try:
            plan = plan_of(path)
        except ReferenceProblem as problem:
            said = str(problem)
        else:
            said = text_of(plan)
        assert path.name in said


def series(kinds: dict[Kind, int], n_windows: int, divergences: tuple[str, ...]) -> int:
    return sum(kinds.values()) * n_windows * (10 + len(divergences))


@pytest.mark.parametrize(
    ("limit", "windows", "divergences", "n"),
    [(360, 3, 2, 10), (330, 3, 1, 10), (200, 1, 1, 10), (55, 1, 1, 5)],
)
def test_what_a_scrape_cannot_carry_is_left_out_and_said(
    limit: int, windows: int, divergences: int, n: int, tmp_path: Path
) -> None:
    table = pl.DataFrame({f"f{i}": np.random.default_rng(i).normal(size=1200) for i in range(10)})
    table.write_parquet(tmp_path / "t.parquet")
    plan = make_plan(read_sample(tmp_path / "t.parquet"), series, limit)  # type: ignore[arg-type]
    assert (len(plan.windows), len(plan.divergences), len(plan.features)) == (windows, divergences, n)
    text = text_of(plan)
    assert ("make many series" in text) == (limit < 360)
    assert ("the first 5 of 10 features are watched" in text) == (n == 5)


def test_a_file_with_no_room_for_all_features_still_loads(tmp_path: Path) -> None:
    names = [f"{i:05d}" + '\\"' * 97 for i in range(3000)]
    pl.DataFrame({name: [0.5, 1.5, 0.2] for name in names}).write_parquet(tmp_path / "t.parquet")
    plan = plan_of(tmp_path / "t.parquet")
    text, n_written = write_document(plan, Place("kldrift init t", "m", "t.parquet"))
    assert 1000 < n_written < 3000
    assert f"and {3000 - n_written:,} more, which the file has no room for" in text
    assert len(parse_config(text, tmp_path / "kldrift.yaml").monitors[0].features) == n_written


def test_live_rows_decide_what_can_be_watched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame({"x": rng.normal(size=2000), "target": rng.normal(size=2000)}).write_parquet(tmp_path / "t.parquet")
    plan = make_plan(read_sample(tmp_path / "t.parquet"), flat, 50_000, ["x"])
    assert [guess.name for guess in plan.features] == ["x"]
    text = text_of(plan, live=("logs/$x*.ndjson", "ndjson"))
    assert "target: the live rows have no such field" in text
    (source,) = parse_config(text, tmp_path / "kldrift.yaml", {}).sources
    assert isinstance(source, FileSourceConfig)
    assert source.path.endswith("/logs/$x*.ndjson")
    assert source.follow


def test_live_rows_without_a_time_count_when_they_arrive(tmp_path: Path) -> None:
    """The rate of the data tells the windows all the same."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"ts": [1_700_000_000 + 600 * i for i in range(20_000)], "x": rng.normal(size=20_000)})
    table.write_parquet(tmp_path / "t.parquet")
    plan = make_plan(read_sample(tmp_path / "t.parquet"), flat, 50_000, ["x"])
    assert (plan.timestamp, plan.windows) == (None, ("1w", "4w"))
    assert "the live rows have no field that holds a time" in text_of(plan)
    assert make_plan(read_sample(tmp_path / "t.parquet"), flat, 50_000).timestamp == ("ts", "s")


def test_a_clock_is_left_out_where_there_is_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = rng.random(3000).cumsum()
    table = pl.DataFrame({"ts": [1_700_000_000_000 + 1000 * i for i in range(3000)], "odometer": steps})
    table.write_parquet(tmp_path / "t.parquet")
    assert "moves on with time" in plan_of(tmp_path / "t.parquet").left_out[1].why
    table.drop("ts").write_parquet(tmp_path / "t.parquet")
    assert plan_of(tmp_path / "t.parquet").features[0].name == "odometer"
