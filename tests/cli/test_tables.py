"""The table of divergences, wide and narrow."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from kldrift.cli.demo import _line
from kldrift.cli.tables import print_snapshot
from kldrift.records.divergences import N_DIVERGENCES
from kldrift.records.snapshots import MonitorSnapshot
from tests.export.snapshots import feature, monitor, segmented, snapshot

NAN = float("nan")


def printed(width: int, whole: MonitorSnapshot | None = None, **changes: object) -> str:
    to = Console(file=io.StringIO(), width=width)
    print_snapshot(snapshot(whole or monitor(**changes)), to)
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_no_figure_is_cut_short_however_narrow_the_terminal(width: int) -> None:
    text = printed(
        width,
        exported=("kl", "js", "psi"),
        ready=np.ones((2, 2), dtype=bool),
        divergences=np.ones((2, 2, N_DIVERGENCES)),
        lower=np.full((2, 2), 0.9),
        detected=np.ones((2, 2)),
    )
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("amount", "country", "KL", "critical"):
        assert word in text
    assert text.count("critical") == 4 + 1  # and in the verdict


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed(150, exported=("kl", "js", "psi"))
    for heading in ("feature", "window", "KL", "JS", "PSI", "lower", "upper", "floor", "missing", "outside", "state"):
        assert heading in text


def test_a_long_name_is_folded_not_cut() -> None:
    name = "a_very_long_name_of_a_feature_" * 4
    text = printed(80, features=(feature(name), feature("country", "categorical")))
    first = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert name in "".join(first)
    assert "…" not in text


def test_absent_features_come_first_and_undecided_ones_last() -> None:
    names = ("quiet", "undecided", "absent")
    text = printed(
        120,
        features=tuple(map(feature, names)),
        windows=("5m",),
        samples=np.full((1, 3), 500),
        divergences=np.tile(np.array([0.1, 9.0, NAN])[:, np.newaxis], (1, 1, N_DIVERGENCES)),
        ready=np.array([[True, False, False]]),
        absent=np.array([[False, False, True]]),
        detected=np.array([[0.0, 0.0], [NAN, NAN], [NAN, NAN]]),
    )
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    assert [(row[0].strip(), row[-1].strip()) for row in rows] == [(n, n) for n in ("absent", "quiet", "undecided")]


def test_the_demo_shows_no_number_for_an_empty_window() -> None:
    empty = monitor(samples=np.zeros((2, 2), dtype=int), divergences=np.full((2, 2, N_DIVERGENCES), np.nan))
    assert _line(empty) == "KL over 5m, 0 rows: amount empty | country empty"


# --- the verdict -----------------------------------------------------------------------------------


def verdict(*detected: tuple[float, float], **changes: object) -> str:
    names = ("HISP", "AGEP", "SEX", "a", "b")[: len(detected)]
    lower = np.array([[0.2, 0.3, 0.05, NAN, NAN], [NAN, 0.1, NAN, NAN, NAN]])[:, : len(detected)]
    text = printed(
        120, features=tuple(map(feature, names)), detected=np.array(detected), lower=lower, upper=lower * 2, **changes
    )
    (line,) = [line.rstrip() for line in text.splitlines() if line.startswith("verdict ")]
    return line


def test_the_verdict_names_what_drifts_most_drifted_first() -> None:
    assert verdict((1, 1), (1, 1), (1, 0), (NAN, NAN), (NAN, NAN)) == (
        "verdict (false discovery rate 0.01 %): critical: AGEP, HISP; warning: SEX; 2 undecided"
    )


def test_the_verdict_says_so_where_nothing_drifts_or_nothing_is_decided() -> None:
    assert verdict((0, 0), (0, 0), confidence=0.95) == "verdict (false discovery rate 5 %): no drift"
    assert verdict((0, 0), (NAN, NAN)) == "verdict (false discovery rate 0.01 %): no drift; 1 undecided"
    assert verdict((NAN, NAN), (NAN, NAN)) == "verdict (false discovery rate 0.01 %): 2 undecided"


def test_the_verdict_counts_what_it_does_not_name() -> None:
    many = tuple(feature(f"f{i}") for i in range(100))
    text = " ".join(printed(150, features=many, detected=np.tile([1.0, 0.0], (100, 1))).split())
    assert " and 80 more" in text


def test_a_bound_is_blank_where_it_is_undecided_and_shares_where_they_do_not_apply() -> None:
    text = printed(
        150,
        windows=("5m",),
        features=(feature("latent", "vector"), feature("z", "posterior")),
        ready=np.array([[True, False]]),
        divergences=np.full((1, 2, N_DIVERGENCES), 0.5),
        lower=np.array([[0.0625, NAN]]),
        upper=np.array([[0.875, NAN]]),
        detected=np.array([[1.0, 0.0], [NAN, NAN]]),
    )
    latent, z = ([cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│ " in line)
    assert latent[:2] == ["latent", "5m"]
    assert latent[3:6] == ["0.50000", "0.06250", "0.87500"]
    assert latent[-2:] == ["", "warning"]
    assert z[3:6] == ["0.50000", "", ""]
    assert z[-2:] == ["", "undecided"]


def test_a_reference_without_a_verdict_says_why() -> None:
    text = printed(150, features=(feature("x", problem="it is [constant]"), feature("y")))
    assert "  x: undecided: it is [constant]" in text


# --- segments --------------------------------------------------------------------------------------


def split(*values: str) -> MonitorSnapshot:
    """Segments of 1000, 100, 10 … rows."""
    nan = np.full((2, 2), NAN)
    lower = np.array([[0.0, 0.25], [0.125, 0.0]])
    whole = segmented(*values)
    return replace(
        whole,
        segments=tuple(
            replace(
                segment,
                samples=np.full((2, 2), 1000 // 10**i),
                lower=lower / 2**i if i < 2 else nan,
                detected=np.array([[1.0, 0.0], [1.0, 1.0]]) if i < 2 else np.full((2, 2), NAN),
            )
            for i, segment in enumerate(whole.segments)
        ),
        segment_mix=np.array([0.5, NAN]),
        within_segments=np.array([[0.25, 0.375], [NAN, NAN]]),
    )


def test_segments_have_a_table_of_their_own() -> None:
    text = printed(100, split("US", "", "other"))
    below = text[text.index("segments, largest first") :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in below.splitlines() if "│" in line]
    assert rows == [
        ["US", "1,000", "2", "0.25000", "country"],
        ["(empty)", "100", "2", "0.12500", "country"],
        ["other", "10", "", "", "undecided"],
    ]
    assert "segments over 5m: mix 0.50000 nats; within the segments 0.37500 nats or less, most in country" in below
    assert "segments over 1h: mix unknown to the reference\n" in below.replace(" \n", "\n")
    assert "more" not in below


def test_the_smallest_of_many_segments_are_only_counted() -> None:
    text = printed(100, split(*(f"s{i:03}" for i in range(60))))
    assert "s049" in text
    assert "s050" not in text
    assert "and 10 smaller segments" in text


def test_a_segment_value_from_the_input_cannot_write_to_the_terminal() -> None:
    text = printed(100, split("\x1b[2Jred", "[bold]", "\ud800"))
    assert "\x1b" not in text
    assert "[bold]" in text
    text.encode()


def test_without_segments_there_is_no_table_of_them() -> None:
    assert "segment" not in printed(150)


def test_values_of_the_wrong_type_have_a_column_where_there_are_any() -> None:
    assert "invalid" not in printed(150, invalid_ratio=np.array([[0.0, NAN], [0.0, 0.0]]))
    text = printed(150, invalid_ratio=np.array([[0.0, NAN], [0.1212, 0.0]]))
    assert "invalid" in text
    assert "12.12%" in text
