"""A fast cut of the evidence, with fixed seeds: it fails where the rule breaks. The tables are in ``RESULTS.md``."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from kldrift.records.specs import Bins
from tests.evidence import alarms, categories, coverage, employment, summary
from tests.evidence.alarms import CATEGORICAL, DEFAULT
from tests.evidence.rules import RAW_WINDOWS, TOLERANCES, critical_ks, kldrift_rule
from tests.evidence.sample_distances import kolmogorov_smirnov, ranks_in, wasserstein
from tests.evidence.streams import Stream, autoregressive, daily_mean, daily_mixture
from tests.evidence.table import RESULTS

#: However slow the machine: what is held are figures, not seconds.
pytestmark = pytest.mark.timeout(0)

LOWEST, SHIPPED = (f"**kldrift**, lower bound > {tolerance:g}" for tolerance in TOLERANCES)


def test_the_summary_says_what_the_tables_say() -> None:
    text = RESULTS.read_text(encoding="utf-8")
    assert summary.written(text) == text


@pytest.mark.parametrize(
    ("stream", "most"),
    [
        (autoregressive(0.0), 0),
        (autoregressive(0.5), 1),
        (autoregressive(0.9), 10),  # one reference of 10,000 autocorrelated samples in a hundred is unlucky
        (daily_mean("daily mean", 2500), 0),
        (daily_mixture("daily mixture", 2500), 0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_quiet_streams_stay_quiet(stream: Stream, most: int) -> None:
    """Of 7,500 ticks at alpha = 1e-4 none or next to none is an alarm, where a fixed number on raw counts cries."""
    found = alarms.false_alarms(np.random.default_rng(11), stream, 25, 300, [DEFAULT, CATEGORICAL])
    for binning in (DEFAULT, CATEGORICAL):
        rules = found[binning]
        assert rules[LOWEST].ticks == 7500
        assert rules[LOWEST].alarmed <= most
        assert rules[SHIPPED].alarmed <= most
        assert rules["G-test p < 0.05, n = 10,000"].alarmed > 3000
        assert rules["JS distance > 0.1, n = 200"].alarmed > 300


def test_changes_are_found_as_soon_as_the_prototype_found_them() -> None:
    """The prototype's medians: 1600, 300, 800 and 400 samples; one tick more is allowed for the small cut."""
    found = alarms.delays(np.random.default_rng(12), autoregressive(0.0), 50, 64, [DEFAULT], on_samples=False)
    medians = {
        change: np.median(found[binning][LOWEST][change].samples)
        for binning, change in [*((DEFAULT, change) for change in alarms.CHANGES), (CATEGORICAL, alarms.NEW_VALUE)]
    }
    assert medians["mean + 0.25 σ"] <= 1700
    assert medians["mean + 0.5 σ"] <= 400
    assert medians["scale × 1.25"] <= 900
    assert medians[alarms.NEW_VALUE] <= 500
    slow = found[DEFAULT]["PSI > 0.2, n = 1,000"]["mean + 0.25 σ"]
    assert slow.text() == "never (0 % found)"


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """95 %: of known bins and independent samples every cell of the table within 93 to 97 %; the lower side at 0."""
    found = coverage.fixed_bins(np.random.default_rng(13), 4000)
    assert len(found) == 45
    for (shift, n, n_bins), misses in found.items():
        if n < 10 * n_bins:
            continue
        covered, above, below = misses.percent()
        if shift == 0:
            assert 1 <= above <= 4, (n, n_bins)
            assert below == 0
        else:
            assert 93 <= covered <= 97, (shift, n, n_bins)


def test_the_references_own_bins_and_measured_spread_make_intervals_neither_too_short_nor_too_long() -> None:
    """Each cell but for the small cut; their mean: 95.5 %, and 97.7 % where chance counts as overdispersion."""
    found = coverage.as_shipped(np.random.default_rng(14), 400, measured=True)
    covered = []
    for (shift, n, n_bins), misses in found.items():
        if n >= 10 * n_bins:
            assert misses.percent()[0] >= 91, (shift, n, n_bins)
            covered += [misses.percent()[0]] if shift > 0 else []
    assert len(covered) == 32
    assert 94 <= np.mean(covered) <= 97


