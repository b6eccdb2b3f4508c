"""How certain the drift of a feature is that never varies in its reference (README, section 4.11)."""

from scipy.special import betaincinv, rel_entr


def lower_bound(n_others: int, n: int, m: int, confidence: float) -> float:
    """Return a lower bound on D(live || reference) of a feature with one value in the reference, in nats.

    Of two shares of other values, p in the live data and q in the reference, D = p ln(p/q) + (1-p) ln((1-p)/(1-q)). It
    is at least what it is at the least p and the largest q that the counts allow, at half of 1 - confidence each.

    Parameters
    ----------
    n_others : live values that are not the one of the reference
    n, m : live and reference values

    References
    ----------
    Clopper & Pearson (1934).
    """
    if n_others == 0:
        return 0.0
    alpha = (1 - confidence) / 2
    p, q = float(betaincinv(n_others, n - n_others + 1, alpha)), float(1 - alpha ** (1 / m))
    return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q)) if p > q else 0.0
