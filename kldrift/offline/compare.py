"""Compare two files: a reference, and live data in a single window, counted and evaluated as in the daemon."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kldrift.assembly.references import reference_from_data
from kldrift.datafiles.columns import NOTHING
from kldrift.datafiles.pieces import pieces
from kldrift.datafiles.sample import Sample, column_names, read_head, read_sample
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import DataFileProblem, ReferenceProblem
from kldrift.kernels.compilation import thread_count, warm_up
from kldrift.offline.init.kinds import guess_feature
from kldrift.records.kinds import KINDS
from kldrift.records.samples import MAX_CHUNK_NUMBERS
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.texts import listed

#: The only window; all rows arrive at the same instant, so it holds all of them whatever its length.
WINDOW = WindowSpec("all", 3_600_000)

#: Features per thread when references are counted: one group is sorted while the next is read.
FEATURES_AT_A_TIME = 25


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing two files.

    Parameters
    ----------
    monitor : the divergences, in one window
    reference, live : the files
    rows : rows of the live file that were counted
    left_out : why a column was not compared, by its name
    notes : what else was left out (rows), values that count as invalid, and what is odd about the files
    """

    monitor: MonitorSnapshot
    reference: Path
    live: Path
    rows: int
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def compare_files(reference: Path, live: Path, given: MonitorSpec | None = None, *, now_ms: int) -> Comparison:
    """Compute the divergence of the data in one file from those in another.

    Parameters
    ----------
    reference, live : Parquet, CSV or NDJSON, the last two also compressed
    given : the features, bins, tolerances and settings of a monitor; None: every column that both files have, with the
        kinds and bins that `init` would give them
    now_ms : the time of the comparison

    Raises
    ------
    ReferenceProblem
        a file cannot be read or has no rows, or the two have nothing in common that could be compared
    """
    notes: list[str] = []
    if given is None:
        samples = (read_sample(reference), read_head(live))
        picked, left_out = _pick(*samples, notes.append)
        there = [[f"{column.name} ({column.holds.words})" for column in sample.columns] for sample in samples]
    else:
        there = [column_names(reference), column_names(live)]
        picked, left_out = _pick_given(there[0], there[1], given)
    if not picked:
        raise ReferenceProblem(
            f"expected columns that can be compared, found none: {reference} has {listed(there[0])};"
            f" {live} has {listed(there[1])}"
            + ("" if given is None else f"; the monitor has {listed(f.name for f in given.features)}")
        )
    warm_up()
    references, problems = _references(reference, picked, now_ms, notes.append, strict=given is not None)
    left_out |= problems
    if not references:
        raise ReferenceProblem("\n".join(f"{reference}: {name}: {why}" for name, why in problems.items()))
    features = tuple(feature for feature in picked if feature.name not in problems)
    monitor = Monitor(_spec(given, features), references)
    rows = _count(live, monitor, now_ms, notes.append)
    return Comparison(monitor.evaluate(now_ms), reference, live, rows, left_out, tuple(notes))


# --- which columns ---------------------------------------------------------------------------------


def _pick(reference: Sample, live: Sample, notice: Callable[[str], None]) -> tuple[list[FeatureSpec], dict[str, str]]:
    """Return the features to compare, as `init` would watch them, and why each other column is left out."""
    for which, sample in (("reference", reference), ("live data", live)):
        for note in sample.notes:
            notice(f"{which} {sample.path.name}: {note}")
    ours, theirs = ({column.name: column for column in sample.columns} for sample in (reference, live))
    scale = reference.n_rows / reference.n_looked
    picked: list[FeatureSpec] = []
    left_out: dict[str, str] = {}
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in ours or name not in theirs:
            left_out[name] = f"only in the {'reference' if name in ours else 'live data'}"
            continue
        a, b = ours[name].holds, theirs[name].holds
        if a == NOTHING:
            left_out[name] = "no values in the reference"
            continue
        # Live values that are all missing are a drift like any other.
        one = a if b == NOTHING else b
        if a.kind is None or (a.kind, a.dimensions) != (one.kind, one.dimensions):
            left_out[name] = a.words if a == b else f"{a.words} in the reference, {b.words} in the live data"
            continue
        # What `init` would not watch, such as a constant or an identifier, is compared all the same.
        guess = guess_feature(ours[name], scale, theirs[name])
        picked.append(guess.feature or FeatureSpec(name, a.kind, dimensions=a.dimensions))
    return picked, left_out


