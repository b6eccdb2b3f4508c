"""``kldrift demo``: a daemon on a stream that drifts after a while, configured like any other."""

import asyncio
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kldrift.assembly.sources import build_source
from kldrift.cli.tables import console, drift_table
from kldrift.config.load import load_config
from kldrift.config.records import Config
from kldrift.config.values import milliseconds
from kldrift.daemon.daemon import Daemon
from kldrift.drift.judging.states import series_state
from kldrift.engine.observing import now_ms
from kldrift.errors import ConfigError
from kldrift.export.logs import configure_logging
from kldrift.export.telemetry import Telemetry
from kldrift.records.divergences import KL
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.sources import SyntheticSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.web.serve import new_event_loop

#: Rows of the reference, drawn from the distributions at the beginning of the stream.
REFERENCE_ROWS = 20_000

#: Time between two lines of output if there is no terminal to draw a table on.
LINES_MS = 5_000

CONFIG = """\
# Written by `kldrift demo`: a stream of synthetic loan requests and its reference.
server: {{listen: "127.0.0.1:{port}"}}
state: none
engine: {{tick: 2s}}
log: {{level: warning}}
sources:
  requests:
    type: synthetic
    rate: 500
    features:
      amount: {{distribution: lognormal, mean: 9.0, sigma: 0.6}}
      age: {{distribution: normal, mean: 41, std: 11, missing: 0.02}}
      defaults: {{distribution: poisson, rate: 0.4}}
      country: {{distribution: categorical, probabilities: {{de: 0.4, fr: 0.3, it: 0.2, es: 0.1}}}}
      score: {{distribution: normal, mean: 0, std: 1}}
    drift:
      after: {drift_after}
      features:
        amount: {{distribution: lognormal, mean: 9.4, sigma: 0.6}}
        country: {{distribution: categorical, probabilities: {{de: 0.3, fr: 0.25, it: 0.2, es: 0.1, pl: 0.15}}}}
        age: {{distribution: normal, mean: 41, std: 11, missing: 0.2}}
monitors:
  loans:
    sources: [requests]
    windows: [1m, 10m]
    reference: {{data: reference.ndjson}}
    divergences: [kl, js, psi]
    features:
      amount: {{kind: numeric}}
      age: {{kind: numeric}}
      defaults: {{kind: numeric, bins: {{method: discrete}}}}
      country: {{kind: categorical}}
      score: {{kind: numeric}}
"""


def demo_command(port: int, drift_after: str, duration: str | None) -> None:
    """Write a reference and a configuration to a temporary folder, run the daemon and show what it sees."""
    for given in (drift_after, duration):
        if given is not None and milliseconds(given) is None:
            raise ConfigError([f"demo: expected a duration such as 30s or 5m, got {given}"])
    lasts_ms = milliseconds(duration)
    seconds = None if lasts_ms is None else lasts_ms / 1000
    with tempfile.TemporaryDirectory(prefix="kldrift-demo-") as folder:
        path = Path(folder) / "kldrift.yaml"
        path.write_text(CONFIG.format(port=port, drift_after=drift_after))
        (Path(folder) / "reference.ndjson").touch()
        config = load_config(path)
        _write_reference(config, Path(folder) / "reference.ndjson")
        configure_logging(config.log.format, config.log.level)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(config, path, drift_after, seconds))


def _write_reference(config: Config, path: Path) -> None:
    stream = config.sources[0]
    assert isinstance(stream, SyntheticSourceConfig)
    quiet = replace(
        stream, rate_per_second=0, seed=stream.seed + 1, rows=REFERENCE_ROWS, drift_after_ms=None, drifted={}
    )
    source = build_source(quiet, Surroundings(clock_ms=now_ms, on_error=lambda *_: None))
    with path.open("wb") as file:
        for chunk in source.chunks({}, threading.Event()):
            if chunk is not None and isinstance(chunk.payload, bytes):
                file.write(chunk.payload)


async def _run(config: Config, path: Path, drift_after: str, seconds: float | None) -> None:
    daemon = Daemon(config, None, Telemetry())
    out = console()
    out.print(
        f"kldrift demo: 500 rows a second; after {drift_after} three of the five features drift\n"
        f"  pages          http://127.0.0.1:{daemon.port}/\n"
        f"  one feature    http://127.0.0.1:{daemon.port}/monitors/loans/feature?name=amount\n"
        f"  metrics        http://127.0.0.1:{daemon.port}/metrics\n"
        f"  API            http://127.0.0.1:{daemon.port}/api/v1/monitors/loans/features/amount?window=1m\n"
        f"  configuration  {path}\n"
        "Press Ctrl-C to stop.",
        highlight=False,
        markup=False,
    )
    running = asyncio.ensure_future(daemon.run())
    showing = asyncio.ensure_future(_show(daemon, out))
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, daemon.stop)
    try:
        await running
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


async def _show(daemon: Daemon, out: Console) -> None:
    """Show the table at each evaluation; without a terminal, print a line from time to time."""
    shown = 0
    with Live(console=out, auto_refresh=False, screen=False) if out.is_terminal else _Lines() as live:
        while True:
            await asyncio.sleep(0.5)
            snapshot = daemon.snapshot()
            if snapshot.evaluated_ms - shown < (1 if out.is_terminal else LINES_MS):
                continue
            monitor = next(iter(snapshot.monitors), None)
            if monitor is None or not monitor.samples.any():
                continue
            shown = snapshot.evaluated_ms
            if isinstance(live, Live):
                live.update(Group(drift_table(monitor, out.width), Text(_line(monitor))), refresh=True)
            else:
                out.print(_line(monitor), highlight=False, markup=False, soft_wrap=True)


class _Lines:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _line(monitor: MonitorSnapshot) -> str:
    words = []
    for feature, info in enumerate(monitor.features):
        kl = f"{monitor.divergences[0, feature, KL]:.4f} " if monitor.samples[0, feature] else ""
        words.append(f"{info.name} {kl}{series_state(monitor, 0, feature)}")
    return f"KL over {monitor.windows[0]}, {monitor.samples[0].max():,} rows: {' | '.join(words)}"
