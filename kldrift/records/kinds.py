"""The kinds of features, and what generic code needs to know of each; `drift.kinds` holds how they are counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from kldrift.records.types import Family

Kind = Literal["numeric", "categorical", "vector", "posterior"]


@dataclass(frozen=True, slots=True)
class KindTraits:
    """What distinguishes one kind of feature from the others.

    Parameters
    ----------
    histogram : its cells are a histogram of its values; otherwise they only tell present from missing
    outside : field of a snapshot with the share of values that lie outside the cells; None where there is none
    families : parametric families of which its reference may be a member
    always_against : the distribution it is always compared with; empty where the configuration gives a reference
    """

    histogram: bool
    outside: Literal["out_of_range_ratio", "unseen_ratio"] | None = None
    families: tuple[Family, ...] = ()
    always_against: str = ""


KINDS: Mapping[Kind, KindTraits] = {
    "numeric": KindTraits(
        histogram=True,
        outside="out_of_range_ratio",
        families=tuple(family for family in get_args(Family) if family != "categorical"),
    ),
    "categorical": KindTraits(histogram=True, outside="unseen_ratio", families=("bernoulli", "categorical")),
    "vector": KindTraits(histogram=False, families=("normal",)),
    "posterior": KindTraits(histogram=False, always_against="N(0, I)"),
}

#: Kinds whose reference the configuration gives.
WITH_REFERENCE = tuple(kind for kind, traits in KINDS.items() if not traits.always_against)