def _pick_given(
    reference: Sequence[str], live: Sequence[str], given: MonitorSpec
) -> tuple[list[FeatureSpec], dict[str, str]]:
    """Return the features of the monitor, whatever the columns hold: a value of another type counts as invalid."""
    left_out = {}
    picked = []
    for feature in given.features:
        missing = [which for which, names in (("reference", reference), ("live data", live))
                   if feature.name not in names]  # fmt: skip
        if against := KINDS[feature.kind].always_against:
            left_out[feature.name] = f"a {feature.kind} is compared with {against}, not with a file"
        elif missing:
            left_out[feature.name] = f"not in the {' nor in the '.join(missing)}"
        else:
            picked.append(replace(feature, reference=None))
    return picked, left_out


def _spec(given: MonitorSpec | None, features: tuple[FeatureSpec, ...]) -> MonitorSpec:
    """Return the monitor with these features and the one window; the times of rows are ignored."""
    if given is None:
        return MonitorSpec("compare", features, (WINDOW,))
    return replace(given, features=features, windows=(WINDOW,), timestamp=None, segments=None, reference=None)


# --- the reference ---------------------------------------------------------------------------------


def _references(
    path: Path, features: Sequence[FeatureSpec], now_ms: int, notice: Callable[[str], None], *, strict: bool
) -> tuple[list[FeatureReference], dict[str, str]]:
    """Make the references of the features that can have one, in order, and say why the others cannot."""
    groups = [features[i : i + FEATURES_AT_A_TIME] for i in range(0, len(features), FEATURES_AT_A_TIME)]
    references: list[FeatureReference] = []
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, thread_count())) as pool:
        for made, missing in pool.map(lambda group: _group(path, group, now_ms, notice, strict=strict), groups):
            references += made
            problems |= missing
    return references, problems


def _group(
    path: Path, features: Sequence[FeatureSpec], now_ms: int, notice: Callable[[str], None], *, strict: bool
) -> tuple[Sequence[FeatureReference], dict[str, str]]:
    problems: dict[str, str] = {}
    while left := [feature for feature in features if feature.name not in problems]:
        try:
            return reference_from_data(path, left, now_ms, notice)[0], problems
        except ReferenceProblem as problem:
            # One line for each feature; a line without one is about the file.
            of_features = {
                feature.name: line.removeprefix(f"{feature.name}: ")
                for line in (line.removeprefix(f"{path}: ") for line in str(problem).splitlines())
                for feature in left
                if line.startswith(f"{feature.name}: ")
            }
            if strict or not of_features:
                raise
            problems |= of_features
    return (), problems


# --- the live data ---------------------------------------------------------------------------------


def _count(path: Path, monitor: Monitor, now_ms: int, notice: Callable[[str], None]) -> int:
    """Count all rows of a file, and return how many there were."""
    rejected: Counter[str] = Counter()
    invalid = np.zeros(len(monitor.feature_names), dtype=np.int64)
    rows = 0
    # Ranges far larger than those of a stream: each costs the decoding of what is before it in its row group.
    step = max(1, MAX_CHUNK_NUMBERS // max(1, monitor.schema.row_numbers))
    for decoded in pieces(path, monitor.schema, rows_at_a_time=step, threads=max(1, thread_count())):
        for body in decoded.bodies:
            rejected.update(body.rejected)
        added = monitor.add(decoded.batch, str(path), now_ms)
        rows += added.counted
        invalid += added.invalid
    if rows == 0:
        raise DataFileProblem(f"{path}: expected rows of data, got none that could be read")
    _report(path, rejected, dict(zip(monitor.feature_names, invalid.tolist(), strict=True)), notice)
    return rows


def _report(path: Path, rejected: Mapping[str, int], invalid: Mapping[str, int], notice: Callable[[str], None]) -> None:
    if rejected:
        reasons = ", ".join(f"{n:,} {word}" for word, n in sorted(rejected.items()))
        n = sum(rejected.values())
        notice(f"live data {path.name}: {n:,} row{'' if n == 1 else 's'} could not be read, left out: {reasons}")
    wrong = {name: n for name, n in invalid.items() if n}
    if wrong:
        named = listed(f"{name} ({n:,})" for name, n in wrong.items())
        notice(f"live data {path.name}: values of the wrong type, counted as invalid: {named}")
