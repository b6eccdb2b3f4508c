"""What a backtest found, as it is told in the terminal, as JSON and HTML."""

from collections.abc import Mapping
from dataclasses import dataclass

WEEK_MS = 7 * 86_400_000

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms"))


def length_text(ms: int) -> str:
    """``2.33 d``, ``14 h``, ``25 s``."""
    size, unit = next(((size, unit) for size, unit in _UNITS if ms >= size), _UNITS[-1])
    return f"{ms / size:.3g} {unit}"


@dataclass(frozen=True, slots=True)
class Target:
    """How often may be paged at most.

    Parameters
    ----------
    text : as it was asked for, ``1/month``
    per_week : the same
    """

    text: str
    per_week: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """A series that was above its warning tolerance.

    Parameters
    ----------
    segment : None for the whole monitor
    begin_ms, end_ms : ends of the first and of the last step above it
    peak_kl, peak_lower : nats, largest in that time
    critical : above the critical tolerance as well
    lasting : it had not ended when the history did
    """

    feature: str
    window: str
    segment: str | None
    begin_ms: int
    end_ms: int
    peak_kl: float
    peak_lower: float
    critical: bool
    lasting: bool

    def length_ms(self, every_ms: int) -> int:
        """How long it was above it, in steps of that length."""
        return self.end_ms - self.begin_ms + every_ms


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """One window of a feature: alarms at its tolerances, share of the steps that are undecided, largest lower bound."""

    window: str
    warnings: int
    criticals: int
    undecided: float
    largest: float


@dataclass(frozen=True, slots=True)
class FeatureResult:
    """A feature over the history, with its segments.

    Parameters
    ----------
    warnings, criticals : alarms at its tolerances, whichever of its windows raises them
    in_alarm : share of the covered time above the warning tolerance
    undecided : share of the steps at which no window was decided
    largest : lower bound, nats; NaN where it was never decided
    proposed : the tolerance at which it would have had its share of the target; None where there is none
    """

    name: str
    kind: str
    warning: float
    critical: float
    warnings: int
    criticals: int
    in_alarm: float
    undecided: float
    largest: float
    proposed: float | None
    problem: str | None
    series: tuple[SeriesResult, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """What one tolerance would have done.

    Parameters
    ----------
    tolerance : nats, the same for all features; None where each has its own, as configured
    configured : ``warning`` or ``critical`` where it is what the configuration says
    pages : instants at which an alarm began; those of one step go out together
    features : that had an alarm
    in_alarm : share of the covered time in which any feature was above it
    most_in_alarm : the same of the feature that was longest
    alarms : of each feature
    """

    tolerance: float | None
    configured: str
    pages: int
    per_week: float
    features: int
    in_alarm: float
    most_in_alarm: float
    alarms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tolerances for a target.

    Parameters
    ----------
    met : the configured warning tolerances meet the target already
    rung : the smallest tolerance for all features that meets the target, as does every larger one; None: there is none
    critical : that goes with it
    standing : features that were in alarm for too much of the time at their own tolerances, the longest first: most
        likely a lasting change, which a tolerance would hide
    others : as `rung`, for all features but those and with their share of the target; None without such features, or
        where there is none
    raised : warning and critical of the features whose own alarms are more than their share, by name
    """

    met: bool
    rung: Rung | None
    critical: float
    standing: tuple[str, ...]
    others: Rung | None
    raised: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A backtest.

    Parameters
    ----------
    first_ms, last_ms : of the event times
    covered_ms : of the steps that were evaluated, so without long gaps
    features : in the order of the configuration
    ladder : from the smallest tolerance to the largest
    alarms : at the configured tolerances, by their beginning
    """

    monitor: str
    files: tuple[str, ...]
    rows: int
    first_ms: int
    last_ms: int
    every_ms: int
    steps: int
    covered_ms: int
    confidence: float
    target: Target
    windows: tuple[str, ...]
    features: tuple[FeatureResult, ...]
    ladder: tuple[Rung, ...]
    alarms: tuple[Alarm, ...]
    proposal: Proposal
    notes: tuple[str, ...]

    @property
    def decided(self) -> bool:
        """Whether any window of any feature ever had rows enough."""
        return any(feature.undecided < 1 for feature in self.features)

    @property
    def weeks(self) -> float:
        """Covered."""
        return self.covered_ms / WEEK_MS
