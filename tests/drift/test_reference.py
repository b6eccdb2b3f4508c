import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kldrift.drift.kinds.categorical import MAX_FOLDED, Categorical
from kldrift.drift.references.data import build_references
from kldrift.drift.references.file import by_name, dump_references, load_references
from kldrift.drift.references.given import inline_reference
from kldrift.errors import ReferenceProblem
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import Bins, FeatureSpec, ReferenceInline, Smoothing
from tests.drift.builders import categorical, edges_spec, reference

COLOUR = FeatureSpec("c", "categorical")


def both() -> tuple[tuple[FeatureSpec, object], ...]:
    rng = np.random.default_rng(7)
    colours = rng.choice(["red", "green", "blue"], p=[0.6, 0.38, 0.02], size=300).tolist()
    return (
        (FeatureSpec("x", "numeric"), rng.normal(size=300)),
        (FeatureSpec("c", "categorical"), categorical(colours)),
    )


def test_a_reference_counts_every_row_once_over_64_panes() -> None:
    for built in reference(*both()):
        assert built.panes is not None
        assert built.counts is not None
        assert built.panes.shape == (64, len(built.cells))
        assert set(built.panes.sum(axis=1).tolist()) <= {4, 5}
        assert built.rows == 300


def test_a_reference_shorter_than_64_rows_has_a_pane_for_each() -> None:
    (built,) = reference((edges_spec(), np.array([0.5, 1.5, np.nan])))
    assert built.panes is not None
    assert built.panes.tolist() == [[1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]]


def test_categories_are_ordered_by_count_and_limited() -> None:
    column = categorical(["a"] * 10 + ["b"] * 30 + ["c"] * 20 + ["d"] * 9)
    (built,) = reference((FeatureSpec("c", "categorical", max_categories=2), column))
    assert isinstance(built.shape, Categorical)
    assert built.shape.categories == ("b", "c")
    assert built.shape.folded == ("a", "d")
    assert built.counts is not None
    assert built.counts.tolist() == [30, 20, 19, 0, 0, 0]


def test_a_reference_of_countless_categories_keeps_a_bounded_number_of_names() -> None:
    n = MAX_FOLDED + 50
    column = CategoricalColumn(tuple(f"id{i}" for i in range(n)), np.arange(n, dtype=np.int32))
    (built,) = reference((FeatureSpec("id", "categorical"), column))
    assert isinstance(built.shape, Categorical)
    assert built.shape.open_ended
    assert len(built.shape.folded) == MAX_FOLDED
    assert built.counts is not None
    assert built.counts.tolist() == [n, 0, 0, 0]  # any further value is *other*
    assert built.shape.bins().lookup[built.shape.schema("id").unseen_code] == 0


def test_smoothing_is_the_textbooks() -> None:
    given = inline_reference(
        FeatureSpec("c", "categorical"), ReferenceInline(categories=("a", "b"), counts=(90, 10), missing=0.0), 0
    )
    assert given.smoothed(Smoothing()).tolist() == pytest.approx([90.5 / 103, 10.5 / 103, *[0.5 / 103] * 4])
    assert given.smoothed(Smoothing("none", 0, 0)).tolist() == [0.9, 0.1, 0, 0, 0, 0]
    assert given.smoothed(Smoothing("laplace", 1, 0)).tolist() == pytest.approx([91 / 106, 11 / 106, *[1 / 106] * 4])
    epsilon = given.smoothed(Smoothing("epsilon", 0, 1e-3))
    assert epsilon.tolist() == pytest.approx([v / 1.006 for v in (0.901, 0.101, 0.001, 0.001, 0.001, 0.001)])


def test_a_known_distribution_is_infinitely_long_and_never_makes_an_infinite_divergence() -> None:
    known = inline_reference(
        FeatureSpec("c", "categorical"),
        ReferenceInline(categories=("a", "b"), probabilities=(0.5, 0.5), missing=0.0),
        0,
    )
    assert known.rows == np.inf
    assert known.smoothed(Smoothing("none", 0, 0)).tolist() == [0.5, 0.5, 0, 0, 0, 0]
    smoothed = known.smoothed(Smoothing())
    assert smoothed.min() > 0
    assert smoothed[0] == pytest.approx(0.5, abs=2e-6)


