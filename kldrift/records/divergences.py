"""The divergences: what each is called, where users meet it, and which values it can take."""

from dataclasses import dataclass
from math import inf, log


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A divergence of the live window from its reference, or an entropy that goes with the divergences.

    Parameters
    ----------
    name : in the configuration and in JSON; `kernels.divergence.compare_counts` has the formula
    title : in reports and dashboards
    heading : in tables, where space is short
    metric, help : name and help text of the metric
    maximum : the largest possible value
    smoothed : computed from smoothed live shares, because it takes their logarithm
    is_entropy : says how spread out the live window is, so it is not 0 when the window equals its reference
    rank : metrics with the lowest rank are dropped first when a scrape would hold too many series; None: never dropped
    """

    name: str
    title: str
    heading: str
    metric: str
    help: str
    maximum: float = inf
    smoothed: bool = False
    is_entropy: bool = False
    rank: int | None = None


#: Every divergence, in the order of the columns that the kernel fills.
KNOWN_DIVERGENCES = (
    Divergence(
        name="kl",
        title="KL",
        heading="KL",
        metric="kldrift_kl_divergence_nats",
        help="Kullback-Leibler divergence of the live window from the reference, D(live || reference).",
    ),
    Divergence(
        name="reverse_kl",
        title="reverse KL",
        heading="reverse KL",
        metric="kldrift_reverse_kl_divergence_nats",
        help="Kullback-Leibler divergence of the reference from the live window, smoothed, D(reference || live).",
        smoothed=True,
        rank=11,
    ),
    Divergence(
        name="js",
        title="Jensen-Shannon",
        heading="JS",
        metric="kldrift_js_divergence_nats",
        help="Jensen-Shannon divergence between the live window and the reference, 0 to ln 2.",
        maximum=log(2),
        rank=10,
    ),
    Divergence(
        name="psi",
        title="PSI",
        heading="PSI",
        metric="kldrift_psi",
        help="Population stability index (Jeffreys divergence) of the live window and the reference.",
        smoothed=True,
        rank=12,
    ),
    Divergence(
        name="total_variation",
        title="total variation",
        heading="TV",
        metric="kldrift_total_variation",
        help="Total variation distance between the live window and the reference, 0 to 1.",
        maximum=1.0,
        rank=9,
    ),
    Divergence(
        name="hellinger",
        title="Hellinger",
        heading="Hellinger",
        metric="kldrift_hellinger",
        help="Hellinger distance between the live window and the reference, 0 to 1.",
        maximum=1.0,
        rank=8,
    ),
    Divergence(
        name="entropy",
        title="entropy",
        heading="entropy",
        metric="kldrift_entropy_nats",
        help="Entropy of the live window.",
        is_entropy=True,
        rank=6,
    ),
    Divergence(
        name="cross_entropy",
        title="cross-entropy",
        heading="cross-entropy",
        metric="kldrift_cross_entropy_nats",
        help="Cross-entropy of the live window relative to the reference: its entropy plus its KL divergence.",
        is_entropy=True,
        rank=7,
    ),
)

#: Names along the last axis of an array of divergences, and their number.
DIVERGENCES = tuple(divergence.name for divergence in KNOWN_DIVERGENCES)
N_DIVERGENCES = len(DIVERGENCES)

#: Column of the KL divergence, which every monitor exports and which all verdicts are about.
KL = DIVERGENCES.index("kl")

#: What is shown beside the KL divergence.
OTHER_DIVERGENCES = tuple(each for i, each in enumerate(KNOWN_DIVERGENCES) if i != KL and not each.is_entropy)
ENTROPIES = tuple(each for each in KNOWN_DIVERGENCES if each.is_entropy)
