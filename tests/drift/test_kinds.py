"""What every kind of feature answers, asked of all of them."""

from typing import get_args

import numpy as np
import pytest

from kldrift.drift.kinds import SHAPES
from kldrift.drift.references.data import build_references
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.given import fixed_reference
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.kinds import KINDS, WITH_REFERENCE, Kind
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec
from tests.drift.builders import categorical

RNG = np.random.default_rng(1)
COLUMNS = {
    "numeric": RNG.normal(size=1_000),
    "categorical": categorical(RNG.choice(["a", "b", "c"], 1_000).tolist()),
    "vector": RNG.normal(size=(1_000, 3)),
}


def spec(kind: Kind) -> FeatureSpec:
    return FeatureSpec("x", kind, dimensions=0 if KINDS[kind].histogram else 3)


def made(kind: Kind) -> FeatureReference:
    if kind not in WITH_REFERENCE:
        return fixed_reference(spec(kind), 0)
    (reference,) = build_references([spec(kind)], [COLUMNS[kind]], 0, "r")
    return reference


def test_every_kind_has_traits_and_a_shape() -> None:
    assert tuple(KINDS) == tuple(SHAPES) == get_args(Kind)
    assert set(COLUMNS) == set(WITH_REFERENCE)
    for kind, traits in KINDS.items():
        assert SHAPES[kind].kind == kind
        assert traits.outside is None or traits.outside in MonitorSnapshot.__slots__


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_has_a_number_for_each_cell_that_the_kernel_counts(kind: Kind) -> None:
    reference = made(kind)
    held = reference.probabilities if reference.counts is None else reference.counts
    assert held is not None
    assert reference.kind == kind
    assert held.size == len(reference.cells)
    assert reference.cells[-2:] == ("missing", "invalid")
    bins = reference.shape.bins()
    assert getattr(bins, "n_cells", len(reference.cells)) == len(reference.cells)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_is_judged_by_its_counts_or_by_moments(kind: Kind) -> None:
    shape = made(kind).shape
    assert (shape.moments is None) is KINDS[kind].histogram
    assert (shape.samples_needed == 0) is KINDS[kind].histogram  # else it depends on the bins that a window fills


@pytest.mark.parametrize("kind", WITH_REFERENCE)
def test_a_reference_comes_back_from_its_file_whatever_its_kind(kind: Kind) -> None:
    reference = made(kind)
    text = dump_references([reference])
    (again,) = load_references(text, "r.json")
    assert (again.kind, again.bins_hash, again.reference_hash) == (kind, reference.bins_hash, reference.reference_hash)
    assert dump_references([again]) == text


@pytest.mark.parametrize("kind", WITH_REFERENCE)
def test_a_reference_can_be_learned_whatever_its_kind(kind: Kind) -> None:
    awaited = to_learn(spec(kind), 100)
    assert awaited.kind == kind
    assert awaited.probabilities is not None
    assert awaited.probabilities.size == len(awaited.cells)


def test_a_posterior_has_no_reference_from_data() -> None:
    with pytest.raises(ReferenceProblem, match=r"x: a posterior is compared with N\(0, I\), not with data"):
        build_references([spec("posterior")], [COLUMNS["vector"]], 0, "r")
    text = dump_references([made("vector")]).replace('"vector"', '"posterior"')
    with pytest.raises(ReferenceProblem, match="expected kind numeric, categorical or vector, got 'posterior'"):
        load_references(text, "r.json")
