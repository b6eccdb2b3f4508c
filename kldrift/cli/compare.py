"""``kldrift compare``. What only some outputs need is imported late: start-up takes half of the time."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from kldrift import __version__
from kldrift.cli.output import STDOUT, messages, write_whole
from kldrift.cli.tables import drift_table, feature_lines, verdict_line
from kldrift.config.load import load_config
from kldrift.drift.judging.states import feature_states
from kldrift.errors import ConfigError
from kldrift.offline.compare import Comparison, compare_files
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import SEVERITIES, Severity

#: Exit code if something drifts and `--fail-on` is given.
DRIFT = 3

#: What a column without a name is called, such as the index that pandas writes.
NAMELESS = '""'

#: Changed or left-out columns that a terminal shows; the rest are counted.
SHOWN = 20


def compare_command(
    reference: Path,
    live: Path,
    config: Path | None,
    monitor: str | None,
    html: Path | None,
    as_json: bool,
    fail_on: Severity | None,
    ignored: Sequence[str],
) -> None:
    """Compare, report in the requested ways, and fail if requested."""
    refuse_two_outputs(html, as_json)
    given = _given(config, monitor)
    err = Console(stderr=True)
    with err.status(f"comparing {live.name} with {reference.name}"):  # shows on a terminal only
        comparison = compare_files(reference, live, given, now_ms=time.time_ns() // 1_000_000, ignored=ignored)
    if html is not None:
        write_report(html, _report(comparison))
    if as_json:
        print(json.dumps(comparison_json(comparison)))  # noqa: T201
    else:
        _print(comparison, messages(html))
        print_report_path(html)
    if fail_on is not None and comparison.drifts(fail_on):
        raise typer.Exit(DRIFT)


def _given(config: Path | None, monitor: str | None) -> MonitorSpec | None:
    """Return the requested monitor; by default the only one of the configuration."""
    if config is None:
        if monitor is not None:
            raise ConfigError([f"-m {monitor}: expected a configuration as well, got none; add -c FILE"])
        return None
    return pick_monitor(load_config(config).monitors, monitor, config)


def pick_monitor(specs: Sequence[MonitorSpec], monitor: str | None, config: Path) -> MonitorSpec:
    """Return the monitor of this name; by default the only one of the configuration."""
    if monitor is None and len(specs) == 1:
        return specs[0]
    found = next((spec for spec in specs if spec.name == monitor), None)
    if found is None:
        known = ", ".join(spec.name for spec in specs)
        raise ConfigError([f"-m {monitor or 'MONITOR'}: expected a monitor of {config}, which has {known}"])
    return found


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything as JSON, with the monitor and features in the shapes of the HTTP API."""
    from kldrift.web.drift_json import feature_json, monitor_json

    monitor = comparison.monitor
    return {
        "reference": _shown(str(comparison.reference)),
        "live": _shown(str(comparison.live)),
        "rows": comparison.rows,
        "drift": {"warning": comparison.drifts("warning"), "critical": comparison.drifts("critical")},
        "changed": {name: asdict(change) for name, change in comparison.changed.items()},
        "verdicts": dict(zip((info.name for info in monitor.features), feature_states(monitor), strict=True)),
        "left_out": dict(comparison.left_out),
        "notes": comparison.notes,
        "monitor": monitor_json(monitor),
        "features": [feature_json(monitor, f, 0) for f in range(len(monitor.features))],
    }


def _print(comparison: Comparison, out: Console) -> None:
    monitor = comparison.monitor
    table = drift_table(monitor, out.width)
    rows = f"{comparison.rows:,} row{'' if comparison.rows == 1 else 's'}"
    live, reference = _shown(comparison.live.name), _shown(comparison.reference.name)
    table.title = Text(f"{live} ({rows}) against {reference}: divergence in nats")
    changed = [f"  {name or NAMELESS}: {change.why} ({change.severity})" for name, change in comparison.changed.items()]
    if changed:
        _print_lines(["changed columns:", *_first(changed)], out)
    out.print(table)
    by_severity = {word: [n for n, c in comparison.changed.items() if c.severity == word] for word in SEVERITIES}
    lines = [verdict_line(monitor, by_severity), *feature_lines(monitor)]
    left_out = [f"  {name or NAMELESS}: {why}" for name, why in comparison.left_out.items()]
    if left_out:
        lines += ["not compared:", *_first(left_out)]
    _print_lines([*lines, *comparison.notes], out)


def _first(lines: list[str]) -> list[str]:
    return lines[:SHOWN] + ([f"  and {len(lines) - SHOWN:,} more columns"] if len(lines) > SHOWN else [])


def _print_lines(lines: list[str], out: Console) -> None:
    for line in lines:
        out.print(Text(_shown(line)), soft_wrap=True)


def _shown(name: str) -> str:
    """Return a path as printable text, whatever its bytes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _report(comparison: Comparison) -> str:
    from kldrift.pages.report import comparison_report

    return comparison_report(
        comparison.monitor,
        _shown(comparison.reference.name),
        _shown(comparison.live.name),
        comparison.rows,
        {name: (change.severity, change.why) for name, change in comparison.changed.items()},
        comparison.left_out,
        comparison.notes,
        __version__,
    )


def refuse_two_outputs(html: Path | None, as_json: bool) -> None:
    """Refuse a report and JSON that would both go to standard output.

    Raises
    ------
    ConfigError
        they would
    """
    if html == STDOUT and as_json:
        raise ConfigError(
            ["--html -: expected a file beside --json, because both would go to standard output; give --html FILE"]
        )


def write_report(path: Path, text: str) -> None:
    """Write an HTML report.

    Raises
    ------
    ConfigError
        the file cannot be written; an existing one is left as it was
    """
    write_whole(path, text, "report", "--html")


def print_report_path(path: Path | None) -> None:
    """Say where a report is."""
    if path is not None and path != STDOUT:
        Console(stderr=True).print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