def test_an_artefact_is_read_back_as_it_was() -> None:
    built = reference(*both())
    text = dump_references(built)
    again = load_references(text, "r.json")
    assert [r.reference_hash for r in again] == [r.reference_hash for r in built]
    assert [r.created_ms for r in again] == [r.created_ms for r in built]
    assert dump_references(again) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[:-20], "expected a reference file in JSON"),
        (lambda t: "[]", "expected a file made by `kldrift reference build`"),
        (
            lambda t: t.replace('"kldrift_reference": 2', '"kldrift_reference": 99'),
            "expected reference version 2 or earlier, got 99",
        ),
        (lambda t: t.replace('"panes": [\n    [', '"panes": [\n    [1,'), "build the reference again"),
        (
            lambda t: t.replace('"kind": "numeric"', '"kind": "ordinal"'),
            "expected kind numeric, categorical or vector, got 'ordinal'",
        ),
        (lambda t: t.replace('"kind": "numeric"', '"kind": "vector"'), "expected the key"),
        (lambda t: t.replace('"phi": [', '"phi": [0.5, '), "expected overdispersion with 1 <= phi"),
        (lambda t: t.replace('"-Inf", ', '"-Inf", -50.0, '), "expected panes of"),
        (lambda t: t.replace('"edges": ["-Inf"', '"edges": [1e9'), "expected strictly increasing edges"),
    ],
)
def test_a_spoilt_artefact_is_refused_with_a_reason(change: Callable[..., Any], words: str) -> None:  # type: ignore[no-untyped-def]
    text = dump_references(reference(*both()))
    with pytest.raises(ReferenceProblem, match=words):
        load_references(change(text), "r.json")


def test_a_file_made_before_invalid_values_had_a_cell_is_read_as_one_without_any() -> None:
    built = reference(*both())
    document = json.loads(dump_references(built))
    document["kldrift_reference"] = 1
    for feature in document["features"]:
        del feature["cells"][-1], feature["counts"][-1]
        for pane in feature["panes"]:
            del pane[-1]
    again = load_references(json.dumps(document), "r.json")
    for new, old in zip(built, again, strict=True):
        assert new.panes is not None
        np.testing.assert_array_equal(new.panes, old.panes)
        assert (new.reference_hash, new.cells) == (old.reference_hash, old.cells)


def test_invalid_values_have_a_cell_in_the_pane_of_their_row() -> None:
    x = np.array([0.5, np.nan, np.nan, 1.5])
    colours = categorical(["red"] * 2 + [None] * 2)
    vectors = np.array([[np.nan, np.nan]] * 4)
    specs = [edges_spec(), FeatureSpec("c", "categorical"), FeatureSpec("v", "vector", dimensions=2)]
    invalid = [np.array(rows, dtype=np.int64) for rows in ([2], [2, 3], [0, 1])]
    numbers, texts, lists = build_references(specs, [x, colours, vectors], 0, "test", invalid)
    assert numbers.panes is not None
    assert numbers.panes[:, -2:].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert texts.panes is not None
    assert texts.panes[:, -2:].tolist() == [[0, 0], [0, 0], [0, 1], [0, 1]]
    assert lists.counts is not None
    assert lists.counts.tolist() == [0, 0, 0, 2, 2]
    without = build_references(specs, [x, colours, vectors], 0, "test")
    assert all(a.reference_hash != b.reference_hash for a, b in zip((numbers, texts, lists), without, strict=True))
    assert load_references(dump_references([numbers]), "r.json")[0].reference_hash == numbers.reference_hash


def test_counts_changed_by_hand_do_not_belong_to_their_hash() -> None:
    text = dump_references(reference((edges_spec(), np.array([0.5, 1.5]))))
    with pytest.raises(ReferenceProblem, match="changed by hand"):
        load_references(text.replace("[1, 0, 0, 0, 0, 0, 0]", "[2, 0, 0, 0, 0, 0, 0]", 1), "r.json")


