"""``kldrift backtest`` as a user runs it."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from kldrift.config.load import load_config
from tests.cli.command import kldrift
from tests.conftest import ROOT
from tests.e2e.processes import kldrift as installed

BEGIN_MS = 1_700_000_000_000
N_ROWS = 6000

CONFIG = """
state: none
monitors:
  loans:
    timestamp: {field: ts, unit: iso8601}
    windows: [1h, 4h]
    reference: {data: reference.parquet}
    features:
      amount: {kind: numeric}
      country: {kind: categorical}
      steady: {kind: numeric}
"""


def table(n: int = N_ROWS) -> pl.DataFrame:
    """A row a minute; in the middle the amounts are higher for half a day."""
    rng = np.random.default_rng(5)
    amount = rng.normal(size=n)
    amount[n // 2 : n // 2 + 720] += 1.0
    times = pl.Series(BEGIN_MS + np.arange(n) * 60_000).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pl.DataFrame(
        {"ts": times, "amount": amount, "country": rng.choice(["de", "fr"], n), "steady": rng.normal(size=n)}
    )


def written(folder: Path) -> Path:
    """A reference, rows, and a configuration."""
    rng = np.random.default_rng(0)
    n = 20_000
    pl.DataFrame(
        {"amount": rng.normal(size=n), "country": rng.choice(["de", "fr"], n), "steady": rng.normal(size=n)}
    ).write_parquet(folder / "reference.parquet")
    table().write_parquet(folder / "live.parquet")
    (folder / "kldrift.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


GIVEN = ("backtest", "-c", "kldrift.yaml", "live.parquet")


@pytest.mark.slow
def test_the_terminal_tells_of_alarms_and_proposes_tolerances(folder: Path) -> None:
    done = installed(*GIVEN, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "loans: 6,000 rows of live.parquet, 2023-11-14 22:13 to 2023-11-19 02:12 UTC" in done.stdout
    assert "in 1,201 steps of 5m" in done.stdout
    for words in (
        "What each tolerance would have done",
        "its own tolerance would keep it to 1/3",
        "begin (UTC)",
        "meets 1/month",
        "proposed:",
    ):
        assert words in done.stdout
    # the one drift that there is: at 2023-11-17 00:13, for half a day
    (alarm,) = [line for line in done.stdout.splitlines() if "│ amount  │ 4h " in line]
    assert "2023-11-17" in alarm


def test_json_has_all_of_it_and_the_snippet_meets_the_target(folder: Path) -> None:
    done = kldrift(*GIVEN, "--json", "--target", "1/week", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["rows"] == N_ROWS
    assert answer["steps"] == 1201
    assert answer["target"] == {"text": "1/week", "per_week": 1}
    features = {feature["name"]: feature for feature in answer["features"]}
    assert features["amount"]["warnings"] >= 1
    assert features["steady"]["warnings"] == 0
    assert {alarm["feature"] for alarm in answer["alarms"]} == {"amount"}
    assert sum(series["warnings"] for series in features["amount"]["series"]) == len(answer["alarms"])
    tolerances = [rung["tolerance"] for rung in answer["ladder"]]
    assert tolerances == sorted(tolerances)
    assert {0.002, 0.01, 0.1, 1.0} <= set(tolerances)
    # with what is proposed
    assert not answer["proposal"]["met"]
    proposed = answer["proposal"]["rung"]["tolerance"]
    lines = answer["yaml"].splitlines()
    assert lines[:2] == ["monitors:", "  loans:"]
    assert lines[2].startswith(f"    drift: {{warning: {proposed:g}, critical: ")
    (folder / "new.yaml").write_text(CONFIG.replace("    features:\n", f"{lines[2]}\n    features:\n"))
    assert load_config(folder / "new.yaml").monitors[0].features[0].warning == proposed
    again = json.loads(kldrift("backtest", "-c", "new.yaml", "live.parquet", "--json", "--target", "1/week",
                               cwd=folder).stdout)  # fmt: skip
    assert again["proposal"]["met"]
    assert next(rung for rung in again["ladder"] if rung["configured"] == "warning")["per_week"] <= 1


def test_the_ladder_is_what_each_tolerance_would_have_done(folder: Path) -> None:
    """Computed from one replay, the figures are those of a replay with that tolerance."""
    answer = json.loads(kldrift(*GIVEN, "--json", cwd=folder).stdout)
    expected = {rung["tolerance"]: rung for rung in answer["ladder"]}
    for tolerance in (0.02, 0.2):
        drift = f"    drift: {{warning: {tolerance}, critical: 5}}\n"
        (folder / "new.yaml").write_text(CONFIG.replace("    features:\n", f"{drift}    features:\n"))
        found = json.loads(kldrift("backtest", "-c", "new.yaml", "live.parquet", "--json", cwd=folder).stdout)
        (rung,) = [rung for rung in found["ladder"] if rung["configured"] == "warning"]
        assert rung | {"configured": ""} == expected[tolerance]


def test_the_step_can_be_the_tick(folder: Path) -> None:
    (folder / "kldrift.yaml").write_text("engine: {tick: 30s}\n" + CONFIG)
    table(200).write_parquet(folder / "live.parquet")
    found = json.loads(kldrift(*GIVEN, "--json", "--every", "tick", cwd=folder).stdout)
    assert found["every_ms"] == 30_000
    assert found["steps"] in (398, 399)
    found = json.loads(kldrift(*GIVEN, "--json", "--every", "20m", "--to", "2023-11-14T23:00", cwd=folder).stdout)
    assert (found["every_ms"], found["rows"]) == (1_200_000, 47)


def test_notes_tell_what_to_think_of(folder: Path) -> None:
    data = table(300).with_columns(pl.lit("x").alias("amount")).drop("country")
    data.sample(fraction=1, shuffle=True, seed=0).write_ndjson(folder / "live.ndjson")
    with (folder / "live.ndjson").open("a") as file:
        file.write('{"ts": "never"}\n')
    done = kldrift("backtest", "-c", "kldrift.yaml", "live.ndjson", "--every", "2h", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "note: not in the data, so counted as missing, as the daemon would: country",
        "note: rows left out: 1 without a readable event time",
        "note: values of the wrong type, counted as invalid: amount (300)",
        "go backwards): they were sorted",
        "note: shorter than a step of 2h: window 1h",
        "too short to tell 1/month",
    ):
        assert words in done.stdout


def test_where_nothing_was_decided_nothing_is_proposed(folder: Path) -> None:
    table(1).write_parquet(folder / "live.parquet")
    done = kldrift(*GIVEN, "--html", "out.html", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "report: out.html\n")
    assert "loans: 1 row of live.parquet" in done.stdout
    assert "No window was ever decided, so nothing can be proposed" in done.stdout
    assert "meets 1/month" not in done.stdout
    assert "drift: {" not in done.stdout
    assert "Undecided throughout" in (folder / "out.html").read_text()


def test_a_history_that_holds_its_reference_is_told(folder: Path) -> None:
    (folder / "kldrift.yaml").write_text(CONFIG.replace("reference.parquet", "live.parquet"))
    assert "is the reference as well" in kldrift(*GIVEN, cwd=folder).stdout
    table(3000).write_parquet(folder / "early.parquet")
    (folder / "kldrift.yaml").write_text(CONFIG.replace("reference.parquet", "early.parquet"))
    found = kldrift(*GIVEN, cwd=folder).stdout
    assert "the reference early.parquet extends to 2023-11-17, and part of the history is from before then" in found
    (folder / "kldrift.yaml").write_text(CONFIG.replace("reference.parquet", "live.parquet"))
    found = kldrift("backtest", "-c", "kldrift.yaml", "early.parquet", cwd=folder).stdout
    assert "and all of the history is from before then" in found


NO_TIME = CONFIG.replace("    timestamp: {field: ts, unit: iso8601}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.csv",), "absent.csv: expected a data file, found none"),
        (("empty.csv",), "empty.csv: expected rows of data, got an empty file"),
        (("header.csv",), "header.csv: expected rows with an event time (iso8601) in the field 'ts', got none"),
        (("damaged.parquet",), "damaged.parquet"),
        (("other.csv",), "other.csv: expected event times in the field 'ts', but there is no such column"),
        (("other.csv", "--timestamp", "a:s"), "expected columns with the features of monitor loans (amount, country"),
        (("words.csv",), "expected rows with an event time (iso8601) in the field 'ts', got none (2 without a"),
        (("live.parquet", "--from", "2030-01-01"), "rows between --from and --to and before now, but all 6,000"),
        (("live.parquet", "--from", "soon"), "--from soon: expected a date or time (ISO 8601"),
        (("live.parquet", "--from", "2024-01-02", "--to", "2024-01-01"), "expected a time after --from 2024-01-02"),
        (("live.parquet", "--target", "often"), "--target often: expected pages per day, week, month or year"),
        (("live.parquet", "--every", "0"), "--every 0: expected a duration of 100ms or more"),
        (("live.parquet", "-m", "x"), "-m x: expected a monitor of kldrift.yaml, which has loans"),
        (("live.parquet", "--html", "absent/out.html"), "expected to write the report"),
        (("live.parquet", "-c", "timeless.yaml"), "timeless.yaml: monitors.loans: expected a timestamp"),
        (("live.parquet", "-c", "absent.yaml"), "absent.yaml: expected a readable file"),
        (("live.parquet", "-c", "unreferenced.yaml"), "gone.parquet: expected a data file, found none"),
    ],
)
def test_bad_input_is_told_in_words(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "empty.csv").write_bytes(b"")
    (folder / "header.csv").write_bytes(b"ts,amount\n")
    (folder / "damaged.parquet").write_bytes(b"PAR1" * 99)
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "words.csv").write_text("ts,amount\nnever,1\n,2\n")
    (folder / "timeless.yaml").write_text(NO_TIME)
    (folder / "unreferenced.yaml").write_text(CONFIG.replace("reference.parquet", "gone.parquet"))
    given = ("-c", "kldrift.yaml") if "-c" not in arguments else ()
    done = kldrift("backtest", *given, *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_field_of_the_times_can_be_given(folder: Path) -> None:
    (folder / "kldrift.yaml").write_text(NO_TIME)
    table(300).with_columns(pl.int_range(300).alias("seconds")).write_csv(folder / "live.csv")
    for given, every in (("ts", "20s"), ("seconds:s", "1s")):
        done = kldrift("backtest", "-c", "kldrift.yaml", "live.csv", "--every", every, "--timestamp", given, "--json",
                       cwd=folder)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == 300


def test_names_of_any_kind_are_shown_as_they_are(folder: Path) -> None:
    name = "<script>alert(1)</script> [bold]"
    (folder / "kldrift.yaml").write_text(CONFIG.replace("amount:", f'"{name}":'))
    for file in ("reference", "live"):
        path = folder / f"{file}.parquet"
        pl.read_parquet(path).rename({"amount": name}).write_parquet(path)
    odd = os.fsdecode(b"live \xff.csv")
    pl.read_parquet(folder / "live.parquet").write_csv(folder / "live.csv")
    (folder / "live.csv").rename(folder / odd)
    done = kldrift("backtest", "-c", "kldrift.yaml", odd, "--html", "out.html", cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "[bold]" in done.stdout
    assert "<script" not in (folder / "out.html").read_text()
    assert not list(folder.glob("*.part"))


def test_the_electricity_market_end_to_end(shared_data: Path) -> None:
    done = kldrift("backtest", "-c", str(ROOT / "config/examples/electricity.yaml"),
                   str(shared_data / "electricity.csv.gz"), "--json")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["rows"], answer["steps"]) == (45_312, 405)
    assert answer["weeks"] == 135
    # compared with all of itself nothing drifts, but the first two days, which are no week
    assert {(alarm["feature"], alarm["window"]) for alarm in answer["alarms"]} == {("day", "4w"), ("day", "12w")}
    assert any("is the reference as well" in note for note in answer["notes"])


# --- the report in a browser --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report's address."""
    folder = written(tmp_path_factory.mktemp("report"))
    done = kldrift(*GIVEN, "--html", "out.html", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "report: out.html\n")
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
        # alarms are marked where the feature has some
        amount = page.locator("details", has=page.locator("h3:text-is('amount')"))
        assert amount.locator("rect").count() == 1
        # a link of the table opens the section it leads to
        page.click("a:text-is('steady')")
        steady = page.locator("details", has=page.locator("h3:text-is('steady')"))
        assert steady.get_attribute("open") is not None
        assert steady.locator("rect").count() == 0


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
