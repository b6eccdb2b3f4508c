"""The starting configuration as YAML with comments, safe to load whatever names and values it contains."""

import math
import re
from dataclasses import dataclass

from kldrift.offline.init.kinds import QUANTILE_BINS, Guess, named
from kldrift.offline.init.proposal import Plan
from kldrift.records.specs import FeatureSpec

#: The loader accepts 1 MiB; features that do not fit are left out.
MAX_BYTES = 1_000_000
#: Left-out columns that are named; the rest are counted.
NAMED = 40
#: Column in which comments begin, unless the line is longer.
COMMENT_COLUMN = 44

_PLAIN = re.compile(r"(\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
#: Words that some YAML parser does not take as text.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True, slots=True)
class Place:
    """Names and paths to write into the file.

    Parameters
    ----------
    command : the command that wrote the file, for its first line
    monitor : its name
    data : path of the data, relative to the file
    live : path or pattern of the live files, relative to the file, and their format; None if rows are pushed
    """

    command: str
    monitor: str
    data: str
    live: tuple[str, str] | None = None


def write_document(plan: Plan, place: Place) -> tuple[str, int]:
    """Write the file; return its text and the number of features in it, as very many may not fit."""
    head = [*_opening(plan, place), *_monitor(plan, place), "    features:"]
    tail = _left_out(plan)
    room = MAX_BYTES - sum(len(line.encode()) + 1 for line in (*head, *tail))
    features: list[str] = []
    for guess in plan.features:
        line = _feature(guess)
        room -= len(line.encode()) + 1
        if room < 0:
            features.append(f"      # and {len(plan.features) - len(features):,} more, which the file has no room for")
            return "\n".join([*head, *features, *tail, ""]), len(features) - 1
        features.append(line)
    return "\n".join([*head, *features, *tail, ""]), len(features)


def scalar(text: str) -> str:
    """Write a text as YAML, without quotes if it cannot be read as anything else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def value(text: str) -> str:
    """Write a text as the value of a key, in which ``$`` would begin the name of a variable."""
    return scalar(text.replace("$", "$$"))


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable() and char != "\ufffe":
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _opening(plan: Plan, place: Place) -> list[str]:
    sample = plan.sample
    looked = f"{sample.n_rows:,} rows"
    if sample.n_looked < sample.n_rows:
        looked = f"{sample.n_looked:,} of {sample.n_rows:,} rows, in stretches from all over the file"
    columns = f"{len(sample.columns):,} column{'' if len(sample.columns) == 1 else 's'}"
    lines = [
        f"# Written by `{_comment(place.command)}`.",
        "# Every guess has its reason beside it; change what you know better.",
        f"# Looked at: {_comment(sample.path.name)}, {looked}, {columns}.",
        *(f"# Note: {_comment(note)}" for note in plan.notes),
        "",
        _noted("state: none", "a restart starts over; {path: kldrift-state.db} keeps the counts"),
    ]
    if place.live is not None:
        path, data_format = place.live
        lines += [
            "sources:",
            _noted(
                f"  live: {{type: file, path: {value(path)}, format: {data_format}, follow: true}}",
                "waits for new rows; they can be pushed as well",
            ),
        ]
    return lines


def _monitor(plan: Plan, place: Place) -> list[str]:
    lines = ["monitors:", f"  {scalar(place.monitor)}:"]
    if place.live is not None:
        lines.append("    sources: [live]")
    if plan.timestamp is not None:
        name, unit = plan.timestamp
        lines.append(_noted(f"    timestamp: {{field: {value(name)}, unit: {unit}}}", plan.timestamp_why))
        lines.append(_noted(f"    allowed_lateness: {plan.lateness}", plan.lateness_why))
    else:
        lines.append(f"    # timestamp: {_comment(plan.timestamp_why)}")
    return [
        *lines,
        _noted(f"    windows: [{', '.join(plan.windows)}]", plan.windows_why),
        _noted(
            f"    reference: {{data: {value(place.data)}}}", "what live rows are compared with: rows from a normal time"
        ),
        _noted(f"    divergences: [{', '.join(plan.divergences)}]", plan.divergences_why),
        _noted("    drift: {warning: 0.01, critical: 0.1}", "tolerances in nats: a mean shifted by 0.14 σ, by 0.45 σ"),
    ]


def _feature(guess: Guess) -> str:
    assert guess.feature is not None, "what is left out is not a feature"
    return _noted(f"      {scalar(guess.name)}: {{{feature_keys(guess.feature)}}}", guess.why)


def feature_keys(feature: FeatureSpec) -> str:
    """Write what differs from the defaults of a feature as the keys of a mapping."""
    keys = [f"kind: {feature.kind}"]
    if feature.bins.edges is not None:
        edges = (repr(edge) if math.isfinite(edge) else "-.inf" if edge < 0 else ".inf" for edge in feature.bins.edges)
        keys.append(f"bins: {{edges: [{', '.join(edges)}]}}")
    elif feature.bins != QUANTILE_BINS:
        keys.append(f"bins: {{method: {feature.bins.method}}}")
    if feature.dimensions:
        keys.append(f"dimensions: {feature.dimensions}")
    return ", ".join(keys)


def _left_out(plan: Plan) -> list[str]:
    time = None if plan.timestamp is None else plan.timestamp[0]
    left_out = [guess for guess in plan.left_out if guess.name != time]
    if not left_out:
        return []
    lines = ["", "    # Left out:"]
    lines += [f"    #   {named(guess.name)}: {_comment(guess.why)}" for guess in left_out[:NAMED]]
    more = len(left_out) - NAMED
    return [*lines, f"    #   and {more:,} more"] if more > 0 else lines


def _noted(line: str, comment: str) -> str:
    return f"{line.ljust(COMMENT_COLUMN)}  # {_comment(comment)}" if comment else line


def _comment(text: str) -> str:
    """Make a text safe for a comment: it cannot end it, nor contain what YAML forbids."""
    return "".join(char if char.isprintable() and char != "\ufffe" else " " for char in text)
