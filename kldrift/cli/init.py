"""``kldrift init``: a starting configuration from data."""

import glob
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from kldrift.cli.output import STDOUT, messages, shown, write_whole
from kldrift.config.load import parse_config
from kldrift.config.values import NAME
from kldrift.datafiles.sample import Sample, column_names, read_sample
from kldrift.errors import ConfigError, ReferenceProblem
from kldrift.export.drift_families import DRIFT_FAMILIES, SeriesShape
from kldrift.export.drift_metrics import MAX_SERIES
from kldrift.offline.init.document import Place, write_document
from kldrift.offline.init.kinds import named
from kldrift.offline.init.proposal import Plan, make_plan
from kldrift.records.formats import COMPRESSIONS, FORMATS, Format, format_of, stem_of
from kldrift.records.kinds import Kind
from kldrift.records.texts import listed

#: Left-out columns that a message names.
NAMED = 10
#: Default limits of a post, compressed and plain.
MAX_BODY, MAX_PLAIN = 16 << 20, 64 << 20
#: Longest row that is shown as a post.
MAX_SHOWN = 1500

#: Lines to post of a file that is too large for one post.
FIRST_ROWS = 1000

_PACKED = {".gz": ("gzip", "gzip -dc"), ".zst": ("zstd", "zstd -dc")}


def init_command(
    data: Path, output: Path, monitor: str | None, force: bool, live: str | None, targets: Sequence[str] = ()
) -> None:
    """Look at the data, write the file, and say what to do next."""
    name = _monitor_name(data) if monitor is None else monitor
    if not re.fullmatch(NAME, name) or name.endswith("\n"):
        raise ConfigError(
            [f"--monitor: expected at most 64 letters, digits, _, . and -, a letter or _ first, got {named(name)}"]
        )
    _refuse_output(output, force)
    err = Console(stderr=True)
    with err.status("looking at the data"):  # shows on a terminal only
        sample = read_sample(data)
        _require_columns(sample, targets)
        source, fields, notes = (None, None, []) if live is None else _live(live, output, sample.format)
        plan = make_plan(sample, _count_series, MAX_SERIES, fields, targets)
    if not plan.features:
        reasons = [f"{data}: {named(guess.name)}: {guess.why}" for guess in plan.left_out[:NAMED]]
        more = len(plan.left_out) - NAMED
        raise ReferenceProblem(
            "\n".join(
                [
                    f"{data}: expected a column to watch, got none of {len(plan.left_out):,}; nothing was written",
                    *reasons,
                ]
                + ([f"and {more:,} more"] if more > 0 else [])
            )
        )
    command = f"kldrift init {shlex.quote(str(data))}" + (f" --live {shlex.quote(live)}" if live else "")
    command += "".join(f" --target {shlex.quote(target)}" for target in targets)
    text, n_written = write_document(plan, Place(command, name, _relative(data, output), source))
    parse_config(text, output)  # what is written can be loaded
    write_whole(output, text, "configuration", replace=force)
    for note in (*plan.notes, *notes):
        err.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    _print_next(plan, output, name, n_written, source is not None)


