"""``kldrift check``: the plan, and what it warns of."""

from pathlib import Path

import numpy as np
import pytest

from kldrift.assembly.monitors import build_monitors
from kldrift.cli.check import check_command, n_bytes, n_series
from kldrift.config.load import load_config

COIN = "{kind: categorical, reference: {probabilities: {heads: 0.5, tails: 0.5}}}"


def test_the_plan_counts_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kldrift.yaml"
    path.write_text(f"monitors: {{m: {{windows: [5m], features: {{coin: {COIN}}}}}}}")
    check_command(path)
    out = capsys.readouterr().out
    assert "ok: 1 monitor, 1 feature, " in out
    assert " kB of counts" in out
    assert "exact" in out
    assert "warning:" not in out


def test_more_series_than_a_scrape_carries_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kldrift.yaml"
    windows = ", ".join(f"{minutes}m" for minutes in range(1, 13))
    features = "\n".join(f"      f{i}: {COIN}" for i in range(600))
    path.write_text(f"monitors:\n  m:\n    windows: [{windows}]\n    features:\n{features}\n")
    check_command(path)
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert "series are more than the 50,000 that a scrape carries" in warning
    assert warning.endswith("monitor fewer features, segments, windows or divergences")


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> str:
    path = tmp_path / "kldrift.yaml"
    path.write_text(text)
    check_command(path)
    return capsys.readouterr().out


def test_the_plan_says_how_a_monitor_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = checked(
        tmp_path,
        capsys,
        "monitors: {m: {windows: [5m], segments: {by: country, limit: 7}, estimator: evidently,"
        f" drift: {{confidence: 0.999, correction: by}}, features: {{coin: {COIN}}}}}}}",
    )
    words = " ".join(out.split())
    assert "configuration" in words  # where the reference comes from
    assert "estimator evidently" in words
    assert "confidence 99.9 %, verdicts by Benjamini-Yekutieli" in words
    assert "segments by country, at most 7 and other" in words
    assert "cannot support a verdict" not in words


def test_a_reference_that_supports_no_verdict_is_noted_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No error: the daemon would start, and leave these features undecided."""
    few = "{kind: categorical, reference: {counts: {a: 3, b: 2}}}"
    out = checked(
        tmp_path,
        capsys,
        f"monitors: {{m: {{windows: [5m], features: {{few: {few}, coin: {COIN}, fewer: {few},"
        " later: {kind: numeric, reference: {learn: 500}}}}}",
    )
    assert "\n2 of 4 references cannot support a verdict: m.few, m.fewer\n" in out
    assert "\n1 of 4 references learned from the stream, undecided until then: m.later\n" in out
    assert "pending" in out
    assert "\nok: 1 monitor, 4 features, " in out


def data(tmp_path: Path, name: str, values: np.ndarray) -> str:
    path = tmp_path / f"{name}.csv"
    path.write_text(f"{name}\n" + "".join(f"{value}\n" for value in values.tolist()))
    return f"{name}: {{kind: numeric, reference: {{data: {path}}}}}"


def cells(out: str, feature: str) -> list[list[str]]:
    """The cells of a feature's row, each with its lines."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    start = next(i for i, row in enumerate(rows) if row[0] == feature)
    end = next((i for i in range(start + 1, len(rows)) if rows[i][0]), len(rows))
    return [[line for line in column if line] for column in zip(*rows[start:end], strict=True)]


def test_the_smallest_drift_that_each_reference_can_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x = data(tmp_path, "x", rng.normal(size=10_000))
    monitor = f"{{windows: [5m, 1h], features: {{{x}, coin: {COIN}}}}}"
    out = checked(tmp_path, capsys, f"monitors: {{m: {monitor}}}")
    _, _, _, _, rows, _, warning, warns, critical, is_critical, _ = cells(out, "x")
    assert (rows, warning, critical) == (["10,000"], ["0.01"], ["0.1"])
    assert " ".join(warns) == "0.017 (0.19 σ)"
    assert " ".join(is_critical) == "0.12 (0.49 σ)"
    assert " ".join(cells(out, "coin")[7]) == "0.01"
    assert "in a window of any size; --rate ROWS_PER_SECOND shows each window" in out
    assert "warning:" not in out


