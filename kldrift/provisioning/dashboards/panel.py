"""What a dashboard is made of."""

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

#: What a configuration may lack, so that a query would find nothing; of a divergence, that some monitor exports it.
Need = Trait | Divergence

NATS = "suffix: nats"


@dataclass(frozen=True, slots=True)
class Query:
    """A query of PromQL and the name of what it gives: a legend, or a table's column."""

    expr: str
    name: str = ""
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel; `width` of 24 columns, `height` in rows of 30 pixels.

    Parameters
    ----------
    steps : (from, colour) of what is drawn in another colour; the first one from None
    words : what a value is called
    units : of a table's columns, and of series by their legends
    dashed : series that are lines to compare with
    band : the two series between which is filled, the lower one first
    links : dashboards that a row of a table leads to: (title, uid, variables that are columns of the table)
    repeat : the variable of which each value has a panel of its own
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
    """A choice: the values of `label` on the series of `selector`.

    Parameters
    ----------
    all_value : the regular expression of `All`, where several may be chosen; None: exactly one is
    """

    name: str
    title: str
    selector: str
    all_value: str | None = None
    needs: Need | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks on the time axis. With `value_is_time` the value is the instant, in milliseconds; else the mark lasts."""

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
    """What a configuration has; None where any may come."""
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
    """The queries that a configuration can fill."""
    return [query for query in queries if is_met(query.needs, has)]


def is_met(need: Need | None, has: frozenset[Need] | None) -> bool:
    """Whether a configuration has what is needed."""
    return need is None or has is None or need in has
