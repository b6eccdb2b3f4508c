"""Whether a divergence is more than is tolerated, beyond chance."""

from kldrift.records import Severity


def severity(lower: float, warning: float, critical: float) -> Severity | None:
    """The severity that a series reaches: the lower bound of its divergence against the tolerances.

    None below both, and where the bound is undecided (NaN). The rules in ``deploy/prometheus`` say the same.
    """
    if not lower > warning:
        return None
    return "critical" if lower > critical else "warning"