def test_at_a_rate_the_smallest_drift_of_each_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kldrift.yaml"
    x = data(tmp_path, "x", np.random.default_rng(0).normal(size=10_000))
    path.write_text(f"monitors: {{m: {{windows: [1m, 5m, 1h], features: {{{x}}}}}}}")
    check_command(path, rate=2)
    warns = " ".join(cells(capsys.readouterr().out, "x")[7])
    assert warns == "any 0.017 (0.19 σ) 1m undecided: 120 rows 5m 0.056 (0.34 σ) 1h 0.022 (0.21 σ)"


def test_references_that_cannot_alarm_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    drifts = data(tmp_path, "s", np.sort(rng.normal(size=5_000)))
    lines = (tmp_path / "s.csv").read_text().splitlines()
    (tmp_path / "s.csv").write_text("\n".join(["s,ts", *(f"{line},{i}" for i, line in enumerate(lines[1:]))]))
    features = ", ".join([drifts, data(tmp_path, "few", rng.normal(size=170))])
    timestamp = "{field: ts, unit: s}"
    out = checked(
        tmp_path, capsys, f"monitors: {{m: {{windows: [5m], timestamp: {timestamp}, features: {{{features}}}}}}}"
    )
    assert cells(out, "s")[7] == cells(out, "s")[9] == ["never"]
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert warnings[0].startswith("warning: 1 feature cannot alarm: m.s. However large a window, no shift")
    assert warnings[1].startswith("warning: 1 feature cannot show a drift as small as the critical tolerance")
    assert "m.few (from 0.1" in warnings[1]


def size(tmp_path: Path, monitor: str) -> tuple[int, int]:
    path = tmp_path / "kldrift.yaml"
    path.write_text(f"monitors: {{m: {monitor}}}".replace("windows", "divergences: [kl], windows"))
    (built,) = build_monitors(load_config(path).monitors, created_ms=1)
    return n_bytes(built), n_series(built)


def test_memory_and_series_grow_with_segments_history_and_dimensions(tmp_path: Path) -> None:
    """6 cells; slices of 25 s, so that a lateness of 60 s keeps 4 panes open; 21 series of a feature, 1 more."""
    assert size(tmp_path, f"{{windows: [5m], features: {{coin: {COIN}}}}}") == (8 * 6 * (12 + 4), 21 + 1)
    # 13 series of each segment; the number of segments, the mix, and what lies within
    split = f"{{windows: [5m], segments: {{by: c, limit: 4}}, features: {{coin: {COIN}}}}}"
    assert size(tmp_path, split) == (8 * 5 * 7 * (12 + 4), 21 + 1 + 5 * 13 + 3)
    vector = "{kind: vector, dimensions: 3, per_dimension: true, reference: {family: normal, mean: 0, std: 1}}"
    n, series = size(tmp_path, f"{{windows: [5m], features: {{coin: {COIN}, z: {vector}}}}}")
    assert (n - 8 * 6 * 16) % (8 * 16) == 0
    assert n >= 8 * (6 + 7) * 16  # a count, three means and three squares
    assert series == 21 + 19 + 3 + 1


def test_an_earlier_window_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x\n" + "".join(f"{i % 100}\n" for i in range(5000)))
    n = {}
    for offset in ("1h", "2h"):
        previous = f"{{previous: {offset}, data: data.csv}}"
        n[offset], _ = size(tmp_path, f"{{windows: [5m], features: {{x: {{kind: numeric, reference: {previous}}}}}}}")
    n_cells = (n["2h"] - n["1h"]) // (8 * 144)  # an hour more is 144 slices of 25 s
    assert n["1h"] == 8 * n_cells * (12 + 144 + 1 + 4)