def _require_columns(sample: Sample, targets: Sequence[str]) -> None:
    there = [column.name for column in sample.columns]
    problems = []
    for target in targets:
        if target not in there:
            near = get_close_matches(target, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {listed(there)}"
            problems.append(f"--target: expected a column of {sample.path}, got {target!r}; {hint}")
    if problems:
        raise ConfigError(problems)


def _count_series(kinds: Mapping[Kind, int], n_windows: int, divergences: Sequence[str]) -> int:
    shape = SeriesShape(Counter(kinds), n_windows, tuple(divergences), 0, segmented=False)
    return sum(family.n_series(shape) for family in DRIFT_FAMILIES) + 1


def _monitor_name(data: Path) -> str:
    """Make the name of a monitor from that of the file: letters, digits, _, . and -."""
    stem = re.sub(r"[_.-](reference|baseline|train(ing)?)$", "", stem_of(data), flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.-")[:64]
    if not stem:
        return "data"
    return stem if re.fullmatch(NAME, stem) else f"data_{stem}"[:64]


def _relative(path: Path, output: Path) -> str:
    """Return a path as the file at `output` must name it.

    Raises
    ------
    ConfigError
        it is not printable Unicode
    """
    folder = os.path.realpath(output.parent)
    relative = os.path.relpath(Path(os.path.realpath(path.parent)) / path.name, folder)
    try:
        relative.encode()
    except UnicodeEncodeError:
        relative = "\n"
    if not relative.isprintable():
        raise ConfigError([f"{str(path)!r}: expected a path of printable Unicode; rename it, or link to it"])
    return relative


# --- live files -----------------------------------------------------------------------------------


def _live(pattern: str, output: Path, data_format: Format) -> tuple[tuple[str, Format], list[str] | None, list[str]]:
    """Return path and format of the live files, the fields of the first one if any, and what is odd about them."""
    live_format = format_of(pattern)
    notes = []
    if live_format is None:
        live_format = data_format
        notes.append(f"--live {pattern}: its name tells no format: taken for {data_format}, as the data")
    path = Path(pattern)
    if path.is_dir():
        raise ConfigError([f"--live {pattern}: expected a file or a pattern, got a directory; give '{pattern}/*'"])
    is_one = path.is_file()
    found = [pattern] if is_one else sorted(glob.glob(pattern))  # noqa: PTH207  # Path.glob takes no absolute pattern
    relative = _relative(path, output)
    source = (glob.escape(relative) if is_one else relative, live_format)
    if not found:
        return source, None, [*notes, f"--live {pattern}: no such file yet: it is waited for"]
    try:
        return source, column_names(Path(found[0]), live_format), notes
    except ReferenceProblem as problem:
        return source, None, [*notes, f"--live: {problem}"]


# --- the file -------------------------------------------------------------------------------------


def _refuse_output(output: Path, force: bool) -> None:
    if output == STDOUT:
        return
    if output.is_dir():
        raise ConfigError([f"{output}: expected a file to write, got a directory; give -o {output}/kldrift.yaml"])
    if output.exists() and not force:
        raise ConfigError([f"{output}: expected to write a new file, it is there already; give -o FILE, or --force"])
    if not output.parent.is_dir():
        raise ConfigError([f"{output}: expected a folder to write to, {output.parent} is none; make it first"])


# --- what comes next ------------------------------------------------------------------------------


def _print_next(plan: Plan, output: Path, monitor: str, n_written: int, has_source: bool) -> None:
    out, file = messages(output), shlex.quote("kldrift.yaml" if output == STDOUT else str(output))
    kinds = Counter(str(guess.kind) for guess in plan.features[:n_written])
    listed = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    lines = [
        f"{shown(output)}: monitor {monitor} watches {n_written:,} of {_counted(len(plan.sample.columns))} ({listed})"
        " over windows of " + ", ".join(plan.windows),
        "",
        f"Read it, save it as {file}, then:" if output == STDOUT else "Read it, then:",
        f"  kldrift check -c {file}",
        f"  kldrift run -c {file}",
    ]
    url = f"http://127.0.0.1:9867/v1/monitors/{monitor}/samples"
    if has_source:
        lines += [f"  kldrift run --once -c {file}    # or: one pass over the live files, then a table"]
    else:
        lines += ["and while it runs, push rows:", f"  {_curl(plan, url)}"]
    lines.append("Then look at http://127.0.0.1:9867/")
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _counted(n_columns: int) -> str:
    return f"{n_columns:,} column{'' if n_columns == 1 else 's'}"


def _curl(plan: Plan, url: str) -> str:
    """Write a post that is answered 200: the data itself, the first rows of a large file, or a Parquet row as JSON."""
    sample = plan.sample
    media = next(iter(FORMATS[sample.format].media_types), None)
    if media is None:
        row = _row(plan)
        body = "--data-binary @live.ndjson" if row is None or len(row) > MAX_SHOWN else f"-d {shlex.quote(row)}"
        return f"curl -H 'Content-Type: application/x-ndjson' {body} {url}"
    packed = sample.path.suffix.lower() if sample.path.suffix.lower() in COMPRESSIONS else ""
    # the decompressed size is unknown: text compresses 4 to 1 or better
    if sample.path.stat().st_size <= (MAX_BODY // 4 if packed else MAX_PLAIN):
        encoding = f" -H 'Content-Encoding: {_PACKED[packed][0]}'" if packed else ""
        path = shlex.quote(f"@{sample.path}")
        return f"curl -H 'Content-Type: {media}'{encoding} --data-binary {path} {url}"
    path = shlex.quote(str(sample.path))
    rows = f"{_PACKED[packed][1]} {path} | head -n {FIRST_ROWS}" if packed else f"head -n {FIRST_ROWS} {path}"
    return f"{rows} | curl -H 'Content-Type: {media}' --data-binary @- {url}"


def _row(plan: Plan) -> str | None:
    """Return the watched fields of the first row as JSON."""
    wanted = {guess.name for guess in plan.features} | ({plan.timestamp[0]} if plan.timestamp else set())
    row: dict[str, Any] = {name: value for name, value in plan.sample.first.items() if name in wanted}
    try:
        text = orjson.dumps(row, default=_json).decode() if row else None
    except TypeError:
        return None
    # escape what a terminal may take for a command, or display right to left
    return text if text is None or text.isprintable() else json.dumps(json.loads(text))


def _json(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if hasattr(value, "__float__") else str(value)