def test_sliding_distances_equal_scipys() -> None:
    rng = np.random.default_rng(15)
    panes, reference = rng.normal(size=(2, 14, 100)), rng.normal(0.1, 1.2, size=(2, 10_000))
    for length in (2, 10):
        d = kolmogorov_smirnov(ranks_in(reference, panes), 10_000, length, 10)
        w = wasserstein(panes, reference, length, 10)
        assert d.shape == w.shape == (2, 4)
        for stream, t in np.ndindex(d.shape):
            window = panes[stream, 11 + t - length : 11 + t].ravel()
            assert d[stream, t] == pytest.approx(ks_2samp(window, reference[stream]).statistic, abs=1e-12)
            assert w[stream, t] == pytest.approx(wasserstein_distance(window, reference[stream]), abs=1e-12)
    with pytest.raises(ValueError, match="expected windows whose samples divide the 10000"):
        wasserstein(panes, reference, 3, 10)


@pytest.mark.parametrize("n", RAW_WINDOWS)
def test_the_critical_distance_is_where_scipys_p_value_is_a_twentieth(n: int) -> None:
    rng = np.random.default_rng(16)
    reference = rng.normal(size=10_000)
    for shift in (0.0, 0.05, 0.1):
        found = ks_2samp(rng.normal(shift, size=n), reference, method="asymp")
        assert (found.pvalue < 0.05) == (found.statistic > critical_ks(n, 10_000))


def test_alarmed_ticks_and_episodes_are_counted() -> None:
    tally = alarms.Tally()
    tally.add(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=np.bool_).T)
    assert (tally.ticks, tally.alarmed, tally.episodes) == (12, 7, 3)
    delays = alarms.Delays()
    delays.add(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=np.bool_).T)
    assert delays.samples == [300, np.inf, 100]
    assert delays.text() == "300 (67 % found)"


def test_a_stream_that_really_drifts_is_an_alarm_throughout() -> None:
    rng = np.random.default_rng(17)
    reference, live = rng.normal(size=(3, 10_000)), rng.normal(0.5, 1.0, size=(3, 270 * 100))
    watched = alarms.watch_values(Bins(), reference, live)
    assert all(alarmed.all() for alarmed in kldrift_rule(watched.monitored, watched.panes).values())


def test_employment_halves_of_a_shuffled_reference_are_quiet(shared_data: Path) -> None:
    (found,) = employment.shuffled_halves(employment.features(), seeds=1)
    assert len(found) == 18
    assert [drift.feature for drift in found if drift.verdict != "quiet"] == []
    assert max(drift.lower for drift in found) < 1e-4


def test_employment_moves_from_year_to_year_and_the_cells_account_for_it(shared_data: Path) -> None:
    specs = employment.features()
    found = employment.by_window(specs)
    ancestry = [next(d for d in found[year] if d.feature == "ANC") for year in ("2016", "2017", "2018")]
    assert all(drift.moved for drift in ancestry)
    assert ancestry[0].lower < ancestry[1].lower < ancestry[2].lower
    for drifts in found.values():
        for drift in drifts:
            assert drift.lower <= drift.kl <= drift.upper
            assert (drift.contributions >= 0).all()
            assert drift.contributions.sum() == pytest.approx(drift.kl, abs=1e-12)


def test_long_tails_stay_quiet_and_new_values_are_found() -> None:
    rng = np.random.default_rng(13)
    for setting in categories.QUIET[1:4]:
        assert categories.measure(rng, setting, 3, 50).alarmed[0] == 0
    assert categories.measure(rng, categories.DRIFTING[0], 3, 50).alarmed[0] > 0.9 * 3 * 3 * 50
