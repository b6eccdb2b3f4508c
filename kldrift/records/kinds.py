"""The kinds of features, and what generic code needs to know of each; `drift.kinds` holds how they are counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from kldrift.records.types import Family

Kind = Literal["numeric", "categorical", "vector", "posterior"]

#: What a column is decoded as; a kind of feature is read from a column of one of these.
ColumnKind = Literal["numeric", "categorical", "vector"]

#: Number of cells that follow the bins or categories of every feature.
STRUCTURAL_CELLS = 4
#: Where they are, counted from the end of the feature's cells; of categories, the first two are *other* and *unseen*.
UNDERFLOW, OVERFLOW, MISSING, INVALID = -4, -3, -2, -1

#: Field of a `MonitorSnapshot` with the share of values that lie outside the cells.
Outside = Literal["out_of_range_ratio", "unseen_ratio"]


@dataclass(frozen=True, slots=True)
class KindTraits:
    """What distinguishes one kind of feature from the others.

    Parameters
    ----------
    histogram : its cells are a histogram of its values; otherwise they only tell present from missing
    required, optional : configuration keys of such a feature, besides those that go with every kind
    invalid : what values of the wrong type are, in a message
    outside : how values can lie outside the cells; None where they cannot
    references : what the configuration may give as its reference, by the key that leads
    families : parametric families of which its reference may be a member
    always_against : the distribution it is always compared with; empty where the configuration gives a reference
    """

    histogram: bool
    invalid: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    outside: Outside | None = None
    references: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    always_against: str = ""


_OF_HISTOGRAMS = ("data", "file", "learn", "previous", "counts", "probabilities", "family")

KINDS: Mapping[Kind, KindTraits] = {
    "numeric": KindTraits(
        histogram=True,
        invalid="values that are not numbers",
        optional=("bins", "reference", "of", "unit"),
        outside="out_of_range_ratio",
        references=_OF_HISTOGRAMS,
        families=tuple(family for family in get_args(Family) if family != "categorical"),
    ),
    "categorical": KindTraits(
        histogram=True,
        invalid="values that are lists or objects",
        optional=("max_categories", "reference"),
        outside="unseen_ratio",
        references=_OF_HISTOGRAMS,
        families=("bernoulli", "categorical"),
    ),
    "vector": KindTraits(
        histogram=False,
        invalid="values that are no vectors of that length",
        required=("dimensions",),
        optional=("covariance", "per_dimension", "reference"),
        references=("data", "file", "learn", "family"),
        families=("normal",),
    ),
    "posterior": KindTraits(
        histogram=False,
        invalid="values that are no vectors of that length, or have no finite KL",
        required=("dimensions",),
        optional=("per_dimension",),
        always_against="N(0, I)",
    ),
}

#: Minimum number of samples for each bin that counts, for a window to be judged (drift/README.md, section 4.7).
SAMPLES_PER_BIN = 10

#: Below this, Sankaran's approximation breaks down: at 0.01 degrees of freedom it calls a statistic of 0 significant
#: (z = 4.5). From 0.1 to 0.4 it still wavers, at scores below 2.4. More degrees of freedom err on the cautious side of
#: the lower bound; dispersions only get this low where a rare cell carries all of the drift.
MIN_DEGREES_OF_FREEDOM = 0.1

#: Kinds whose reference the configuration gives.
WITH_REFERENCE = tuple(kind for kind, traits in KINDS.items() if traits.references)
