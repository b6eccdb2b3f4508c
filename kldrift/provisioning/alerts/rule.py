"""The parts of an alert, and what alerts need to know of a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kldrift.export.exposition import printable
from kldrift.records.kinds import WITH_REFERENCE
from kldrift.records.sources import SourceConfig
from kldrift.records.specs import MonitorSpec, ReferenceFamily, ReferenceInline, ReferencePrevious

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

RUNBOOK = "https://github.com/kldrift/kldrift/blob/main/deploy/prometheus/README.md"

Severity = Literal["warning", "critical"]


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts of a configuration that its alerts depend on."""

    monitors: tuple[MonitorSpec, ...]
    sources: tuple[SourceConfig, ...] = ()
    tick_ms: int = 10_000
    has_state: bool = True
    has_tls: bool = False

    def is_replay(self, monitor: MonitorSpec) -> bool:
        """Whether all sources of a monitor come to an end, so that its silence means nothing."""
        fed = [source.endless for source in self.sources if source.name in monitor.sources]
        return bool(fed) and not any(fed)

    def feeds(self, source: SourceConfig) -> list[MonitorSpec]:
        """Return the monitors that a source feeds."""
        return [monitor for monitor in self.monitors if source.name in monitor.sources]


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """The choices of the user.

    Parameters
    ----------
    job : the scrape job; None: ``kldrift``, named only in rules that need one
    runbook : a page with a section for each alert
    warning, critical : values of the label ``severity``
    stale_ms : age from which a reference raises an alert
    """

    job: str | None = None
    runbook: str = RUNBOOK
    warning: str = "warning"
    critical: str = "critical"
    stale_ms: int = 90 * DAY

    @property
    def job_name(self) -> str:
        """The scrape job, where a rule has to name one."""
        return self.job or "kldrift"

    def selector(self, metric: str, **labels: str) -> str:
        """Return ``metric{label="value"}``, restricted to the job if one was chosen."""
        given = {} if self.job is None else {"job": self.job}
        return selector(metric, {**given, **labels})


@dataclass(frozen=True, slots=True)
class Case:
    """A unit test of an alert: its input and the expected result.

    Parameters
    ----------
    title : what the case is about
    series : name, labels and values of each; ``5`` is constant, ``0+5`` grows by 5 a minute
    labels : of the alert, without its severity
    value : how the texts show the value of the alert, or a function of the seconds since the series began
    holds_after_ms : time from the start of the series until the expression becomes true
    """

    title: str
    series: tuple[tuple[str, Mapping[str, str], str], ...]
    labels: Mapping[str, str]
    value: str | Callable[[int], str] = ""
    holds_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule with a case in which it fires and one in which it does not (whose `labels` are ignored).

    `labels` are those of the series that the rule selects. They distinguish rules of the same name, as promtool
    requires.
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    fires: Case
    silent: Case
    for_ms: int = 0
    keep_firing_ms: int = 0
    comment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after another."""

    name: str
    alerts: tuple[Alert, ...]


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """Write ``metric{label="value"}`` as PromQL does, and promtool for a series."""
    matchers = ",".join(f"{name}={promql_text(value)}" for name, value in labels.items())
    return f"{metric}{{{matchers}}}" if matchers else metric


def promql_text(text: str) -> str:
    """Write a PromQL string. It is made `printable`, as the label values of the metrics are, and then escaped."""
    escaped = "".join(
        char if char.isprintable() and char not in '\\"' else {"\\": "\\\\", '"': '\\"'}.get(char) or _escape(char)
        for char in printable(text)
    )
    return f'"{escaped}"'


def _escape(char: str) -> str:
    return f"\\U{ord(char):08x}"


def duration_words(length_ms: int) -> str:
    """Write a length in words: ``15 minutes``, ``an hour``."""
    for unit_ms, one, name in ((DAY, "a day", "day"), (HOUR, "an hour", "hour"), (MINUTE, "a minute", "minute")):
        if length_ms == unit_ms:
            return one
        if length_ms > unit_ms and length_ms % unit_ms == 0:
            return f"{length_ms // unit_ms} {name}s"
    return f"{length_ms / SECOND:g} seconds"


def humanized_duration(seconds: int) -> str:
    """Write whole seconds as ``humanizeDuration`` does in templates of Prometheus."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    if d:
        return f"{d}d {h}h {m}m {s}s"
    if h:
        return f"{h}h {m}m {s}s"
    return f"{m}m {s}s" if m else f"{s}s"


def ages(monitor: MonitorSpec) -> bool:
    """Whether a reference of the monitor was taken from data at some time, so that it can become outdated."""
    given = [feature.reference or monitor.reference for feature in monitor.features if feature.kind in WITH_REFERENCE]
    return any(
        not isinstance(reference, ReferenceInline | ReferencePrevious)
        and not (isinstance(reference, ReferenceFamily) and reference.fit is None)
        for reference in given
    )
