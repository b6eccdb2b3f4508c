"""The table of divergences, wide and narrow."""

import io

import numpy as np
import pytest
from rich.console import Console

from kldrift.cli.demo import _line
from kldrift.cli.tables import print_snapshot
from tests.export.snapshots import feature, monitor, snapshot


def printed(width: int, **changes: object) -> str:
    to = Console(file=io.StringIO(), width=width)
    print_snapshot(snapshot(monitor(**changes)), to)
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_no_figure_is_cut_short_however_narrow_the_terminal(width: int) -> None:
    text = printed(
        width,
        exported=("kl", "js", "psi"),
        ready=np.ones((2, 2), dtype=bool),
        divergences=np.ones((2, 2, 8)),
        lower=np.full((2, 2), 0.9),
    )
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("amount", "country", "KL", "critical"):
        assert word in text
    assert text.count("critical") == 4


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed(150, exported=("kl", "js", "psi"))
    for heading in ("feature", "window", "KL", "JS", "PSI", "bound", "floor", "missing", "outside", "state"):
        assert heading in text


def test_a_long_name_is_folded_not_cut() -> None:
    name = "a_very_long_name_of_a_feature_" * 4
    text = printed(80, features=(feature(name), feature("country", "categorical")))
    first = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert name in "".join(first)
    assert "…" not in text


def test_the_demo_shows_no_number_for_an_empty_window() -> None:
    empty = monitor(samples=np.zeros((2, 2), dtype=int), divergences=np.full((2, 2, 8), np.nan))
    assert _line(empty) == "KL over 5m, 0 rows: amount empty | country empty"
