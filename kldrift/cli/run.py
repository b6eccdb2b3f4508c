"""``kldrift run``."""

from pathlib import Path

import typer
from rich.console import Console

from kldrift.cli.tables import console, print_snapshot
from kldrift.config.load import load_config
from kldrift.daemon.daemon import serve
from kldrift.daemon.parts import run_once
from kldrift.export.logs import configure_logging
from kldrift.export.telemetry import Telemetry


def run_command(path: Path, once: bool) -> None:
    """Run the daemon, or one pass over the sources."""
    config = load_config(path)
    configure_logging(config.log.format, "warning" if once and config.log.level == "info" else config.log.level)
    telemetry = Telemetry()
    for warning in config.warnings:
        telemetry.config_warning(warning)
    if not once:
        serve(config, path, telemetry)
        return
    err = Console(stderr=True)
    with err.status("reading the sources"):  # shows on a terminal only
        snapshot, rows, seconds, failures = run_once(config, telemetry)
    out = console()
    print_snapshot(snapshot, out)
    out.print(f"{rows:,} rows in {seconds:.3f} s", highlight=False)
    for failure in failures:
        err.print(str(failure), markup=False, highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)
