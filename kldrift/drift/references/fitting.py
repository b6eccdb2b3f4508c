"""Parametric families: their members, and the likeliest one for some data.

The maximum-likelihood fit is argmin over theta of D_KL(p_hat || q_theta): no member of the family is closer to the
data. Distribution functions, and fits without a closed form, come from scipy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kldrift.errors import ReferenceProblem
from kldrift.records.categories import CategoryCodes
from kldrift.records.samples import CategoricalColumn
from kldrift.records.types import FloatArray

#: Minimum number of values to fit a family to.
MIN_FITTED = 10

#: Minimum standard deviation, as a share of the mean, to fit a gamma distribution to. For narrower ones the error of a
#: fit exceeds 1e-3: their shape, beyond 1e10, is the difference of two logarithms that agree in their first ten digits.
MIN_GAMMA_SPREAD = 1e-5

#: Maximum relative distance of fitted parameters from the maximum of the likelihood.
FIT_TOLERANCE = 1e-3

BERNOULLI_CATEGORIES = ("true", "false")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter with values between `low` and `high`, both excluded; `text` is how a message puts it."""

    name: str
    text: str = "a finite number > 0"
    low: float = 0.0
    high: float = np.inf


@dataclass(frozen=True, slots=True)
class _Family:
    """A parametric family: its parameters, its distribution in scipy, and how it is fitted.

    Parameters
    ----------
    distribution, arguments : its name in scipy.stats, and the arguments there for our parameters
    fit : maximum-likelihood parameters for finite values within the support that are not all equal
    support, outside, is_outside : the values it can have and cannot have, in words and as a test; any if empty
    """

    parameters: tuple[_Parameter, ...]
    distribution: str
    arguments: Callable[..., tuple[float, ...]]
    fit: Callable[[FloatArray], tuple[float, ...]]
    support: str = ""
    outside: str = ""
    is_outside: Callable[[FloatArray], npt.NDArray[np.bool_]] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One distribution of a family, continuous or over the integers."""

    text: str
    distribution: Any
    arguments: tuple[float, ...]
    discrete: bool

    def _reached(self, thresholds: FloatArray) -> FloatArray:
        """Return the largest value below each threshold of integers, limited to where scipy returns no NaN."""
        return np.clip(np.nextafter(thresholds, -np.inf), -1, 1e17) if self.discrete else thresholds

    def below(self, thresholds: FloatArray) -> FloatArray:
        """Return P(X < t)."""
        return np.asarray(self.distribution.cdf(self._reached(thresholds), *self.arguments))

    def not_below(self, thresholds: FloatArray) -> FloatArray:
        """Return P(X >= t), accurate where it is small."""
        return np.asarray(self.distribution.sf(self._reached(thresholds), *self.arguments))

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and largest value it can have."""
        low, high = self.distribution.support(*self.arguments)
        return float(low), float(high)

    def quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return the smallest x with P(X <= x) >= p."""
        return np.asarray(self.distribution.ppf(probabilities, *self.arguments))


def member_of(family: str, parameters: tuple[tuple[str, float], ...]) -> Member:
    from scipy import stats

    described = _FAMILIES[family]
    return Member(
        text=f"{family}({', '.join(f'{name}={value:g}' for name, value in parameters)})",
        distribution=getattr(stats, described.distribution),
        arguments=described.arguments(*(value for _, value in parameters)),
        discrete=family in ("poisson", "bernoulli"),
    )


def check_parameters(family: str, given: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Check the parameters of a family and return them in its order."""
    known = _FAMILIES[family].parameters
    values = dict(given)
    names = [parameter.name for parameter in known]
    if sorted(values) != sorted(names):
        raise ReferenceProblem(
            f"expected the parameters {', '.join(names)} of the family {family}, got {', '.join(values) or 'none'};"
            " give those, or `fit` with a data file"
        )
    for parameter in known:
        if not parameter.low < values[parameter.name] < parameter.high:
            raise ReferenceProblem(
                f"expected {parameter.text} as {parameter.name} of the family {family}, got {values[parameter.name]:g};"
                " change it, or use another family"
            )
    if family == "uniform" and not 0 < values["high"] - values["low"] < np.inf:
        raise ReferenceProblem(
            f"expected low below high, a finite distance apart, for the family uniform, got low {values['low']:g}"
            f" and high {values['high']:g}; change one of them"
        )
    return tuple((name, float(values[name])) for name in names)


