"""References that are written out or fitted, and hints on spelling, where one case ends and another begins."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kldrift.drift.judging.spelling import same_but_for_spelling, spelling_hint
from kldrift.drift.kinds import SHAPES
from kldrift.drift.kinds.coverage import Coverage
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.fitting import zeros_and_ones
from kldrift.drift.references.given import inline_reference, known_vectors
from kldrift.errors import ReferenceProblem
from kldrift.records.specs import Bins, FeatureSpec, ReferenceFamily, ReferenceInline
from tests.drift.builders import categorical
from tests.export.snapshots import feature, monitor

COIN = FeatureSpec("coin", "categorical")


@pytest.mark.parametrize("missing", [None, 0.0, 0.2])
def test_probabilities_are_shares_of_the_rows_with_a_value(missing: float | None) -> None:
    given = ReferenceInline(categories=("a", "b"), probabilities=(0.75000001, 0.25), missing=missing)
    made = inline_reference(COIN, given, 0).probabilities
    assert made is not None
    share = missing or 0.0
    expected = [0.75000001 / 1.00000001 * (1 - share), 0.25 / 1.00000001 * (1 - share), 0, 0, share, 0]
    np.testing.assert_allclose(made, expected, rtol=1e-15)


@pytest.mark.parametrize(("missing", "expected"), [(None, [1, 0, 0, 0, 0]), (0.25, [0.75, 0, 0, 0.25, 0])])
def test_known_vectors_are_missing_as_often_as_was_said(missing: float | None, expected: list[float]) -> None:
    shape = SHAPES["vector"].preliminary(FeatureSpec("v", "vector", dimensions=2))
    made = known_vectors("v", shape, 0, "normal", missing=missing)
    assert made.probabilities is not None
    assert made.probabilities.tolist() == expected
    assert made.knows_missing == (missing is not None)


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["true", "x"], "1 of 2 values that are neither: 'x';"),
        (["true", "false", "w", "x", "y"], "3 of 5 values that are neither: 'w', 'x', 'y';"),
        (["true", "v", "w", "x", "y"], "4 of 5 values that are neither: 'v', 'w', 'x', …;"),
    ],
)
def test_what_is_neither_true_nor_false_is_shown(texts: list[str], shown: str) -> None:
    with pytest.raises(ReferenceProblem) as problem:
        zeros_and_ones(categorical(texts))
    assert shown in str(problem.value)
    np.testing.assert_array_equal(zeros_and_ones(categorical(["true", None, "False", "1"])), [1, np.nan, 0, 1])


def edges_of(family: str, parameters: dict[str, float], **bins: Any) -> list[float]:
    spec = FeatureSpec("x", "numeric", Bins(**bins))
    given = ReferenceFamily(family, tuple(parameters.items()))  # type: ignore[arg-type]
    edges = family_reference(spec, given, None, 0, "").shape.edges
    assert edges is not None
    return edges.tolist()  # type: ignore[no-any-return]


def test_edges_of_a_family_lie_within_its_range_and_what_it_can_reach() -> None:
    inner = edges_of("uniform", {"low": 0, "high": 1}, value_range=(0.25, 0.75), probabilities=(0.5,))
    assert inner == [0.25, 0.5, 0.75]
    beyond = edges_of("uniform", {"low": 0, "high": 1}, value_range=(-1.0, 2.0), probabilities=(0.1, 0.9))
    assert beyond == pytest.approx([-1.0, 0.1, 0.9, 2.0])
    counts = edges_of("poisson", {"rate": 2})
    assert counts[0] == -0.5
    assert counts[1] == 0.5
    assert np.diff(counts[1:-1]).tolist() == [1.0] * (len(counts) - 3)


def test_a_sample_says_how_often_its_rare_categories_occur() -> None:
    codes = np.array([*[0] * 20, *[1] * 10, *[2] * 9, 3, 3, 4, 5], dtype=np.int32)
    found = Coverage.of(codes, 1)
    assert (found.values, found.rare, found.once, found.twice) == (43, 4, 2, 1)
    assert (found.apart, found.apart_error) == (0, 0)
    assert found.expected == 2 / 43
    assert Coverage.from_json(found.to_json()) == found


@pytest.mark.parametrize(("n", "measured"), [(639, False), (640, True)])
def test_stretches_need_ten_values_each(n: int, measured: bool) -> None:
    codes = np.arange(n, dtype=np.int32) // 10  # each stretch has a category of its own
    found = Coverage.of(codes, 0)
    assert found.apart == (1.0 if measured else 0.0)
    shared = np.tile([0, 1], n // 2).astype(np.int32)
    shared[5] = 2
    part = Coverage.of(shared, 0)
    if measured:
        shares = np.zeros(64)
        shares[0] = 0.1
        assert part.apart == pytest.approx(shares.mean())
        assert part.apart_error == pytest.approx(shares.std(ddof=1) / 8)


def hint(n_categories: int, counts: list[int], unseen: float = 0.99, first: int = 0) -> str:
    categories = tuple("abcdefgh"[:n_categories])
    one = feature("c", "categorical", counts=(1,) * (n_categories + 4), categories=categories)
    features = [*[feature(f"before {i}") for i in range(first)], replace(one, name="c")]
    offsets = np.cumsum([0, *[3] * first, n_categories + 4])
    made = monitor(
        features=features,
        windows=("1h",),
        offsets=offsets,
        counts=np.array([[*[7] * (3 * first), *counts]]),
        unseen_ratio=np.full((1, first + 1), unseen),
    )
    return spelling_hint(made, first, 0)


@pytest.mark.parametrize(("n_categories", "known"), [(2, "'a', 'b':"), (3, "'a', 'b', 'c':"), (4, "'a', 'b', 'c', …:")])
@pytest.mark.parametrize("first", [0, 2])
def test_a_hint_names_up_to_three_categories(n_categories: int, known: str, first: int) -> None:
    said = hint(n_categories, [*[0] * n_categories, 0, 200, 0, 0], first=first)
    assert f"which has {known} check whether they are spelled differently" in said


def test_there_is_no_hint_where_nothing_is_new_or_nothing_is_known() -> None:
    assert hint(2, [0, 0, 0, 200, 0, 0], unseen=0.0) == ""
    assert hint(2, [0, 0, 0, 200, 0, 0], unseen=np.nan) == ""
    assert hint(0, [0, 200, 0, 0]) == ""
    assert same_but_for_spelling(["red"], ("red", "Red")) is None
    assert same_but_for_spelling(["RED", "x"], ("red", "Red")) == ("RED", "red")
