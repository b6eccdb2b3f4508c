"""Whether a divergence is more than chance and more than is tolerated."""

import math

from kldrift.records import Severity

#: Without drift 2 N KL is about chi-squared with k = B - 1 degrees of freedom, and the noise floor is its mean over
#: 2 N. Three noise floors and 8 / n are (3 k + 16) / 2 N or more, which chance exceeds with p < 2e-5, whatever k.
NOISE_FLOORS = 3.0
SMALL_SAMPLE = 8.0


def severity(kl: float, noise_floor: float, samples: int, warning: float, critical: float) -> Severity | None:
    """The severity that a series reaches: what KL is beyond chance against the tolerances; None below both.

    The rules in ``deploy/prometheus`` say the same. It takes samples to be independent: strongly autocorrelated streams
    exceed it more often.
    """
    if not samples:
        return None
    above = kl - NOISE_FLOORS * noise_floor - SMALL_SAMPLE / samples
    if math.isnan(above) or above <= warning:
        return None
    return "critical" if above > critical else "warning"
