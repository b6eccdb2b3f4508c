"""``kldrift check``: the plan, and what it warns of."""

from pathlib import Path

import pytest

from kldrift.cli.check import check_command

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
    assert warning.endswith("watch fewer features, windows or divergences")
