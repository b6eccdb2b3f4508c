"""``kldrift check``."""

from collections.abc import Sequence
from math import inf, isinf, isnan
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kldrift.assembly.monitors import build_monitors
from kldrift.cli.tables import console
from kldrift.config.load import load_config
from kldrift.daemon.entry import check_entry
from kldrift.drift.counting.windows import SLICES, pane_ms, ring_slices
from kldrift.drift.judging.sensitivity import SmallestDrift, smallest_at
from kldrift.drift.kinds import SHAPES
from kldrift.drift.monitor import Monitor
from kldrift.engine.observing import now_ms
from kldrift.export.drift_metrics import MAX_SERIES, count_series
from kldrift.records.kinds import STRUCTURAL_CELLS
from kldrift.records.snapshots import FeatureInfo
from kldrift.records.specs import FeatureSpec, MonitorSpec, ReferenceLearn, ReferencePrevious
from kldrift.records.texts import listed

#: Maximum number of names in a line; the rest is only counted.
NAMED = 10

_ABOUT_SMALLEST = (
    "warns from, critical from: the smallest drift that is certain to exceed the tolerance, in nats and as a shift of"
    " the mean in standard deviations (σ), in a window of any size"
)
_ABOUT_RATE = "; --rate ROWS_PER_SECOND shows each window"


def check_command(path: Path, rate: float | None = None) -> None:
    """Print the resolved plan: sources, features, bins, the smallest drifts that show, memory, series.

    Parameters
    ----------
    rate : rows per second of each monitor
    """
    config = load_config(path)
    err = Console(stderr=True)
    let_in, warnings = check_entry(config.server)
    warnings += config.warnings
    with err.status("counting references"):  # shows on a terminal only
        monitors = build_monitors(config.monitors, now_ms(), warnings.append)
    out = console()
    out.print(
        f"listens on {config.server.listen}, computes divergences every {config.engine.tick_ms / 1000:g} s",
        highlight=False,
    )
    out.print(f"lets in: {let_in}", highlight=False)
    for source in config.sources:
        feeds = [m.name for m in config.monitors if source.name in m.sources]
        out.print(f"source {source.name} feeds {', '.join(feeds) or 'nothing'}", highlight=False, markup=False)
    for monitor in monitors:
        _print_plan(monitor, rate, out)
    if monitors:
        out.print(_ABOUT_SMALLEST + ("" if rate else _ABOUT_RATE), highlight=False, soft_wrap=True)
    for line in _support(monitors):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    series = sum(map(n_series, monitors))
    if series > MAX_SERIES:
        warnings.append(
            f"{series:,} series are more than the {MAX_SERIES:,} that a scrape carries: some will be left out,"
            " segments first; monitor fewer features, segments, windows or divergences"
        )
    warnings += _without_alarm(monitors)
    for warning in warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    out.print(
        f"ok: {_counted(len(monitors), 'monitor')}, {_counted(sum(len(m.features) for m in monitors), 'feature')},"
        f" {series:,} series, {_size(sum(n_bytes(m) for m in monitors))} of counts",
        highlight=False,
    )


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.0f} kB"


def n_series(monitor: Monitor) -> int:
    """Return the number of series of a monitor once its windows are full and its segments are used up."""
    return count_series(monitor.spec)


def n_bytes(monitor: Monitor) -> int:
    """Return the memory of counts and moments: a ring per window, and the panes open within the allowed lateness.

    A ring has 12 slices; where a reference is the same window earlier, it also has the slices in between. A slice holds
    the cells of all features, int64, and for each vector the number of samples, the means, and the squares (with full
    covariance, the products) of the deviations. All of this exists once per segment, with one more cell for its rows.
    """
    spec = monitor.spec
    segments = 1 if spec.segments is None else spec.segments.limit + 1
    cells = monitor.n_cells + (spec.segments is not None)
    moments = sum(_n_moments(feature) for feature in spec.features)
    open_panes = spec.allowed_lateness_ms // pane_ms(spec.windows) + 2
    slices = sum(ring_slices(window, _history_ms(spec)) for window in spec.windows)
    # vectors are never compared with an earlier window
    return 8 * segments * (cells * (slices + open_panes) + moments * (SLICES * len(spec.windows) + open_panes))


def _n_moments(feature: FeatureSpec) -> int:
    """Return how many numbers are kept of the moments of a feature, 0 if it is judged by its counts."""
    moments = SHAPES[feature.kind].preliminary(feature).moments
    return 0 if moments is None else 1 + moments.size + moments.size ** (2 if moments.full else 1)


def _history_ms(spec: MonitorSpec) -> int:
    """Return how far back references look at earlier windows."""
    given = [feature.reference or spec.reference for feature in spec.features]
    return max((r.offset_ms for r in given if isinstance(r, ReferencePrevious)), default=0)


def _is_learned(spec: MonitorSpec, feature: FeatureSpec) -> bool:
    """Whether the bins are built from the first rows of the stream, so that they are not known yet."""
    given = feature.reference or spec.reference
    return isinstance(given, ReferenceLearn) or (isinstance(given, ReferencePrevious) and given.bins is None)