def fit_parameters(family: str, values: FloatArray) -> tuple[tuple[str, float], ...]:
    """Return the likeliest parameters for finite values, checked."""
    described = _FAMILIES[family]
    if values.size < MIN_FITTED:
        raise ReferenceProblem(
            f"expected at least {MIN_FITTED} finite values to fit a {family} distribution to, got {values.size};"
            " use more data, or give the parameters"
        )
    if described.is_outside is not None:
        n_outside = int(np.count_nonzero(described.is_outside(values)))
        if n_outside:
            raise ReferenceProblem(
                f"expected values {described.support} to fit a {family} distribution to,"
                f" got {n_outside:,} of {values.size:,} that are {described.outside};"
                " take them out of the data, or use another family"
            )
    if values.min() == values.max():
        raise ReferenceProblem(
            f"expected values that differ to fit a {family} distribution to, got {values.size:,} values, all"
            f" {float(values[0])!r}; remove the feature, or use its data as reference"
        )
    try:
        with np.errstate(all="ignore"):
            fitted = described.fit(values)
    except (RuntimeError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise ReferenceProblem(
            f"expected data to which a {family} distribution can be fitted, but the fit failed: {error};"
            " use another family, or the data itself as reference"
        ) from None
    names = [parameter.name for parameter in described.parameters]
    return check_parameters(family, tuple(zip(names, map(float, fitted), strict=True)))


def zeros_and_ones(column: CategoricalColumn) -> FloatArray:
    """Return the categories true and false as 1 and 0, missing as NaN."""
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    codes = CategoryCodes(BERNOULLI_CATEGORIES, other=-1, missing=-1)
    other = [i for i, value in enumerate(column.values) if codes[value] < 0 and counts[i]]
    if other:
        shown = ", ".join(repr(column.values[i]) for i in other[:3])
        raise ReferenceProblem(
            f"expected true and false to fit a bernoulli distribution to, got {int(counts[other].sum()):,} of"
            f" {int(counts.sum()):,} values that are neither: {shown}{', …' if len(other) > 3 else ''};"
            " use the family categorical"
        )
    truth = np.array([*(float(codes[value] == 0) for value in column.values), np.nan])
    return truth[column.codes]


def _fit_gamma(values: FloatArray) -> tuple[float, ...]:
    from scipy import stats

    if not values.std() > MIN_GAMMA_SPREAD * values.mean():
        raise ValueError(f"their standard deviation is {values.std():g} at a mean of {values.mean():g}")
    shape, _, scale = stats.gamma.fit(values, floc=0)
    return float(shape), float(scale)


def _fit_beta(values: FloatArray) -> tuple[float, ...]:
    """Return scipy's fit if it converged: for values close to 0 or 1 its solver may stop anywhere.

    The check is how far one more step of Newton's method would go.
    """
    from scipy import special, stats

    a, b, _, _ = (float(parameter) for parameter in stats.beta.fit(values, floc=0, fscale=1))
    own = np.array([a, b])
    score = np.array([np.log(values).mean(), np.log1p(-values).mean()]) - special.psi(own) + special.psi(a + b)
    information = np.diag(special.polygamma(1, own)) - special.polygamma(1, a + b)
    left = np.linalg.solve(information, score) / own
    if not np.abs(left).max() <= FIT_TOLERANCE:
        raise ValueError(f"the fit did not converge, it stopped at a = {a:g}, b = {b:g}")
    return a, b


def _mean(values: FloatArray) -> tuple[float, ...]:
    return (float(values.mean()),)


_REAL = "a finite number"
#: Beyond this, scipy loses digits of the beta distribution (at 1e16, all of them).
_SHAPE = ("a number > 0 and below 1e12", 0, 1e12)

_FAMILIES: Mapping[str, _Family] = {
    "normal": _Family(
        (_Parameter("mean", _REAL, -np.inf), _Parameter("std")),
        "norm",
        lambda mean, std: (mean, std),
        lambda values: (float(values.mean()), float(values.std())),
    ),
    "lognormal": _Family(
        (_Parameter("mean", "a number between -700 and 700", -700, 700), _Parameter("sigma")),
        "lognorm",
        lambda mean, sigma: (sigma, 0.0, np.exp(mean)),
        lambda values: (float(np.log(values).mean()), float(np.log(values).std())),
        "> 0",
        "<= 0",
        lambda values: values <= 0,
    ),
    "exponential": _Family(
        (_Parameter("scale"),), "expon", lambda scale: (0.0, scale), _mean, ">= 0", "< 0", lambda values: values < 0
    ),
    "gamma": _Family(
        (_Parameter("shape", *_SHAPE), _Parameter("scale")),
        "gamma",
        lambda shape, scale: (shape, 0.0, scale),
        _fit_gamma,
        "> 0",
        "<= 0",
        lambda values: values <= 0,
    ),
    "beta": _Family(
        (_Parameter("a", *_SHAPE), _Parameter("b", *_SHAPE)),
        "beta",
        lambda a, b: (a, b),
        _fit_beta,
        "between 0 and 1",
        "<= 0 or >= 1",
        lambda values: (values <= 0) | (values >= 1),
    ),
    "uniform": _Family(
        (_Parameter("low", _REAL, -np.inf), _Parameter("high", _REAL, -np.inf)),
        "uniform",
        lambda low, high: (low, high - low),
        lambda values: (float(values.min()), float(values.max())),
    ),
    "poisson": _Family(
        (_Parameter("rate", "a number > 0 and below 1e10", 0, 1e10),),  # beyond that, scipy has no quantiles
        "poisson",
        lambda rate: (rate,),
        _mean,
        "that are integers >= 0",
        "negative or not whole",
        lambda values: (values < 0) | (values != np.rint(values)),
    ),
    "bernoulli": _Family(
        (_Parameter("p", "a number between 0 and 1, both excluded,", 0, 1),),
        "bernoulli",
        lambda p: (p,),
        _mean,
        "0 and 1",
        "neither",
        lambda values: (values != 0) & (values != 1),
    ),
}
