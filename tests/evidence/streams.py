"""Streams to watch: many at once, of independent, autocorrelated and seasonal samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from kldrift.records.types import FloatArray

Generator = np.random.Generator


@dataclass(frozen=True)
class Stream:
    """A process; ``make(rng, n_streams, n_samples)`` draws that many stretches of it, (n_streams, n_samples)."""

    name: str
    make: Callable[[Generator, int, int], FloatArray]


def autoregressive(correlation: float) -> Stream:
    """AR(1), x_t = r x_(t-1) + sqrt(1 - r^2) e_t, standard normal at each step; independent where r = 0."""

    def make(rng: Generator, n_streams: int, n_samples: int) -> FloatArray:
        values = rng.standard_normal((n_streams, n_samples))
        if correlation == 0.0:
            return values
        values[:, 1:] *= math.sqrt(1 - correlation**2)
        return np.asarray(lfilter([1.0], [1.0, -correlation], values), dtype=np.float64)

    return Stream("iid" if correlation == 0.0 else f"AR({correlation:g})".replace("0.", "."), make)


def daily_mean(name: str, day: int, amplitude: float = 0.5) -> Stream:
    """Standard normal about a mean that goes up and down by `amplitude` in a day of `day` samples; any phase."""

    def make(rng: Generator, n_streams: int, n_samples: int) -> FloatArray:
        angle = _angle(rng, n_streams, n_samples, day)
        return np.asarray(rng.standard_normal(angle.shape) + amplitude * np.sin(angle))

    return Stream(name, make)


def daily_mixture(name: str, day: int) -> Stream:
    """N(0, 1), and N(2, 1/2) in a share that goes from 10 % to 50 % and back in a day of `day` samples."""

    def make(rng: Generator, n_streams: int, n_samples: int) -> FloatArray:
        share = 0.3 + 0.2 * np.sin(_angle(rng, n_streams, n_samples, day))
        values = rng.standard_normal(share.shape)
        return np.where(rng.random(share.shape) < share, 2.0 + 0.5 * values, values)

    return Stream(name, make)


def _angle(rng: Generator, n_streams: int, n_samples: int, day: int) -> FloatArray:
    phase = rng.random((n_streams, 1))
    return np.asarray(2 * math.pi * (np.arange(n_samples) / day + phase))
