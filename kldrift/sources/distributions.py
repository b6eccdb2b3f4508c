"""Samplers for the distributions of synthetic features."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from kldrift.records.sources import Distribution, DistributionName

Value = float | int | str | bool


class Sampler(Protocol):
    """Draws the values of a feature."""

    @property
    def missing(self) -> float:
        """Expected share of missing values, in [0, 1]."""
        ...

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        ...


def _expect(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"expected {what}, got {value}")


@dataclass(frozen=True, slots=True)
class _WithMissing:
    """The share of missing values, which every sampler has."""

    missing: float = 0.0

    def __post_init__(self) -> None:
        _expect(0 <= self.missing <= 1, "missing between 0 and 1", self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal(_WithMissing):
    """Normal(mean, std²)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        _expect(math.isfinite(self.mean), "a finite mean", self.mean)
        _expect(0 <= self.std < math.inf, "std ≥ 0", self.std)

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        values: list[float] = random.normal(self.mean, self.std, n).tolist()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal(_WithMissing):
    """Exponential of a Normal(mean, sigma²) variable."""

    mean: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        _expect(math.isfinite(self.mean), "a finite mean (of the logarithm)", self.mean)
        _expect(0 <= self.sigma < math.inf, "sigma ≥ 0", self.sigma)

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        values: list[float] = random.lognormal(self.mean, self.sigma, n).tolist()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(_WithMissing):
    """Uniform on [low, high)."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        _expect(-math.inf < self.low < self.high < math.inf, "low < high, finite", (self.low, self.high))

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        values: list[float] = random.uniform(self.low, self.high, n).tolist()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(_WithMissing):
    """Exponential with this scale, which is its mean."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        _expect(0 < self.scale < math.inf, "scale > 0", self.scale)

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        values: list[float] = random.exponential(self.scale, n).tolist()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(_WithMissing):
    """Poisson counts with this rate, which is their mean."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        _expect(0 <= self.rate <= 1e18, "rate between 0 and 1e18", self.rate)

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        values: list[int] = random.poisson(self.rate, n).tolist()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical(_WithMissing):
    """Categories with these weights, which are divided by their sum."""

    probabilities: Mapping[str, float]

    def __post_init__(self) -> None:
        _WithMissing.__post_init__(self)
        weights = self.probabilities.values()
        _expect(
            all(0 <= w < math.inf for w in weights) and sum(weights) > 0,
            "probabilities ≥ 0, not all of them 0",
            dict(self.probabilities),
        )

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:
        """Draw `n` independent values."""
        categories = list(self.probabilities)
        upper = np.cumsum(list(self.probabilities.values()))
        codes = np.searchsorted(upper, random.random(n) * upper[-1], side="right")
        return [categories[code] for code in codes.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(_WithMissing):
    """One value throughout."""

    value: Value

    def draw(self, random: np.random.Generator, n: int) -> Sequence[Value]:  # noqa: ARG002 - nothing is random
        """Repeat the value `n` times."""
        return [self.value] * n


_FAMILIES: Mapping[DistributionName, type[_WithMissing]] = {
    "normal": Normal,
    "lognormal": LogNormal,
    "uniform": Uniform,
    "exponential": Exponential,
    "poisson": Poisson,
    "categorical": Categorical,
    "constant": Constant,
}


def sampler(given: Distribution) -> Sampler:
    """Return the sampler for a distribution.

    Raises
    ------
    ValueError
        an unknown name or parameter, or a value out of range
    """
    kind = _FAMILIES.get(given.name)
    if kind is None:
        raise ValueError(f"expected a distribution out of {', '.join(_FAMILIES)}, got {given.name!r}")
    parameters: dict[str, Any] = {"missing": given.missing}
    if kind is Categorical:
        parameters["probabilities"] = given.parameters
    elif kind is Constant:
        parameters["value"] = given.value
    else:
        parameters |= given.parameters
    known = [f.name for f in fields(kind)]
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(f"{given.name} takes {', '.join(known)}; got {', '.join(unknown)}")
    try:
        made: Sampler = kind(**parameters)  # type: ignore[assignment] # every subclass has `draw`
    except TypeError as error:
        raise ValueError(f"{given.name} takes {', '.join(known)}: {error}") from error
    return made
