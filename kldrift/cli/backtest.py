"""``kldrift backtest``."""

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kldrift import __version__
from kldrift.cli.compare import pick_monitor, print_report_path, refuse_two_outputs, write_report
from kldrift.cli.output import messages
from kldrift.cli.tables import STYLES
from kldrift.config.load import load_config
from kldrift.config.records import Config
from kldrift.config.values import milliseconds
from kldrift.errors import ConfigError
from kldrift.offline.backtest.outcome import FeatureResult, Outcome, Rung, Target, length_text
from kldrift.offline.backtest.proposal import parse_target
from kldrift.offline.backtest.replay import default_step_ms
from kldrift.offline.backtest.rows import Span
from kldrift.offline.backtest.run import Progress as Told
from kldrift.offline.backtest.run import run_backtest
from kldrift.pages.templating import instant, share
from kldrift.records.specs import MonitorSpec, TimestampSpec
from kldrift.records.texts import duration_text
from kldrift.records.types import TimeUnit
from kldrift.wire.timestamps import time_from_text

#: Features and alarms that a terminal shows; the rest are counted.
SHOWN = 20

#: Narrower terminals do without some columns.
_WIDE = 110

_SHORTEST_STEP_MS = 100
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options ask for."""

    target: str
    every: str | None = None
    first: str | None = None
    before: str | None = None
    timestamp: str | None = None


def backtest_command(
    data: Sequence[Path], config_path: Path, monitor: str | None, asked: Asked, html: Path | None, as_json: bool
) -> None:
    """Replay the history and report in the requested ways."""
    refuse_two_outputs(html, as_json)
    config = load_config(config_path)
    spec = _with_timestamp(pick_monitor(config.monitors, monitor, config_path), asked.timestamp, config_path)
    target, span = _target(asked.target), _span(asked.first, asked.before)
    every_ms = _step_ms(asked.every, spec, config)
    with _progress() as told:
        outcome, played = run_backtest(spec, data, target, every_ms, span, time.time_ns() // 1_000_000, told)
    if html is not None:
        from kldrift.pages.backtest_report import backtest_report

        words, snippet = proposal_words(outcome), yaml_lines(outcome)
        write_report(html, backtest_report(outcome, played.tracks[None], words, snippet, __version__))
    if as_json:
        print(json.dumps(backtest_json(outcome), ensure_ascii=False, allow_nan=False))  # noqa: T201
        return
    _print(outcome, messages(html))
    print_report_path(html)


# --- options ------------------------------------------------------------------------------------------


def _with_timestamp(spec: MonitorSpec, given: str | None, config: Path) -> MonitorSpec:
    """Return the monitor with its event times as configured, or as given by ``FIELD`` or ``FIELD:UNIT``."""
    if given is not None:
        field, _, unit = given.rpartition(":")
        known: tuple[TimeUnit, ...] = get_args(TimeUnit)
        for name in known:
            if unit == name and field:
                return replace(spec, timestamp=TimestampSpec(field, name))
        old = "iso8601" if spec.timestamp is None else spec.timestamp.unit
        return replace(spec, timestamp=TimestampSpec(given, old))
    if spec.timestamp is None:
        problem = (
            f"{config}: monitors.{spec.name}: expected a timestamp, because rows are replayed by their own times,"
            " got none; add `timestamp: {field: ts, unit: iso8601}` or give --timestamp FIELD:UNIT"
        )
        raise ConfigError([problem])
    return spec


def _target(text: str) -> Target:
    found = parse_target(text)
    if found is None:
        raise ConfigError(
            [f"--target {text}: expected pages per day, week, month or year, such as 1/month or 0.5/week"]
        )
    return found


def _step_ms(text: str | None, spec: MonitorSpec, config: Config) -> int:
    if text is None:
        return default_step_ms(spec)
    if text == "tick":
        return config.engine.tick_ms
    found = milliseconds(text)
    if found is None or found < _SHORTEST_STEP_MS:
        raise ConfigError([f"--every {text}: expected a duration of 100ms or more such as 10m, or `tick`; write one"])
    return found


def _span(first: str | None, before: str | None) -> Span:
    span = Span(
        *(
            default if text is None else _instant(option, text)
            for option, text, default in (("--from", first, Span().start_ms), ("--to", before, Span().stop_ms))
        )
    )
    if span.start_ms >= span.stop_ms:
        raise ConfigError([f"--to {before}: expected a time after --from {first}; swap the two"])
    return span


def _instant(option: str, text: str) -> int:
    found = time_from_text(text)
    if found < 0:
        raise ConfigError(
            [f"{option} {text}: expected a date or time (ISO 8601, UTC without an offset); write it as 2026-01-31"]
        )
    return found


@contextmanager
def _progress() -> Iterator[Told]:
    """Show a progress bar on stderr if it is a terminal."""
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        begins = [0]

        def begin(first_ms: int, last_ms: int) -> None:
            begins[0] = first_ms
            bar.update(task, description="replaying", total=max(1, last_ms - first_ms))

        def reached(at_ms: int) -> None:
            bar.update(task, completed=at_ms - begins[0])

        yield Told(begin, reached)


# --- output -------------------------------------------------------------------------------------------


def backtest_json(outcome: Outcome) -> dict[str, Any]:
    """Return everything as JSON; unknown values are null."""
    found: dict[str, Any] = _without_nan(asdict(outcome))
    return found | {"weeks": outcome.weeks, "yaml": "\n".join(yaml_lines(outcome))}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def yaml_lines(outcome: Outcome) -> list[str]:
    """Write the proposal as configuration: one tolerance for all features except those that stand out."""
    proposal = outcome.proposal
    common = proposal.others or proposal.rung
    if common is None and not proposal.raised:
        return []
    lines = ["monitors:", f"  {_key(outcome.monitor)}:"]
    if common is not None:
        lines.append(f"    drift: {{warning: {common.tolerance:g}, critical: {proposal.critical:g}}}")
    own = [name for name in proposal.raised if common is None or name in proposal.standing]
    if own:
        lines += ["    features:  # add to what is there"]
        for name in own:
            warning, critical = proposal.raised[name]
            lines.append(f"      {_key(name)}: {{drift: {{warning: {warning:g}, critical: {critical:g}}}}}")
    return lines


def _key(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) and name not in ("null", "true", "false") else json.dumps(name)


def _print(outcome: Outcome, out: Console) -> None:
    def say(line: str) -> None:
        out.print(Text(line), soft_wrap=True)

    say(
        f"{outcome.monitor}: {_counted(outcome.rows, 'row')} of {', '.join(outcome.files)},"
        f" {_minute(outcome.first_ms)} to {_minute(outcome.last_ms)} UTC; {outcome.weeks:.4g} weeks in"
        f" {_counted(outcome.steps, 'step')} of {duration_text(outcome.every_ms)}"
    )
    out.print(_ladder_table(outcome))
    out.print(_feature_table(outcome, out.width))
    if len(outcome.features) > SHOWN:
        say(f"  and {len(outcome.features) - SHOWN:,} more features")
    if outcome.alarms:
        out.print(_alarm_table(outcome, out.width))
        if len(outcome.alarms) > SHOWN:
            say(f"  and {len(outcome.alarms) - SHOWN:,} more alarms; --html or --json has them all")
    else:
        say("no alarm at the configured tolerances")
    for line in [*proposal_words(outcome), *(f"note: {note}" for note in outcome.notes)]:
        say(line)
    if snippet := yaml_lines(outcome):
        say("\nproposed:\n" + "\n".join(f"  {line}" for line in snippet))


def _ladder_table(outcome: Outcome) -> Table:
    table = Table(title="What each tolerance would have done", title_justify="left")
    table.add_column("tolerance", justify="right", no_wrap=True)
    for heading in ("pages", "a week", "features\nwith alarms", "time with\nany alarm"):
        table.add_column(heading, justify="right")
    table.add_column("")
    proposed = outcome.proposal.rung
    for rung in outcome.ladder:
        table.add_row(
            "as configured" if rung.tolerance is None else f"{rung.tolerance:g}",
            f"{rung.pages:,}",
            f"{rung.per_week:.3g}",
            f"{rung.features} of {len(outcome.features)}",
            share(rung.in_alarm),
            Text(_mark(rung, proposed, outcome.target), style=STYLES.get(rung.configured, "bold")),
        )
    return table


def _mark(rung: Rung, proposed: Rung | None, target: Target) -> str:
    words = [rung.configured] if rung.configured else []
    if proposed is not None and rung.tolerance == proposed.tolerance:
        words.append(f"meets {target.text}")
    return ", ".join(words)


def ranked(outcome: Outcome) -> list[FeatureResult]:
    """Return features by their time in alarm, then by their largest bound."""
    return sorted(outcome.features, key=lambda f: (-f.in_alarm, -f.warnings, -_or_zero(f.largest)))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _feature_table(outcome: Outcome, width: int) -> Table:
    table = Table(
        title=f"Alarms of each feature; its own tolerance would keep it to 1/{len(outcome.features)} of the target",
        title_justify="left",
    )
    table.add_column("feature", overflow="fold")
    for heading in ("warning", "critical", "time in\nalarm", "un-\ndecided", "largest\nbound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("own\ntolerance", justify="right", no_wrap=True)
    by_window = width >= _WIDE and len(outcome.windows) > 1
    if by_window:
        table.add_column("warnings by window", no_wrap=True)
    for feature in ranked(outcome)[:SHOWN]:
        word = "critical" if feature.criticals else "warning" if feature.warnings else "quiet"
        cells: list[RenderableType] = [
            Text(feature.name, style=STYLES[word]),
            f"{feature.warnings:,}",
            f"{feature.criticals:,}",
            share(feature.in_alarm),
            share(feature.undecided),
            "–" if math.isnan(feature.largest) else f"{feature.largest:.4f}",
            "–" if feature.proposed is None else f"{feature.proposed:g}",
        ]
        if by_window:
            cells.append("  ".join(f"{series.window} {series.warnings}" for series in feature.series))
        table.add_row(*cells)
    return table


def _alarm_table(outcome: Outcome, width: int) -> Table:
    """Make the table of the first alarms; a narrow terminal does without columns that others imply."""
    segmented = any(alarm.segment is not None for alarm in outcome.alarms)
    table = Table(title="Alarms at the configured tolerances", title_justify="left")
    columns: dict[str, list[Text]] = {"feature": [], "segment": [], "window": [], "begin (UTC)": [], "end": []}
    columns |= {"lasted": [], "peak KL": [], "peak bound": [], "": []}
    for alarm in outcome.alarms[:SHOWN]:
        word = "critical" if alarm.critical else "warning"
        cells = (
            alarm.feature,
            alarm.segment or "",
            alarm.window,
            _minute(alarm.begin_ms + 1),
            "still on" if alarm.lasting else _minute(alarm.end_ms + 1),
            length_text(alarm.length_ms(outcome.every_ms)),
            f"{alarm.peak_kl:.4f}",
            f"{alarm.peak_lower:.4f}",
        )
        for column, cell in zip(columns.values(), (*map(Text, cells), Text(word, style=STYLES[word])), strict=True):
            column.append(cell)
    without = [] if segmented else ["segment"]
    if width < _WIDE:
        without += ["end", "peak KL", *(["lasted"] if segmented else [])]
    for heading in without:
        columns.pop(heading)
    for heading in columns:
        if heading in ("feature", "segment"):
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="left" if heading in ("window", "") else "right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def proposal_words(outcome: Outcome) -> list[str]:
    """Describe the proposal in sentences."""
    proposal, target = outcome.proposal, outcome.target
    if not outcome.decided:
        return ["No window was ever decided, so nothing can be proposed: use longer windows, fewer bins, or more rows."]
    lines = [f"The configured tolerances meet {target.text}."] if proposal.met else []
    if proposal.rung is None:
        lines.append(f"No single tolerance meets {target.text}.")
    else:
        lines.append(
            f"The smallest tolerance for all features that meets {target.text}: {proposal.rung.tolerance:g} nats"
            f" ({_counted(proposal.rung.pages, 'page')} in {outcome.weeks:.4g} weeks)."
        )
    if proposal.standing:
        named = ", ".join(proposal.standing[:SHOWN])
        more = f" and {len(proposal.standing) - SHOWN:,} more" if len(proposal.standing) > SHOWN else ""
        lines.append(
            f"In alarm for more than a quarter of the time: {named}{more}. That is a lasting change rather than noise:"
            " if it is the new normal, make a reference that has it; a tolerance that silences it sees little."
        )
        if proposal.others is not None:
            them = "it" if len(proposal.standing) == 1 else "them"
            lines.append(
                f"Without {them}: {proposal.others.tolerance:g} nats ({_counted(proposal.others.pages, 'page')})."
            )
    lines.append(
        "Real drift in the history makes the proposal larger than noise alone would, so look at the alarms first."
    )
    return lines


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _minute(ms: int) -> str:
    return instant(ms)[:-3]
