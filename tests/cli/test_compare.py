"""``kldrift compare``: two files, told in the terminal, as JSON and HTML; the figures are the daemon's."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from kldrift.config.load import load_config, parse_config
from kldrift.daemon.parts import run_once
from kldrift.datafiles.sample import read_live_sample, read_sample
from kldrift.errors import DataFileProblem, KldriftError, ReferenceProblem
from kldrift.export.telemetry import Telemetry
from kldrift.offline.compare import Comparison, compare_files
from kldrift.offline.init.document import Place, write_document
from kldrift.offline.init.proposal import make_plan
from kldrift.records.specs import MonitorSpec
from tests.cli.command import kldrift
from tests.e2e.processes import kldrift as installed

N_ROWS = 4000
NOW_MS = 1_700_000_000_000


def table(seed: int, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": rng.normal(size=N_ROWS) + shift,
            "country": rng.choice(["de", "fr"], N_ROWS),
            "ok": rng.random(N_ROWS) < 0.5,
        }
    )


def write(data: pl.DataFrame, path: Path) -> Path:
    """The table in the format and compression that the name says."""
    plain = path.with_name(path.name.removesuffix(".gz").removesuffix(".zst"))
    getattr(data, {".csv": "write_csv", ".parquet": "write_parquet"}.get(plain.suffix, "write_ndjson"))(plain)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    return path


def compare(reference: Path, live: Path) -> Comparison:
    return compare_files(reference, live, now_ms=NOW_MS)


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_integers_that_float64_cannot_tell_apart_are_left_out_for_that_reason(tmp_path: Path, suffix: str) -> None:
    files = []
    for name, first in (("reference", 2**60), ("live", 2**60 + 50)):
        numbers = first + np.random.default_rng(1).integers(0, 100, N_ROWS)
        files.append(write(pl.DataFrame({"n": numbers, "m": numbers % 97}), tmp_path / f"{name}.{suffix}"))
    found = compare(*files)
    assert [(info.name, info.problem) for info in found.monitor.features] == [("m", None)]
    assert found.left_out["n"] == (
        "numbers beyond 2**53, of which float64 keeps only one in 256: all of them, from"
        " 1152921504606846976 to 1152921504606846976, fall on one value; make the feature categorical, or subtract an"
        " offset before sending it"
    )


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_with_too_many_rare_categories_the_share_of_new_ones_is_absent_with_the_reason(
    tmp_path: Path, suffix: str
) -> None:
    """It was 0.00 %, of 16.15 %."""
    seen = ["common"] * 20_000 + [f"rare {i}" for i in range(12_000)]
    new = ["common"] * 2_000 + [f"rare {i}" for i in range(1_354)] + [f"new {i}" for i in range(646)]
    files = [
        str(write(pl.DataFrame({"c": texts}), tmp_path / f"{name}.{suffix}"))
        for name, texts in (("reference", seen), ("live", new))
    ]
    done = kldrift("compare", *files)
    assert "c: the share of new values is unknown: only the names of 10,000 rare categories" in done.stdout
    assert "%" not in next(line for line in done.stdout.splitlines() if line.startswith("│ c ")).split("│")[-3]
    (feature,) = json.loads(kldrift("compare", *files, "--json").stdout)["features"]
    assert feature["unseen_ratio"] is None
    assert feature["limits"][0].startswith("the share of new values is unknown")
    report = tmp_path / "report.html"
    kldrift("compare", *files, "--html", str(report))
    assert "the share of new values is unknown" in report.read_text()


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write(table(0), tmp_path / "reference.parquet")


# --- the figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["live.parquet", "live.csv", "live.csv.gz", "live.ndjson", "live.jsonl.zst"])
def test_every_format_gives_the_same_figures(reference: Path, tmp_path: Path, name: str) -> None:
    expected = compare(reference, write(table(1, 1.0), tmp_path / "expected.parquet")).monitor
    found = compare(reference, write(table(1, 1.0), tmp_path / name))
    assert [(info.name, info.kind) for info in found.monitor.features] == [
        ("amount", "numeric"),
        ("country", "categorical"),
        ("ok", "categorical"),
    ]
    np.testing.assert_array_equal(found.monitor.counts, expected.counts)
    np.testing.assert_array_equal(found.monitor.lower, expected.lower)
    assert found.rows == N_ROWS
    assert found.left_out == {}
    assert found.notes == ()


CONFIG = """
server: {listen: "127.0.0.1:0"}
state: none
sources:
  files: {type: file, path: live.parquet, format: parquet}
