"""Charts: drawn to scale, named, escaped, small, and without anything that a strict policy forbids."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from kldrift.pages.charts import Cell, histogram, legend, sparkline, thumbnail, timeline
from kldrift.pages.charts.drawing import number, numbers, short, ticks
from kldrift.pages.charts.histogram import MOST_BINS, MOST_CATEGORIES
from kldrift.pages.charts.timeline import POINTS
from kldrift.records.types import FloatArray

HOSTILE = '<script>alert("1")</script>&\'/../\x00é日'
MINUTE = 60_000
START = 1_700_000_040_000  # 2023-11-14 22:14:00 UTC


def parsed(markup: Markup) -> ET.Element:
    """The chart as XML: malformed markup is an error here."""
    assert isinstance(markup, Markup)
    return ET.fromstring(f"<div>{markup}</div>")


def bins(shares: Sequence[float], reference: Sequence[float] | None = None) -> list[Cell]:
    q = reference or [1 / len(shares)] * len(shares)
    return [
        Cell(f"[{i}, {i + 1})", p, q[i], abs(p - q[i]), "bin", float(i), float(i + 1)) for i, p in enumerate(shares)
    ]


def categories(n: int) -> list[Cell]:
    return [Cell(f"c{i}", 1 / n, 1 / n, 0.001 * i, "category") for i in range(n)]


def path_of(markup: Markup, class_name: str) -> str:
    found = parsed(markup).find(f".//path[@class='{class_name}']")
    return "" if found is None else found.attrib["d"]


def every_chart() -> list[Markup]:
    special = [Cell(HOSTILE, 0.1, 0.0, 0.2, "special")]
    at = START + np.arange(5) * MINUTE
    kl = np.array([0.0, 0.1, np.nan, 0.2, np.inf])
    return [
        histogram([*bins([0.2, 0.8]), *special], HOSTILE),
        histogram([Cell(HOSTILE, 0.5, 0.5, np.inf, "category"), *special], HOSTILE),
        thumbnail(bins([0.2, 0.8]), HOSTILE),
        sparkline(kl, 0.01, HOSTILE),
        timeline(at, kl, kl, kl, 0.01, 0.1, HOSTILE),
        timeline(at, 1000 * kl, kl, kl, 0.01, 0.1, HOSTILE),
    ]


@pytest.mark.parametrize("chart", every_chart(), ids=range(6))
def test_a_chart_is_named_escaped_and_free_of_what_a_strict_policy_forbids(chart: Markup) -> None:
    text = str(chart).replace("\x00", "")
    assert "<script" not in text
    assert not re.search(r"\s(style|on\w+|href|src)=", text.replace("&#34;", ""))
    assert "nan" not in text.lower().replace("nan" + "a", "")
    for svg in parsed(Markup(text)):
        assert svg.attrib["role"] == "img"
        assert svg.attrib["aria-label"].startswith('<script>alert("1")</script>&\'/../é日')


# --- sparkline ----------------------------------------------------------------------------------------


def lines(markup: Markup, nth: int) -> list[list[tuple[float, float]]]:
    """The pieces of the nth path of a sparkline (the tolerance, the line within it, the line above it), as points."""
    data = parsed(markup)[0][nth].attrib["d"]
    pieces: list[list[tuple[float, float]]] = []
    x = y = 0.0
    for command, numbers_text in re.findall(r"([MmHh])([^MmHh]*)", data):
        given = [float(n) for n in re.findall(r"-?[\d.]+", numbers_text)]
        if command in "Hh":
            x = given[0] if command == "H" else x + given[0]
            pieces[-1].append((x, y))
            continue
        pairs = list(zip(given[::2], given[1::2], strict=True))
        pieces.append([])
        for dx, dy in pairs:
            x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
            pieces[-1].append((x, y))
    return pieces


def test_a_sparkline_of_sixty_points_is_small() -> None:
    rng = np.random.default_rng(0)
    sizes = [len(sparkline(np.abs(rng.normal(0.01, 0.004, 60)), 0.02, "amount")) for _ in range(50)]
    assert np.mean(sizes) <= 350


def test_a_sparkline_is_red_where_it_touches_a_point_above_its_tolerance() -> None:
    chart = sparkline(np.array([0.0, 0.0, 0.3, 0.0, 0.0]), 0.1, "a", width=40, height=22)
    # 0.3 is the top, one pixel below the edge; 0 is at the bottom
    assert lines(chart, 0) == [[(0, 14.3), (40, 14.3)]]
    assert lines(chart, 1) == [[(0, 21), (10, 21)], [(30, 21), (40, 21)]]
    assert lines(chart, 2) == [[(10, 21), (20, 1), (30, 21)]]
    assert [path.attrib.get("class") for path in parsed(chart)[0]] == [None, None, "o"]


def test_a_sparkline_has_gaps_and_single_points() -> None:
    chart = sparkline(np.array([0.0, 0.0, np.nan, 0.0, np.nan, 0.2]), 0.1, "a", width=50, height=22)
    assert lines(chart, 1) == [[(0, 21), (10, 21)], [(30, 21), (30, 21)]]
    assert lines(chart, 2) == [[(50, 1), (50, 1)]]
    for nothing in (np.array([]), np.full(5, np.nan)):
        assert lines(sparkline(nothing, 0.1, "a"), 1) == lines(sparkline(nothing, 0.1, "a"), 2) == []


def test_a_sparkline_without_a_name_is_hidden_from_those_who_do_not_see_it() -> None:
    assert parsed(sparkline(np.zeros(3), 0.1, ""))[0].attrib["aria-hidden"] == "true"


def test_a_peak_survives_in_a_sparkline_of_many_points() -> None:
    values = np.zeros(1000)
    values[567] = 1.0
    assert lines(sparkline(values, 0.1, "a"), 2) == [[(63, 23), (66, 1), (69, 23)]]


@given(st.lists(st.floats(min_value=0) | st.just(float("nan")), max_size=200), st.floats(1e-6, 1e6))
def test_a_sparkline_stays_within_its_box(values: list[float], tolerance: float) -> None:
    chart = sparkline(np.array(values, dtype=np.float64), tolerance, "a")
    for x, y in [point for nth in (1, 2) for piece in lines(chart, nth) for point in piece]:
        assert 0 <= x <= 120
        assert 1 <= y <= 23


# --- histogram ----------------------------------------------------------------------------------------


def test_bins_are_columns_with_their_shares_to_scale() -> None:
    chart = histogram(bins([0.1, 0.4], [0.2, 0.2]), "a")
    # the axis ends at 40 %, 132 px high
    assert path_of(chart, "chart-live") == "M.1 132V99h.8V132ZM1.1 132V0h.8V132Z"
    assert path_of(chart, "chart-reference") == "M0 132V66h1V66h1V132"
    # the larger contribution, 0.2, takes all of the 44 px, 0.1 half
    assert path_of(chart, "chart-contribution") == "M.1 44V22h.8V44ZM1.1 44V0h.8V44Z"
    words = " ".join(parsed(chart).itertext())
    assert "contribution of each bin, to 0.2 nats" in words
    assert "[1, 2): live 40 %, reference 20 %, contributes 0.2 nats" in words
    assert "40 %" in words


def test_many_bins_are_merged_and_their_shares_add_up() -> None:
    chart = histogram(bins([1 / 200] * 200), "a")
    hovers = [element.text or "" for element in parsed(chart).iter("title")]
    assert len(hovers) == 50 <= MOST_BINS
    assert "live 2 %" in hovers[0]
    assert hovers[0].startswith("[0, 1) … [3, 4)")


def test_of_many_categories_the_largest_are_kept_and_the_rest_is_one_row() -> None:
    cells = categories(100)
    cells[7] = Cell("large", 0.9, 0.01, 0.0, "category")
    chart = histogram(cells, "a")
    hovers = [element.text or "" for element in parsed(chart).iter("title")]
    assert len(hovers) == MOST_CATEGORIES
    names = [hover.split(":")[0] for hover in hovers]
    assert "large" in names
    assert "c99" in names
    assert names[-1] == "77 more"
    assert names[:-1] == sorted(names[:-1], key=lambda name: 7 if name == "large" else int(name[1:]))


def test_what_has_no_bin_and_no_rows_is_not_drawn() -> None:
    nothing = Cell("missing", 0.0, 0.0, 1e-6, "special")
    assert len(parsed(histogram([*bins([0.5, 0.5]), nothing], "a"))) == 1
    gone = Cell("missing", 0.0, 0.1, 0.1, "special")
    chart = histogram([*bins([0.5, 0.5]), gone], "a")
    assert len(parsed(chart)) == 2
    assert "missing: live 0 %, reference 10 %, contributes 0.1 nats" in " ".join(parsed(chart).itertext())
    assert "M0 24V0h1V0h1V24" in thumbnail([*bins([0.5, 0.5]), nothing], "a")


def test_a_histogram_of_nothing_and_of_no_number_is_drawn_all_the_same() -> None:
    assert histogram([], "a") == ""
    unknown = [Cell("[0, 1)", np.nan, np.nan, np.nan, "bin", 0.0, 1.0)]
    assert "reference –" in " ".join(parsed(histogram(unknown, "a")).itertext()).replace("– %", "–")


def test_a_long_name_is_cut_and_whole_where_the_pointer_is() -> None:
    name = "x" * 2000
    chart = parsed(histogram([Cell(name, 0.5, 0.5, 0.0, "category")], "a"))
    shown = [text.text or "" for text in chart.iter("text")]
    assert max(map(len, shown)) <= 32
    assert any((title.text or "").startswith(name) for title in chart.iter("title"))


def test_the_legend_names_what_is_drawn() -> None:
    assert " ".join("".join(parsed(legend()).itertext()).split()) == "live reference contribution to the divergence"


# --- timeline -----------------------------------------------------------------------------------------


def minutes(kl: FloatArray, warning: float = 0.01, critical: float = 0.1) -> Markup:
    at = START + np.arange(kl.size, dtype=np.int64) * MINUTE
    return timeline(at, kl, 0.5 * kl, 2 * kl, warning, critical, "a")


def test_a_timeline_draws_the_line_in_its_band_to_scale() -> None:
    chart = minutes(np.array([0.0, 0.1]))
    # 168 px to 0.2 nats, its upper bound
    assert path_of(chart, "chart-kl") == "M0 168L1000 84"
    assert path_of(chart, "chart-band") == "M0 168L1000 0L1000 126L0 168Z"
    words = list(parsed(chart).itertext())
    assert "critical 0.1" in words
    assert "warning 0.01" in words
    assert "22:14:10" in words
    assert "time, UTC · nats" in words


def test_far_above_the_tolerances_the_scale_is_logarithmic() -> None:
    assert "time, UTC · nats, logarithmic" in list(parsed(minutes(np.array([0.001, 2.0]))).itertext())
    assert "time, UTC · nats" in list(parsed(minutes(np.array([0.001, 1.4]))).itertext())


def test_gaps_and_undecided_bounds_are_not_bridged() -> None:
    kl = np.array([0.1, 0.1, np.nan, 0.1, 0.1])
    at = START + np.arange(5, dtype=np.int64) * MINUTE
    bounds = np.array([np.nan, np.nan, np.nan, 0.05, 0.05])
    chart = timeline(at, kl, bounds, 2 * bounds, 0.01, 0.1, "a")
    assert path_of(chart, "chart-kl").count("M") == 2
    assert path_of(chart, "chart-band").count("M") == 1
    assert path_of(chart, "chart-band").startswith("M750 ")


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_timeline_of_next_to_nothing_is_drawn(n: int) -> None:
    assert parsed(minutes(np.full(n, 0.05))).find("svg") is not None


def test_a_peak_survives_in_a_timeline_of_many_points() -> None:
    kl = np.full(10_000, 0.01)
    kl[4321] = 0.5
    chart = minutes(kl)
    assert path_of(chart, "chart-kl").count("L") < POINTS
    assert " 84L" in path_of(chart, "chart-kl")  # 0.5 on a scale that the upper bound, 1, ends
    assert len(chart) < 20_000


@pytest.mark.parametrize(
    ("span_ms", "label"),
    [(5_000, "22:14:01"), (3_600_000, "22:20"), (86_400_000, "Nov 15"), (30 * 86_400_000, "Nov 23")],
)
def test_times_are_told_in_steps_that_suit_the_span(span_ms: int, label: str) -> None:
    at = np.array([START, START + span_ms])
    chart = timeline(at, np.zeros(2), np.zeros(2), np.zeros(2), 0.01, 0.1, "a")
    assert label in list(parsed(chart).itertext())
    assert len(parsed(chart).findall(".//line[@class='chart-mark']")) <= 8


# --- numbers ------------------------------------------------------------------------------------------


def test_coordinates_are_short() -> None:
    assert [short(x) for x in (0.04, -0.04, 0.5, -0.5, 12.0, 3.14)] == ["0", "0", ".5", "-.5", "12", "3.1"]


def test_numbers_are_told_apart_with_as_few_digits_as_it_takes() -> None:
    assert numbers([1000.1, 1000.2, 1000.3]) == ["1000.1", "1000.2", "1000.3"]
    assert numbers([-np.inf, 0.5, np.nextafter(0.5, 1), np.inf]) == ["-∞", "0.5", "0.5", "∞"]
    assert [number(x) for x in (1234567.0, 1e-7, np.nan)] == ["1234567", "1e-7", "–"]


@given(st.floats(1e-9, 1e9), st.integers(2, 6))
def test_ticks_are_round_few_and_reach_the_maximum(maximum: float, count: int) -> None:
    marks = ticks(maximum, count)
    assert marks[0] == 0
    assert marks[-1] >= maximum * (1 - 1e-6)
    assert len(marks) <= count + 1
    step = marks[1]
    assert float(f"{step:.0e}") == pytest.approx(step)


@pytest.mark.parametrize("maximum", [0.0, np.nan, np.inf])
def test_ticks_of_no_scale_are_those_of_one(maximum: float) -> None:
    assert ticks(maximum, 4) == [0.0, 1.0]
