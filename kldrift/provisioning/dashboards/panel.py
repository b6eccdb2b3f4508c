"""The parts of a dashboard."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kldrift.provisioning.alerts import Watched
from kldrift.records.divergences import KNOWN_DIVERGENCES, Divergence
from kldrift.records.kinds import KINDS

PanelKind = Literal["timeseries", "stat", "table", "status-history"]

Trait = Literal[
    "segments",
    "numeric",
    "categorical",
    "dimensions",
    "sources",
    "lag_bytes",
    "lag_records",
    "state",
    "tls",
]

#: What a query needs of the configuration to find anything; for a divergence, that some monitor exports it.
Need = Trait | Divergence

NATS = "suffix: nats"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query and the name of its result: a legend, or the column of a table."""

    expr: str
    name: str = ""
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel; `width` in columns (a row has 24), `height` in units of 30 pixels.

    Parameters
    ----------
    steps : (from, colour) of each range of values; the first starts at None
    words : (value, text, colour) for values shown as text
    units : of the columns of a table, and of series by their legends
    dashed : series to draw as dashed lines, with their colours
    band : two series with the area between them filled, the lower one first
    link : dashboard that a row of a table leads to: (title, uid, variables that are columns of the table)
    repeat : variable whose values get a panel each
    """

    kind: PanelKind
    title: str
    queries: tuple[Query, ...]
    description: str
    unit: str = "short"
    width: int = 12
    height: int = 8
    steps: tuple[tuple[float | None, str], ...] = ()
    words: tuple[tuple[str, str, str], ...] = ()
    units: Mapping[str, str] | None = None
    dashed: Mapping[str, str] | None = None
    band: tuple[str, str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    sorted_by: str | None = None
    link: tuple[str, str, tuple[str, ...]] | None = None
    repeat: str | None = None
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Panels below a heading."""

    title: str
    panels: tuple[Panel, ...]
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable to choose: the values of the label `name` on the series of `selector`.

    Parameters
    ----------
    all_value : regular expression of `All`, where several may be chosen; None: exactly one is chosen
    """

    name: str
    title: str
    selector: str
    all_value: str | None = None
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks on the time axis: at the instants given by the value (ms) with `value_is_time`, else while there is one."""

    name: str
    expr: str
    title: str
    text: str
    colour: str
    value_is_time: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]
    sections: tuple[Section, ...]


Json = dict[str, Any]


def fulfilled(watched: Watched | None) -> frozenset[Need] | None:
    """Return what a configuration fulfils; None for any configuration."""
    if watched is None:
        return None
    monitors = watched.monitors
    outside = {KINDS[feature.kind].outside for monitor in monitors for feature in monitor.features}
    lags = {source.lag_unit for source in watched.sources}
    exported = {divergence for monitor in monitors for divergence in monitor.divergences}
    traits: dict[Trait, bool] = {
        "segments": any(monitor.segments for monitor in monitors),
        "numeric": "out_of_range_ratio" in outside,
        "categorical": "unseen_ratio" in outside,
        "dimensions": any(feature.per_dimension for monitor in monitors for feature in monitor.features),
        "sources": bool(watched.sources),
        "lag_bytes": "bytes" in lags,
        "lag_records": "records" in lags,
        "state": watched.has_state,
        "tls": watched.has_tls,
    }
    found: set[Need] = {trait for trait, is_there in traits.items() if is_there}
    return frozenset(found.union(divergence for divergence in KNOWN_DIVERGENCES if divergence.name in exported))


def filled(queries: Iterable[Query], has: frozenset[Need] | None) -> list[Query]:
    """Return the queries that can find something with this configuration."""
    return [query for query in queries if is_met(query.needs, has)]


def is_met(need: Need | None, has: frozenset[Need] | None) -> bool:
    """Whether a configuration fulfils a need."""
    return need is None or has is None or need in has
