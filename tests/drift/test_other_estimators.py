"""KL as other programs estimate it: their own figures, and their published formulas written out one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.drift.judging.other_estimators import DRIFTWATCH_EPSILON, estimate
from kldrift.errors import KldriftError
from tests.benchmarks.peers import ENVIRONMENTS
from tests.evidence.estimators import REQUIREMENTS, TOLERANCE, cases, differences, figures_of

PEERS = ["evidently", "boxkite", "mlrun", "driftwatch"]


def one(estimator, live, reference, numeric=False):
    """The figure of one window and feature; cells in our order but for the last, invalid, which is empty."""
    live, reference = np.array([[*live, 0]]), np.array([*reference, 0], float)
    [[kl]] = estimate(estimator, live, reference, np.array([0, live.size]), np.array([numeric]))
    return kl


# --- what the programs said ------------------------------------------------------------------------

#: Five categories, other, unseen, missing: the reference of most cases.
FEW = [985, 605, 207, 113, 90, 0, 0, 0]
#: Sixteen bins, underflow, overflow, missing, with empty bins on either side.
NORMAL = [2, 23, 60, 128, 286, 463, 626, 590, 438, 225, 110, 37, 12, 0, 0, 0]
INSIDE = [0, 0, 0, 0, 0, 0, 0, 338, 62, 0, 0, 0, 0, 0, 0, 0]
TENTHS = [300] * 10 + [0, 0, 100]

FIGURES = [
    # evidently 0.7.23, Report([ValueDrift(method="kl_div")])
    ("evidently", False, FEW, [127, 110, 76, 45, 42, 0, 0, 0], 0.10513503147508575),
    ("evidently", False, FEW, [50, 0, 20, 0, 0, 0, 0, 0], 2.7694814083771693),
    ("evidently", False, FEW, [53, 46, 91, 62, 48, 0, 40, 0], 0.5931157858927444),
    ("evidently", False, [*FEW[:-1], 30], [139, 87, 47, 17, 10, 0, 0, 200], 0.01326409611000031),
    ("evidently", False, [20000, 20000, 1, 0, 0, 0], [300, 200, 0, 0, 0, 0], 0.020450825818165007),
    ("evidently", True, NORMAL, INSIDE, 4.273650196753421),
    # boxkite's panel "KL Divergence over $duration" of December 2021, its PromQL evaluated by promtool 2.42.0
    ("boxkite", False, [400, 500, 100, 0, 0, 0], [120, 40, 0, 0, 0, 0], 0.6466807771067369),
    ("boxkite", False, [400, 500, 100, 0, 0, 0], [120, 40, 0, 0, 30, 0], 0.6314137958022231),
    ("boxkite", False, [400, 500, 90, 0, 0, 10], [120, 40, 5, 0, 0, 35], 0.8765522889117163),
    # mlrun 1.12.1, statistics, padded histograms and KullbackLeiblerDivergence
    (
        "mlrun",
        True,
        [2, 5, 17, 33, 57, 80, 154, 224, 314, 385, 399, 392, 330, 248, 154, 115, 43, 25, 20, 3, 0, 0, 0],
        [0, 0, 1, 3, 3, 13, 25, 22, 30, 33, 49, 40, 56, 66, 44, 44, 24, 26, 11, 1, 0, 9, 0],
        0.4631850469734283,
    ),
    (
        "mlrun",
        True,
        [2, 5, 17, 33, 57, 80, 154, 224, 314, 385, 399, 392, 330, 248, 154, 115, 43, 25, 20, 3, 0, 0, 100],
        [0, 0, 0, 0, 5, 4, 8, 13, 19, 30, 33, 37, 45, 36, 26, 22, 10, 7, 4, 0, 0, 1, 90],
        0.27353164319850354,
    ),
    # driftwatch 0.1.0, DatasetMonitor with MetricKind::Kl
    ("driftwatch", False, FEW, [127, 110, 76, 45, 42, 0, 0, 0], 0.11626263875432226),
    ("driftwatch", False, FEW, [50, 0, 20, 0, 0, 0, 0, 0], 0.555645593886383),
    ("driftwatch", False, FEW, [53, 46, 91, 62, 48, 0, 40, 0], 1.7147612306048923),
    ("driftwatch", True, TENTHS, [15, 17, 19, 24, 22, 24, 36, 37, 43, 62, 0, 1, 90], 0.10093054732628438),
    ("driftwatch", True, TENTHS, [0, 0, 0, 0, 0, 0, 284, 116, 0, 0, 0, 0, 0], 1.7003193285623097),
]


@pytest.mark.parametrize(("estimator", "numeric", "reference", "live", "theirs"), FIGURES)
def test_the_figures_are_those_of_the_tools(estimator, numeric, reference, live, theirs) -> None:
    assert one(estimator, live, reference, numeric) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("peer", sorted(REQUIREMENTS))
def test_the_installed_tool_gives_the_same_figure(peer) -> None:
    """In the environment that the command made; making it here would take minutes, and the network."""
    if not (ENVIRONMENTS / peer).is_dir():
        pytest.skip(f"{peer} is not installed; python -m tests.evidence.estimators does it")
    _, figures = figures_of(peer, cases())
    found = differences(peer, cases(), figures)
    assert len(found) >= 5
    assert max(found.values()) <= TOLERANCE


# --- their formulas, one number after the other ----------------------------------------------------


def evidently(live, reference, numeric):
    live, reference = ([*counts[:-2]] for counts in (live, reference))
    cells = [i for i in range(len(live)) if (numeric and i < len(live) - 2) or live[i] + reference[i] > 0]
    sides = []
    for counts in (live, reference):
        shares = [counts[i] / sum(counts) for i in cells]
        least = min(share for share in shares if share > 0)
        shares = [share or (least / 1e6 if least <= 1e-4 else 1e-4) for share in shares]
        sides.append([share / sum(shares) for share in shares])
    return math.fsum(q * math.log(q / p) for p, q in zip(*sides, strict=True))


def boxkite(live, reference, numeric):
    baseline = {i: count for i, count in enumerate(reference) if count > 0}
    seen = {i: count for i, count in enumerate(live) if count > 0 or i in baseline}
    p = {i: (count + 1) / (sum(seen.values()) + len(seen)) for i, count in seen.items()}
    q = {i: (count + 1) / (sum(baseline.values()) + len(baseline)) for i, count in baseline.items()}
    return math.fsum(q[i] * math.log(q[i] / p[i]) + p[i] * math.log(p[i] / q[i]) for i in baseline)


def mlrun(live, reference, numeric):
    p, q = ([count / sum(counts[:-2]) for count in counts[:-2]] for counts in (live, reference))
    return math.fsum(
        a * math.log(a / (b or 1e-4))
        for first, second in ((p, q), (q, p))
        for a, b in zip(first, second, strict=True)
        if a
    )


def driftwatch(live, reference, numeric):
    sides = [list(counts[:-2]) for counts in (live, reference)]
    if numeric:
        for counts in sides:
            overflow, underflow = counts.pop(), counts.pop()
            counts[0] += underflow
            counts[-1] += overflow
    else:
        union = [i for i in range(len(sides[0])) if sides[0][i] + sides[1][i] > 0]
        sides = [[counts[i] for i in union] for counts in sides]
    k = len(sides[0])
    p, q = ([(count / sum(counts) + 1e-6) / (1 + k * 1e-6) for count in counts] for counts in sides)
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


PUBLISHED = {"evidently": evidently, "boxkite": boxkite, "mlrun": mlrun, "driftwatch": driftwatch}

widths = st.lists(st.tuples(st.integers(5, 9), st.booleans()), min_size=1, max_size=4)
counts = st.one_of(st.just(0), st.integers(0, 20), st.integers(0, 10**7))


@st.composite
def monitors(draw):
    """Live counts of some windows, reference counts, offsets and kinds of some features; something present in each."""
    features = draw(widths)
    n_cells = sum(width for width, _ in features)
    offsets = np.cumsum([0, *(width for width, _ in features)])
    rows = draw(st.lists(st.lists(counts, min_size=n_cells, max_size=n_cells), min_size=2, max_size=4))
    table = np.array(rows, dtype=np.int64)
    table[:, offsets[:-1]] += 1
    return table[1:], table[0].astype(float), offsets, np.array([numeric for _, numeric in features])


@pytest.mark.parametrize("estimator", PEERS)
@given(monitor=monitors())
def test_every_series_is_the_published_formula(estimator: str, monitor) -> None:
    live, reference, offsets, numeric = monitor
    found = estimate(estimator, live, reference, offsets, numeric)
    assert found.shape == (len(live), len(numeric))
    for w, f in np.ndindex(found.shape):
        cells = slice(offsets[f], offsets[f + 1])
        expected = PUBLISHED[estimator](live[w, cells].tolist(), reference[cells].tolist(), numeric[f])
        assert found[w, f] == pytest.approx(expected, rel=1e-9, abs=1e-12)


# --- which cells take part -------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["evidently", "mlrun", "driftwatch"])
@pytest.mark.parametrize("numeric", [True, False])
def test_missing_values_are_dropped(estimator: str, numeric: bool) -> None:
    live, reference = [40, 10, 5, 0, 0], [50, 50, 10, 0, 0]
    without = one(estimator, live, reference, numeric)
    assert one(estimator, [*live[:-1], 700], [*reference[:-1], 3], numeric) == pytest.approx(without, rel=1e-14)
    assert math.isnan(one(estimator, [0, 0, 0, 0, 9], reference, numeric))


def test_missing_values_are_a_cell_of_boxkites() -> None:
    assert one("boxkite", [40, 10, 0, 0, 50], [50, 50, 0, 0, 1]) > one("boxkite", [40, 10, 0, 0, 0], [50, 50, 0, 0, 1])


@pytest.mark.parametrize("estimator", PEERS)
def test_cells_that_are_empty_on_both_sides_of_a_categorical_feature_change_nothing(estimator: str) -> None:
    assert one(estimator, [40, 10, 0, 0, 0], [50, 50, 0, 0, 0]) == one(
        estimator, [40, 0, 0, 10, 0, 0, 0], [50, 0, 0, 50, 0, 0, 0]
    )


@pytest.mark.parametrize("estimator", PEERS)
@pytest.mark.parametrize("numeric", [True, False])
def test_an_empty_window_or_reference_has_no_figure(estimator: str, numeric: bool) -> None:
    assert math.isnan(one(estimator, [0] * 6, [3] * 6, numeric))
    assert math.isnan(one(estimator, [3] * 6, [0] * 6, numeric))


def test_an_unknown_estimator_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        KldriftError, match="expected an estimator among evidently, boxkite, mlrun, driftwatch, got 'x'"
    ):
        one("x", [1, 1, 0, 0], [1, 1, 0, 0])


def test_a_share_of_just_a_ten_thousandth_is_filled_beneath() -> None:
    """evidently fills empty cells with a millionth of the smallest share where that is 1e-4 or less, else with 1e-4."""
    fill = 1e-4 / 1e6
    live, reference = np.array([0.9999, 0.0001, fill]), np.array([0.5, 0.4, 0.1])
    p, q = live / live.sum(), reference
    assert one("evidently", [9_999, 1, 0, 0, 0, 0], [500, 400, 100, 0, 0, 0]) == pytest.approx(
        float((q * np.log(q / p)).sum()), rel=1e-12
    )


def test_a_category_that_came_once_has_a_cell_with_driftwatch() -> None:
    for live, reference in (([10, 20, 1], [30, 30, 0]), ([10, 20, 0], [30, 30, 1])):
        p, q = (
            (np.array(counts) / sum(counts) + DRIFTWATCH_EPSILON) / (1 + 3 * DRIFTWATCH_EPSILON)
            for counts in (live, reference)
        )
        found = one("driftwatch", [*live, 0, 0, 0], [*reference, 0, 0, 0])
        assert found == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-12)


@pytest.mark.parametrize("estimator", PEERS)
def test_where_one_side_has_no_value_there_is_no_figure(estimator: str) -> None:
    some, nothing = [10, 20, 30, 0, 0, 0], [0, 0, 0, 0, 0, 0]
    assert math.isnan(one(estimator, nothing, some))
    assert math.isnan(one(estimator, some, nothing))
    if estimator != "boxkite":  # to which a missing value is one like any other
        missing = [0, 0, 0, 0, 0, 7]
        assert math.isnan(one(estimator, missing, some))
        assert math.isnan(one(estimator, some, missing))
