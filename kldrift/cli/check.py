"""``kldrift check``."""

from math import isinf
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kldrift.build import build_monitors
from kldrift.cli.tables import console
from kldrift.config import load_config
from kldrift.drift.monitor import Monitor
from kldrift.drift.windows import SLICES, pane_ms
from kldrift.export.metrics import MAX_SERIES
from kldrift.intake import now_ms


def check_command(path: Path) -> None:
    """Print the resolved plan: sources, features, bins, memory, series."""
    config = load_config(path)
    err = Console(stderr=True)
    warnings = list(config.warnings)
    with err.status("counting references"):  # shows on a terminal only
        monitors = build_monitors(config.monitors, now_ms(), warnings.append)
    out = console()
    out.print(
        f"listens on {config.server.listen_host}:{config.server.listen_port},"
        f" computes divergences every {config.engine.tick_ms / 1000:g} s",
        highlight=False,
    )
    for source in config.sources:
        feeds = [m.name for m in config.monitors if source.name in m.sources]
        out.print(f"source {source.name} feeds {', '.join(feeds) or 'nothing'}", highlight=False, markup=False)
    for monitor in monitors:
        _print_plan(monitor, out)
    series = sum(n_series(monitor) for monitor in monitors)
    if series > MAX_SERIES:
        warnings.append(
            f"{series:,} series are more than the {MAX_SERIES:,} that a scrape carries: some divergences will be left"
            " out of it; watch fewer features, windows or divergences"
        )
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
    """Series that the monitor exports once its windows are full, one timestamp among them.

    A window: each divergence, two bounds, p-value, noise floor, samples, ready, missing, and unseen or out of range. A
    feature: two thresholds, and of its reference the identity, the age, the rows and the missing share.
    """
    return len(monitor.features) * (len(monitor.spec.windows) * (len(monitor.spec.divergences) + 8) + 6) + 1


def n_bytes(monitor: Monitor) -> int:
    """Memory of the counts: a ring for each window, and the panes that are open within the allowed lateness."""
    open_panes = monitor.spec.allowed_lateness_ms // pane_ms(monitor.spec.windows) + 2
    return 8 * monitor.n_cells * (SLICES * len(monitor.spec.windows) + open_panes)


def _print_plan(monitor: Monitor, out: Console) -> None:
    spec = monitor.spec
    when = "arrival time" if spec.timestamp is None else f"the field {spec.timestamp.field} ({spec.timestamp.unit})"
    windows = ", ".join(window.name for window in spec.windows)
    table = Table(
        title=f"{spec.name}: windows {windows} by {when}, smoothing {spec.smoothing.name}",
        title_justify="left",
    )
    for heading, justify in (("feature", "left"), ("kind", "left"), ("bins", "right"), ("reference rows", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # the two words are those it takes
    for heading in ("bins hash", "warning", "critical", "note"):
        table.add_column(heading, overflow="fold")
    for info in monitor.features:
        table.add_row(
            Text(info.name),
            info.kind,
            str(len(info.cells) - 3),
            "exact" if isinf(info.reference_rows) else f"{info.reference_rows:,.0f}",
            info.bins_hash,
            f"{info.warning:g}",
            f"{info.critical:g}",
            Text(info.problem or "", style="yellow"),
        )
    out.print(table)
