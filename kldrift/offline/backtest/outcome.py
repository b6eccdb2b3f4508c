"""What a backtest found, as shown in the terminal, as JSON and as HTML."""

from collections.abc import Mapping
from dataclasses import dataclass

WEEK_MS = 7 * 86_400_000

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms"))


def length_text(ms: int) -> str:
    """Write a length as ``2.33 d``, ``14 h`` or ``25 s``."""
    size, unit = next(((size, unit) for size, unit in _UNITS if ms >= size), _UNITS[-1])
    return f"{ms / size:.3g} {unit}"


@dataclass(frozen=True, slots=True)
class Target:
    """The most pages that are acceptable.

    Parameters
    ----------
    text : as requested, ``1/month``
    per_week : the same per week
    """

    text: str
    per_week: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """A period in which a series was above its warning tolerance.

    Parameters
    ----------
    segment : None for the whole monitor
    begin_ms, end_ms : ends of the first and of the last step above it
    peak_kl, peak_lower : nats, the largest in that period
    critical : it was above the critical tolerance as well
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
        """Return how long it lasted, given the length of a step."""
        return self.end_ms - self.begin_ms + every_ms


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """One window of a feature: alarms at its tolerances, share of undecided steps, largest lower bound."""

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
    in_alarm : share of the covered time spent above the warning tolerance
    undecided : share of the steps at which no window was decided
    largest : lower bound, nats; NaN where it was never decided
    proposed : the tolerance at which it would have stayed within its share of the target; None if there is none
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
    configured : ``warning`` or ``critical`` if it is the configured one
    pages : instants at which an alarm began; alarms of one step make one page
    features : number of features that had an alarm
    in_alarm : share of the covered time in which any feature was above it
    most_in_alarm : the same for the feature that was above it longest
    alarms : number for each feature
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
    met : the configured warning tolerances already meet the target
    rung : the smallest tolerance for all features that meets the target, as does every larger one; None if none does
    critical : the critical tolerance that goes with it
    standing : features that spent too much time in alarm at their own tolerances, the longest first: most likely a
        lasting change, which a higher tolerance would hide
    others : as `rung`, for the remaining features and their share of the target; None if no feature is standing or no
        tolerance meets it
    raised : warning and critical tolerance, by name, for each feature with more than its share of alarms
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
    covered_ms : length of the evaluated steps, which excludes long gaps
    features : in the order of the configuration
    ladder : from the smallest tolerance to the largest
    alarms : at the configured tolerances, in order of their beginnings
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
        """Whether any window of any feature ever had enough rows."""
        return any(feature.undecided < 1 for feature in self.features)

    @property
    def weeks(self) -> float:
        """The covered time in weeks."""
        return self.covered_ms / WEEK_MS
