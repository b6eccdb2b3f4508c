"""How certain the drift of a feature is that never varies in its reference (README, section 4.11)."""

from kldrift.drift.kinds.constants import share_bound


def lower_bound(n_others: int, n: int, m: int, confidence: float) -> float:
    """Return `share_bound` at this confidence: a lower bound on D(live || reference), in nats."""
    return share_bound(n_others, n, m, 1 - confidence)