def _support(monitors: Sequence[Monitor]) -> list[str]:
    """List the references that cannot support a verdict, not yet or not at all."""
    learned, unusable = [], []
    for monitor in monitors:
        for feature, info in zip(monitor.spec.features, monitor.features, strict=True):
            name = f"{monitor.spec.name}.{feature.name}"
            if _is_learned(monitor.spec, feature):
                learned.append(name)
            elif info.problem is not None:
                unusable.append(name)
    of_all = f"of {_counted(sum(len(monitor.features) for monitor in monitors), 'reference')}"
    lines = []
    if learned:
        lines.append(
            f"{len(learned):,} {of_all} learned from the stream, undecided until then: {listed(learned, NAMED)}"
        )
    if unusable:
        lines.append(f"{len(unusable):,} {of_all} cannot support a verdict: {listed(unusable, NAMED)}")
    return lines


def _without_alarm(monitors: Sequence[Monitor]) -> list[str]:
    """Warn of the references that can show no drift with certainty, or none as small as the critical tolerance."""
    never: list[str] = []
    late: list[str] = []
    for monitor in monitors:
        for info in monitor.features:
            smallest = smallest_at(info, inf, monitor.spec.confidence, len(monitor.spec.windows))
            if smallest is None:
                continue
            name = f"{monitor.spec.name}.{info.name}"
            warns, _ = smallest
            if isinf(warns.nats):
                never.append(name)
            elif warns.nats > info.critical:
                late.append(f"{name} (from {warns.nats:.2g} nats on)")
    found = []
    if never:
        found.append(
            f"{_counted(len(never), 'feature')} cannot alarm: {listed(never, NAMED)}. However large a window, no shift"
            " of the values is certain, because the rows of the reference depend on each other; use a longer reference"
        )
    if late:
        found.append(
            f"{_counted(len(late), 'feature')} cannot show a drift as small as the critical tolerance, however large a"
            f" window: {listed(late, NAMED)}; use a longer reference"
        )
    return found


def _smallest(spec: MonitorSpec, info: FeatureInfo, rate: float | None) -> tuple[str, str]:
    """Say from which drift on a feature warns and is critical: in any window, and in each at this rate."""
    windows = [("", inf)]
    if rate:
        windows = [("any ", inf), *((f"{w.name} ", rate * w.duration_ms / 1000) for w in spec.windows)]
    warns: list[str] = []
    critical: list[str] = []
    for name, rows in windows:
        smallest = smallest_at(info, rows, spec.confidence, len(spec.windows))
        if smallest is not None:
            warns.append(name + _drift(smallest[0]))
            critical.append(name + _drift(smallest[1]))
        elif not isinf(rows) and info.problem is None and info.spread is not None:
            warns.append(f"{name}undecided: {rows:,.0f} rows")
    return "\n".join(warns), "\n".join(critical)


def _drift(drift: SmallestDrift) -> str:
    if isinf(drift.nats):
        return "never"
    return f"{drift.nats:.2g}" if isnan(drift.sigma) else f"{drift.nats:.2g} ({drift.sigma:.2g} σ)"


def _print_plan(monitor: Monitor, rate: float | None, out: Console) -> None:
    spec = monitor.spec
    table = Table(title=Text(_title(spec)), title_justify="left")
    for heading in ("feature", "kind"):
        table.add_column(heading)
    table.add_column("bins", justify="right")
    table.add_column("reference", overflow="fold")
    table.add_column("rows", justify="right")
    for heading in ("bins hash", "warning", "warns from", "critical", "critical from", "note"):
        table.add_column(heading, overflow="fold")
    for feature, info in zip(spec.features, monitor.features, strict=True):
        learned = _is_learned(spec, feature)
        warns, critical = ("", "") if learned else _smallest(spec, info, rate)
        table.add_row(
            Text(info.name),
            info.kind,
            _bins(feature, info, learned),
            Text(_reference(info)),
            _rows(info, learned),
            info.bins_hash,
            f"{info.warning:g}",
            Text(warns),
            f"{info.critical:g}",
            Text(critical),
            Text("; ".join([info.problem] if info.problem is not None else info.limits), style="yellow"),
        )
    out.print(table)


def _title(spec: MonitorSpec) -> str:
    """Describe the settings of a monitor as a whole."""
    when = "arrival time" if spec.timestamp is None else f"the field {spec.timestamp.field} ({spec.timestamp.unit})"
    correction = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}[spec.correction]
    parts = [
        f"windows {', '.join(window.name for window in spec.windows)} by {when}",
        f"smoothing {spec.smoothing.name}",
        f"estimator {spec.estimator}",
        f"confidence {100 * spec.confidence:.6g} %",
        f"verdicts by {correction}",
    ]
    if spec.segments is not None:
        parts.append(f"segments by {spec.segments.by}, at most {spec.segments.limit:,} and other")
    return f"{spec.name}: {', '.join(parts)}"


def _bins(feature: FeatureSpec, info: FeatureInfo, learned: bool) -> str:
    if feature.dimensions:
        return f"{feature.dimensions:,} dim"
    return "pending" if learned else f"{len(info.cells) - STRUCTURAL_CELLS:,}"


def _reference(info: FeatureInfo) -> str:
    """Describe the origin of a reference, with the parameters of a family."""
    parameters = ", ".join(f"{name} {value:.4g}" for name, value in info.parameters[:NAMED])
    return f"{info.reference_text}: {parameters}" if parameters else info.reference_text


def _rows(info: FeatureInfo, learned: bool) -> str:
    if learned:
        return "pending"
    if isnan(info.reference_rows):  # a reference that moves is counted at each evaluation
        return ""
    return "exact" if isinf(info.reference_rows) else f"{info.reference_rows:,.0f}"
