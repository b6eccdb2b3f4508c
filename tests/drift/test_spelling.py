"""The hint on values that are new by their spelling."""

import numpy as np
import pytest

from kldrift.drift.judging.spelling import same_but_for_spelling, spelling_hint
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.pages.reading import explanation_of, reading
from kldrift.records.samples import CategoricalColumn, SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec

FEATURE = FeatureSpec("c", "categorical")
#: Codes of the categories red, green, blue and pink in the reference, and of others.
UNSEEN, MISSING = 4, 5


def of_counts(own: int, new: int, missing: int = 0) -> MonitorSnapshot:
    """Return a window with so many values of the reference, new ones and missing ones."""
    texts = ("blue", "green", "pink", "red")
    codes = np.repeat(np.arange(4, dtype=np.int32), [40, 60, 20, 80])
    column = CategoricalColumn(texts, np.random.default_rng(1).permutation(codes))
    references = build_references([FEATURE], [column], 1, "r")
    monitor = Monitor(MonitorSpec("m", (FEATURE,), (WindowSpec("1h", 3_600_000),)), references)
    codes = np.repeat(np.array([0, UNSEEN, MISSING], dtype=np.int32), [own, new, missing])
    monitor.add(SampleBatch(codes.size, (codes,)), "", 1_000_000)
    return monitor.evaluate(1_000_000)


KNOWN = "in the reference, which has 'red', 'green', 'blue', …: check whether they are spelled differently"


@pytest.mark.parametrize(
    ("own", "new", "missing", "hint"),
    [
        (0, 1000, 0, f"None of the values is {KNOWN}"),
        (30, 970, 5000, f"3 % of the values are {KNOWN}"),
        (50, 950, 0, f"5 % of the values are {KNOWN}"),
        (51, 949, 0, ""),
        (0, 99, 900, ""),
        (0, 100, 900, f"None of the values is {KNOWN}"),
        (1000, 0, 0, ""),
        (0, 0, 0, ""),
    ],
)
def test_hint(own: int, new: int, missing: int, hint: str) -> None:
    monitor = of_counts(own, new, missing)
    assert spelling_hint(monitor, 0, 0) == hint
    if own + new > 900:
        assert (f" {KNOWN}." in reading(monitor, 0, 0, explanation_of(monitor, 0, 0))) == bool(hint)


@pytest.mark.parametrize(
    ("texts", "categories", "pair"),
    [
        (["x", "Red"], ("green", "red"), ("Red", "red")),
        (["New  York"], ("new-york",), ("New  York", "new-york")),
        (["red", "1.0"], ("red", "1"), None),
        (["rot"], ("red",), None),
        (["-", " "], ("--", "red"), None),
        ([], ("red",), None),
    ],
)
def test_an_example(texts: list[str], categories: tuple[str, ...], pair: tuple[str, str] | None) -> None:
    assert same_but_for_spelling(texts, categories) == pair