def test_features_without_values_are_all_named_at_once() -> None:
    with pytest.raises(ReferenceProblem) as raised:
        reference(
            (FeatureSpec("x", "numeric"), np.full(5, np.nan)),
            (FeatureSpec("ok", "numeric"), np.zeros(5)),
            (FeatureSpec("c", "categorical"), categorical([None, None])),
            (FeatureSpec("l", "numeric", Bins("logarithmic")), np.zeros(5)),
        )
    lines = str(raised.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["x", "c", "l"]


def test_a_missing_feature_is_named_with_those_there_are() -> None:
    built = reference(*both())
    with pytest.raises(ReferenceProblem, match=r"r.json: .* got none for age; it has c, x"):
        by_name(built, ["x", "age"], "r.json")
    assert [r.name for r in by_name(built, ["c", "x"], "r.json")] == ["c", "x"]


def spoilt_overdispersion(**changes: object) -> str:
    document = json.loads(dump_references(reference(*both())))
    stored = document["features"][0]["overdispersion"]
    stored |= {"block_samples": [10.0, 20.0], "phi": [1.0, 1.5], "lambda": [1.0, 4.0], "measured": True} | changes
    return json.dumps(document)


def test_overdispersion_is_as_it_was_measured_when_the_file_was_made() -> None:
    first, _ = load_references(spoilt_overdispersion(), "r.json")
    assert first.overdispersion is not None
    assert first.overdispersion.block_samples.tolist() == [10, 20]
    assert first.overdispersion.phi.tolist() == [1, 1.5]
    assert first.overdispersion.lambda_.tolist() == [1, 4]
    assert first.overdispersion.measured
    unmeasured, _ = load_references(spoilt_overdispersion(measured=False), "r.json")
    assert unmeasured.overdispersion is not None
    assert not unmeasured.overdispersion.measured


@pytest.mark.parametrize(
    "changes",
    [
        {"block_samples": [[10.0, 20.0]], "phi": [[1.0, 1.0]], "lambda": [[1.0, 1.0]]},
        {"block_samples": [], "phi": [], "lambda": []},
        {"block_samples": [0.0, 20.0]},
        {"block_samples": [-1.0, 20.0]},
        {"block_samples": [10.0, 10.0]},
        {"block_samples": [20.0, 10.0]},
        {"block_samples": [10.0]},
        {"phi": [1.0]},
        {"lambda": [1.0]},
        {"phi": [0.9, 1.5]},
        {"phi": [0.9, 1.5], "lambda": [1.0, 1.0]},
        {"lambda": [1.0, 1.4]},
    ],
)
def test_overdispersion_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ReferenceProblem, match="1 <= phi <= lambda for increasing block_samples"):
        load_references(spoilt_overdispersion(**changes), "r.json")


def test_blocks_may_differ_by_a_fraction_of_a_sample() -> None:
    load_references(spoilt_overdispersion(block_samples=[0.25, 0.75]), "r.json")


@pytest.mark.parametrize("text", ["{}", "5", '"kldrift_reference"', '["kldrift_reference"]', "null"])
def test_other_json_is_no_reference(text: str) -> None:
    with pytest.raises(ReferenceProblem, match="expected a file made by `kldrift reference build`, got other JSON"):
        load_references(text, "r.json")


@pytest.mark.parametrize("by_time", [True, False])
def test_a_file_says_whether_its_panes_are_in_the_order_of_time(by_time: bool) -> None:
    built = build_references([edges_spec()], [np.tile([0.5, 1.5], 100)], 0, "test", by_time=by_time)
    (again,) = load_references(dump_references(built), "r.json")
    assert again.by_time is by_time


def test_identities_stay_what_they_are_from_version_to_version() -> None:
    column = categorical(["a"] * 30 + ["b"] * 20 + [None])
    (plain,) = reference((COLOUR, column))
    assert plain.reference_hash == "26d61ab4f850a033"
    (with_invalid,) = build_references([COLOUR], [column], 0, "", [np.array([50])])
    assert with_invalid.reference_hash == "27988fcec22a92a1"
    inline = ReferenceInline(categories=("a", "b"), counts=(90, 10))
    assert inline_reference(COLOUR, inline, 0).reference_hash == "556da4eee64d636d"
    assert inline_reference(COLOUR, replace(inline, missing=0.0), 0).reference_hash == "d0e7a70a0710c9ae"
