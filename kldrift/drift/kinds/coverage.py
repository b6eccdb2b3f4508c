"""How much of a distribution of categories a sample has not seen (README, section 2.4)."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.records.types import CodeArray

#: Number of consecutive stretches in which categories are looked up that occur in no other, and how many values each
#: must have at least.
STRETCHES, _STRETCH_VALUES = 64, 10


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the rare categories of a sample say about those that it missed.

    Parameters
    ----------
    values : size of the sample
    rare : number of categories that occur fewer than 10 times
    once, twice : how many of these occur once, and twice
    apart, apart_error : mean share of the values of a stretch whose category occurs in none of the 63 others, and its
        standard error; 0 where the sample is too short for that
    """

    values: int
    rare: int
    once: int
    twice: int
    apart: float = 0.0
    apart_error: float = 0.0

    @classmethod
    def of(cls, codes: CodeArray, first_rare: int) -> Self:
        """Return that of values (n,), in order of time where there is one; rare are the codes from `first_rare` on."""
        counts = np.bincount(codes[codes >= first_rare])
        once, twice = (int(np.count_nonzero(counts == times)) for times in (1, 2))
        found = cls(codes.size, int(np.count_nonzero((counts > 0) & (counts < MIN_CELL_COUNT))), once, twice)
        if codes.size < STRETCHES * _STRETCH_VALUES:
            return found
        stretches = np.arange(codes.size) * STRETCHES // codes.size
        first, last = np.full((2, int(codes.max()) + 1), -1)
        last[codes] = stretches  # the last assignment stays
        first[codes[::-1]] = stretches[::-1]
        alone = (first == last)[codes]
        shares = np.bincount(stretches, alone) / np.bincount(stretches)
        error = float(shares.std(ddof=1)) / STRETCHES**0.5
        return cls(found.values, found.rare, once, twice, float(shares.mean()), error)

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        values, rare, once, twice = (int(item[name]) for name in ("values", "rare", "once", "twice"))
        return cls(values, rare, once, twice, float(item["apart"]), float(item["apart_error"]))

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def expected(self) -> float:
        """The share of new values to expect, which is that of values that occur once (Good 1953)."""
        return self.once / self.values