monitors:
  loans:
    sources: [files]
    windows: [1h]
    reference: {data: reference.parquet}
    divergences: [kl, js]
    features:
      amount: {kind: numeric, bins: {method: uniform, count: 12, range: [-3, 3]}}
      country: {kind: categorical}
  other:
    windows: [5m]
    reference: {data: reference.parquet}
    features:
      ok: {kind: categorical}
      gone: {kind: numeric}
"""


def test_with_a_monitor_the_figures_are_those_of_the_daemon(reference: Path, tmp_path: Path) -> None:
    live = write(table(1, 0.2), tmp_path / "live.parquet")
    path = tmp_path / "kldrift.yaml"
    path.write_text(CONFIG.partition("  other:")[0])
    config = load_config(path)
    snapshot, rows, _, failures = run_once(config, Telemetry())
    found = compare_files(reference, live, config.monitors[0], now_ms=NOW_MS)
    daemon = snapshot.monitors[0]
    assert failures == []
    assert rows == found.rows == N_ROWS
    assert [info.bins_hash for info in found.monitor.features] == [info.bins_hash for info in daemon.features]
    for name in ("counts", "divergences", "detected"):
        np.testing.assert_array_equal(getattr(found.monitor, name), getattr(daemon, name), err_msg=name)
    # without times, the daemon allows for what the order of the reference shows; `compare` takes rows as independent
    assert (found.monitor.lower >= daemon.lower).all()
    assert (found.monitor.upper <= daemon.upper).all()


def test_a_file_does_not_drift_from_itself(reference: Path) -> None:
    found = compare(reference, reference).monitor
    # what is left is the smoothing of the reference
    assert (found.divergences[:, :, 0] < 0.001).all()
    assert (found.detected == 0).all()


def test_a_year_of_employment_is_compared(shared_data: Path) -> None:
    found = compare(shared_data / "employment_MA_reference.parquet", shared_data / "employment_MA_analysis.parquet")
    assert found.rows == 208_892
    assert found.changed["employed"].why == "gone from the live data"
    assert found.left_out == {"id": "whole numbers that only grow, each once: numbers of rows, or identifiers"}
    kl = dict(zip((info.name for info in found.monitor.features), found.monitor.divergences[0, :, 0], strict=True))
    assert len(kl) == 18
    assert max(kl, key=lambda name: kl[name]) == "ANC"
    year = found.changed["year"]
    assert year.severity == "critical"
    assert year.why.startswith(
        "constant: always 2015 in the reference, but 208,892 of 208,892 live values differ, such"
    )


def test_vectors_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for name, shift in (("reference.parquet", 0.0), ("live.ndjson", 1.0)):
        vectors = pl.Series("v", (rng.normal(size=(N_ROWS, 3)) + shift).tolist(), dtype=pl.List(pl.Float64))
        paths.append(write(pl.DataFrame({"v": vectors}), tmp_path / name))
    found = compare(*paths).monitor
    assert found.features[0].kind == "vector"
    # three dimensions, each 1 sigma away: 3 / 2
    assert found.divergences[0, 0, 0] == pytest.approx(1.5, abs=0.1)


def test_a_large_file_is_counted_in_pieces(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = write(table(1, 1.0), tmp_path / "live.parquet")
    whole = compare(reference, live)
    monkeypatch.setattr("kldrift.offline.compare.MAX_CHUNK_NUMBERS", 1000)
    monkeypatch.setattr("kldrift.offline.compare.FEATURES_AT_A_TIME", 1)
    pieces = compare(reference, live)
    np.testing.assert_array_equal(pieces.monitor.counts, whole.monitor.counts)
    np.testing.assert_array_equal(pieces.monitor.lower, whole.monitor.lower)


# --- kinds and bins are those that `init` writes --------------------------------------------------------

CODES = pl.DataFrame({"code": [1, 2, 3, 10] * 1000, "level": [0.1, 0.2, 0.3, 0.3] * 1000})


def configured(data: Path) -> MonitorSpec:
    """The monitor that `init` writes for this file."""
    plan = make_plan(read_sample(data), lambda *_: 0, 1)
    text, _ = write_document(plan, Place("init", "m", data.name))
    return parse_config(text, data.with_name("kldrift.yaml")).monitors[0]


@pytest.mark.parametrize("name", ["reference.parquet", "reference.csv", "reference.ndjson"])
def test_it_sees_what_the_configuration_that_init_writes_would_see(tmp_path: Path, name: str) -> None:
    path = write(table(0).hstack(CODES).with_columns(count=pl.int_range(N_ROWS) % 40), tmp_path / name)
    live = write(table(1).hstack(CODES).with_columns(count=pl.int_range(N_ROWS) % 30), tmp_path / "live.parquet")
    found, expected = compare(path, live), compare_files(path, live, configured(path), now_ms=NOW_MS)
    assert [info.name for info in found.monitor.features] == ["amount", "country", "ok", "code", "level", "count"]
    assert [info.bins_hash for info in found.monitor.features] == [info.bins_hash for info in expected.monitor.features]
    np.testing.assert_array_equal(found.monitor.counts, expected.monitor.counts)
    np.testing.assert_array_equal(found.monitor.lower, expected.monitor.lower)


def test_a_new_code_is_a_new_category(tmp_path: Path) -> None:
    live = CODES.with_columns(pl.when(pl.int_range(N_ROWS) % 5 == 0).then(4).otherwise("code").alias("code"))
    found = compare(write(CODES, tmp_path / "a.parquet"), write(live, tmp_path / "b.parquet")).monitor
    assert found.features[0].kind == "categorical"
    assert found.unseen_ratio[0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["live.parquet", "live.csv", "live.ndjson"])
def test_a_level_that_is_off_by_rounding_does_not_drift(tmp_path: Path, name: str) -> None:
    live = CODES.with_columns(pl.col("level").replace_strict({0.1: 0.1, 0.2: 0.2, 0.3: 0.30000001}))
    found = compare(write(CODES, tmp_path / "a.parquet"), write(live, tmp_path / name))
    assert (found.monitor.features[1].kind, found.monitor.features[1].name) == ("numeric", "level")
    assert not found.drifts("warning")


def test_codes_that_one_file_writes_as_decimals_are_numbers(tmp_path: Path) -> None:
    """Category 1.0 of one file would be another one than category 1 of the other."""
    live = write(CODES.cast({"code": pl.Float64}), tmp_path / "live.csv")
    found = compare(write(CODES, tmp_path / "reference.parquet"), live)
    assert found.monitor.features[0].kind == "numeric"
    assert not found.drifts("warning")


# --- what cannot be compared --------------------------------------------------------------------------


def test_columns_that_are_gone_or_of_another_type_are_critical_and_new_ones_are_named(
    reference: Path, tmp_path: Path
) -> None:
    live = table(1).with_columns(
        pl.col("amount").cast(pl.String).alias("amount"), pl.lit(1).alias("new"), pl.lit(0).cast(pl.Date).alias("day")
    )
    found = compare(reference, write(live.drop("ok"), tmp_path / "live.parquet"))
    assert [info.name for info in found.monitor.features] == ["country"]
    assert {name: (change.severity, change.why) for name, change in found.changed.items()} == {
        "amount": ("critical", "numbers in the reference, text in the live data"),
        "ok": ("critical", "gone from the live data"),
    }
    assert found.left_out == {"new": "new in the live data", "day": "new in the live data"}
    assert found.drifts("critical")


def test_a_column_without_values_is_left_out_of_the_reference_and_drifts_in_the_live_data(tmp_path: Path) -> None:
    empty = table(0).with_columns(pl.lit(None, dtype=pl.Float64).alias("amount"))
    nulls = table(0).with_columns(pl.lit(None).alias("amount"))
    full = write(table(0), tmp_path / "full.parquet")
    for i, data in enumerate((empty, nulls)):
        path = write(data, tmp_path / f"{i}.parquet")
        found = compare(path, full)
        assert "amount" in found.left_out
        assert "value" in found.left_out["amount"]
        assert [info.name for info in found.monitor.features] == ["country", "ok"]
        found = compare(full, path)
        assert found.monitor.features[0].name == "amount"
        assert found.monitor.missing_ratio[0, 0] == 1
        assert found.drifts("critical")


def test_rows_and_values_that_cannot_be_read_are_counted_and_told(reference: Path, tmp_path: Path) -> None:
    path = write(table(1), tmp_path / "live.ndjson")
    more = '{"amount": [], "country": "de"}\n' * 2 + "nonsense\n"
    # behind the rows from which kinds are guessed
    path.write_text(path.read_text() * 3 + more)
    found = compare(reference, path)
    assert found.rows == 3 * N_ROWS + 2
    assert found.notes == (
        "live data live.ndjson: 1 row could not be read, left out: 1 malformed",
        "live data live.ndjson: values of the wrong type, counted as invalid: amount (2)",
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "expected rows of data, got"),
        ("header.csv", b"amount,country\n", "expected rows of data, got"),
        ("empty.ndjson", b"", "expected rows of data, got"),
        ("blank.ndjson.gz", gzip.compress(b"", mtime=0), "expected rows of data, got"),
        ("cut.csv.gz", gzip.compress(b"amount\n" + b"%d\n" * 9000 % tuple(range(9000)), mtime=0)[:5000], "end of file"),
        ("no.ndjson", b"\x00\xff" * 99, "expected one JSON object on each line, got"),
        ("no.parquet", b"PAR1" * 9, "cannot be read as parquet"),
        ("no.txt", b"a", "expected a file named .ndjson, .jsonl, .csv, .parquet or .pq"),
    ],
)
def test_what_is_wrong_with_a_file_that_cannot_be_read_is_reported(
    reference: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataFileProblem, match=words) as caught:
        compare(reference, path)
    assert str(path) in str(caught.value)
    with pytest.raises(ReferenceProblem) as refused:
        compare(path, reference)
    assert str(path) in str(refused.value)


def test_a_parquet_file_that_is_damaged_within_is_told_in_words(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    content = bytearray(reference.read_bytes())
    content[200:9000] = bytes(8800)
    path.write_bytes(content)
    for one, other in ((reference, path), (path, reference)):
        with pytest.raises(KldriftError, match=r"damaged\.parquet"):
            compare(one, other)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_columns_that_are_not_separated_by_commas_are_refused_as_init_does(tmp_path: Path, separator: str) -> None:
    for name in ("a.csv", "b.csv"):
        table(0).write_csv(tmp_path / name, separator=separator)
    expected = "a.csv: expected comma separated columns, got "
    compared = kldrift("compare", "a.csv", "b.csv", cwd=tmp_path)
    written = kldrift("init", "a.csv", cwd=tmp_path)
    assert (compared.returncode, written.returncode) == (2, 2)
    assert expected in compared.stderr
    assert compared.stderr == written.stderr


def test_disjoint_columns_are_refused_with_those_of_both(reference: Path, tmp_path: Path) -> None:
    live = write(pl.DataFrame({"a": [1.0], "b": ["x"]}), tmp_path / "live.parquet")
    with pytest.raises(ReferenceProblem) as caught:
        compare(reference, live)
    assert str(caught.value) == (
        f"expected columns that can be compared, found none: {reference} has amount (numbers), country (text),"
        f" ok (booleans); {live} has a (numbers), b (text)"
    )


def test_one_row_is_undecided(reference: Path, tmp_path: Path) -> None:
    one = write(table(1)[:1], tmp_path / "one.csv")
    for a, b in ((reference, one), (one, reference)):
        found = compare(a, b)
        assert not found.monitor.ready.any()
        assert not found.drifts("warning")


def test_kinds_follow_from_values(tmp_path: Path) -> None:
    path = tmp_path / "data.ndjson"
    rows = [
        {"number": 1, "text": "a", "mixed": 1, "list": [1, 2], "object": {}, "flag": True, "none": None},
        {"number": 2.5, "text": None, "mixed": "a", "list": [1, 2], "object": {}, "late": 1},
        {"number": None, "list": [1], "none": None},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = {column.name: (column.holds.kind, column.holds.words) for column in read_live_sample(path).columns}
    assert found == {
        "number": ("numeric", "numbers"),
        "text": ("categorical", "text"),
        "mixed": ("numeric", "numbers"),
        "list": ("vector", "lists of 2 numbers"),
        "object": (None, "nested or mixed: an object; make fields of its parts"),
        "flag": ("categorical", "booleans"),
        "none": (None, "no values"),
        "late": ("numeric", "numbers"),
    }


# --- the command --------------------------------------------------------------------------------------


def written(folder: Path) -> Path:
    """A reference, rows that drift from it, and a configuration."""
    write(table(0), folder / "reference.parquet")
    write(table(1, 0.35), folder / "live.parquet")
    (folder / "kldrift.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.mark.slow
def test_the_terminal_shows_a_table_and_a_verdict(folder: Path) -> None:
    done = installed("compare", "reference.parquet", "live.parquet", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "live.parquet (4,000 rows) against reference.parquet" in done.stdout
    assert "verdict (false discovery rate 0.01 %): warning: amount" in done.stdout


def test_it_fails_where_asked_to(folder: Path) -> None:
    given = ("compare", "reference.parquet", "live.parquet")
    assert kldrift(*given, "--fail-on", "warning", cwd=folder).returncode == 3
    assert kldrift(*given, "--fail-on", "critical", cwd=folder).returncode == 0


def test_json_is_the_api_s_and_nothing_else_is_on_stdout(folder: Path) -> None:
    done = kldrift("compare", "reference.parquet", "live.parquet", "--json", "--html", "out.html", cwd=folder)
    answer = json.loads(done.stdout)
    assert answer["rows"] == N_ROWS
    assert answer["drift"] == {"warning": True, "critical": False}
    assert [feature["name"] for feature in answer["monitor"]["features"]] == ["amount", "country", "ok"]
    assert sum(answer["features"][0]["live_counts"]) == N_ROWS
    assert answer["features"][0]["lower"] > 0.01
    assert (folder / "out.html").read_text().startswith("<!doctype html>")
    assert not list(folder.glob("*.part"))


def test_a_file_may_be_named_by_any_bytes(folder: Path) -> None:
    name = os.fsdecode(b"live \xff\xe9.csv")
    write(table(1), folder / "plain.csv").rename(folder / name)
    for answer in ((), ("--json", "--html", "out.html")):
        done = kldrift("compare", "reference.parquet", name, *answer, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert "live " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reference.parquet", "absent.csv"), "absent.csv: expected a data file, found none"),
        (("absent.csv", "live.parquet"), "absent.csv: expected a data file, found none"),
        (("reference.parquet", "live.parquet", "-m", "loans"), "add -c FILE"),
        (("reference.parquet", "live.parquet", "-c", "kldrift.yaml"), "which has loans, other"),
        (("reference.parquet", "live.parquet", "-c", "kldrift.yaml", "-m", "x"), "-m x: expected a monitor"),
        (("reference.parquet", "live.parquet", "--html", "absent/out.html"), "expected to write the report"),
    ],
)
def test_wrong_arguments_are_told_in_words(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = kldrift("compare", *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_monitor_s_features_that_a_file_lacks_are_named(folder: Path) -> None:
    done = kldrift("compare", "reference.parquet", "live.parquet", "-c", "kldrift.yaml", "-m", "other", cwd=folder)
    assert done.returncode == 0
    assert "gone: not in the reference nor in the live data" in done.stdout
    assert "amount" not in done.stdout


# --- the report in a browser --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report's address."""
    folder = written(tmp_path_factory.mktemp("report"))
    done = kldrift("compare", "reference.parquet", "live.parquet", "--html", "out.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "out.html").as_uri()


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_the_report_fits_and_asks_for_nothing(browser: Browser, report: str, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        requests: list[str] = []
        messages: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: messages.append(message.text))
        page.goto(report)
        assert requests == [report]
        assert messages == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # a link of the table opens the section it leads to
        page.click("text=country >> nth=0")
        assert page.locator("details", has=page.locator("h3:text-is('country')")).get_attribute("open") is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_has_nothing_against_it_for_those_who_do_not_see_it_as_others_do(
    browser: Browser, report: str, scheme: str
) -> None:
    # the checker is a script, which the report's own policy forbids
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True) as context:
        page = context.new_page()
        page.goto(report)
        page.evaluate("document.querySelectorAll('details').forEach(section => { section.open = true })")
        found = Axe().run(page).response["violations"]
        assert [(problem["id"], [node["html"][:200] for node in problem["nodes"]]) for problem in found] == []
