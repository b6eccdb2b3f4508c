"""Compare two files: a reference, and live data in a single window, counted and evaluated as in the daemon."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from kldrift.assembly.references import reference_from_data
from kldrift.datafiles.pieces import pieces
from kldrift.datafiles.sample import column_names, names_every_column, read_live_sample, read_sample, unreadable_columns
from kldrift.drift.judging.constants import lower_bound
from kldrift.drift.judging.spelling import same_but_for_spelling, spelling_hint
from kldrift.drift.judging.states import feature_states, severity
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import DataFileProblem, ReferenceProblem
from kldrift.kernels.compilation import thread_count, warm_up
from kldrift.offline.matching import Constant, Matched, is_of_one, match_columns, match_features
from kldrift.records.samples import MAX_CHUNK_NUMBERS
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.texts import listed
from kldrift.records.types import Severity

#: The only window; all rows arrive at the same instant, so it holds all of them whatever its length.
WINDOW = WindowSpec("all", 3_600_000)

#: Features per thread when references are counted: one group is sorted while the next is read.
FEATURES_AT_A_TIME = 25

#: Columns whose reason an error gives where nothing can be compared.
REASONS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a column of the reference that can be said without a divergence.

    Parameters
    ----------
    why : in words, to follow its name
    """

    severity: Severity
    why: str


ReadReferences = Callable[[Sequence[FeatureSpec]], Sequence[FeatureReference]]

#: Distinct live values among which an example of another spelling is looked for.
MAX_SPELLINGS = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing two files.

    Parameters
    ----------
    monitor : the divergences, in one window
    reference, live : the files
    rows : rows of the live file that were counted
    changed : columns of the reference that are gone, of another type, or constant no more, by name: schema drift
    left_out : why another column was not compared, by its name
    notes : what else was left out (rows), values that count as invalid, and what is odd about the files
    """

    monitor: MonitorSnapshot
    reference: Path
    live: Path
    rows: int
    changed: Mapping[str, Change]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    def drifts(self, severity: Severity) -> bool:
        """Return whether any feature or column drifts with this severity or a worse one."""
        worst = {"critical", "absent", severity}
        states = feature_states(self.monitor)
        return any(state in worst for state in states) or any(c.severity in worst for c in self.changed.values())


def compare_files(
    reference: Path,
    live: Path,
    given: MonitorSpec | None = None,
    *,
    now_ms: int,
    ignored: Collection[str] = (),
) -> Comparison:
    """Compute the divergence of the data in one file from those in another.

    Parameters
    ----------
    reference, live : Parquet, CSV or NDJSON, the last two also compressed
    given : the features, bins, tolerances and settings of a monitor; None: every column that both files have, with the
        kinds and bins that `init` would give them
    now_ms : the time of the comparison
    ignored : names of columns to leave out of everything, such as a label that only the reference has

    Raises
    ------
    ReferenceProblem
        a file cannot be read or has no rows, or the two have nothing in common that could be compared
    """
    notes: list[str] = []
    matched, there = _match(reference, live, given, ignored, notes.append)
    if not matched.features:
        of_both = {name: why for name, why in (matched.changed | matched.left_out).items() if not is_of_one(why)}
        raise ReferenceProblem(
            f"expected columns that can be compared, found none: {reference} has {listed(there[0])};"
            f" {live} has {listed(there[1])}"
            + ("" if given is None else f"; the monitor has {listed(f.name for f in given.features)}")
            + "".join(f"\n{name}: {why}" for name, why in islice(of_both.items(), REASONS))
        )
    warm_up()
    read = partial(_read_reference, reference, given, now_ms, notes.append)
    references, problems = _references(reference, matched.features, read, strict=given is not None)
    if not references:
        raise ReferenceProblem("\n".join(f"{reference}: {name}: {why}" for name, why in problems.items()))
    features = tuple(feature for feature in matched.features if feature.name not in problems)
    monitor = Monitor(_spec(given, features), references)
    rows = _count(live, monitor, now_ms, notes.append)
    snapshot, changed, same = _judged(monitor.evaluate(now_ms), matched)
    _note_spellings(snapshot, live, notes.append)
    left_out = {name: why for name, why in (matched.left_out | problems | same).items() if name not in changed}
    return Comparison(snapshot, reference, live, rows, changed, left_out, tuple(notes))


# --- which columns ---------------------------------------------------------------------------------


def _match(
    reference: Path,
    live: Path,
    given: MonitorSpec | None,
    ignored: Collection[str],
    notice: Callable[[str], None],
) -> tuple[Matched, list[list[str]]]:
    """Decide what to compare; also describe the columns of both files."""
    if given is not None:
        given = replace(given, features=tuple(f for f in given.features if f.name not in ignored))
        names = [column_names(reference), column_names(live)]
        wanted = [feature.name for feature in given.features]
        unreadable = {name: f"in the live data {why}" for name, why in unreadable_columns(live, wanted).items()}
        unreadable |= unreadable_columns(reference, wanted)
        every_name = names_every_column(live)
        return match_features(names[0], names[1], given, every_name=every_name, unreadable=unreadable), names
    samples = [
        replace(sample, columns=tuple(column for column in sample.columns if column.name not in ignored))
        for sample in (read_sample(reference), read_live_sample(live))
    ]
    for which, sample in zip(("reference", "live data"), samples, strict=True):
        for note in sample.notes:
            notice(f"{which} {sample.path.name}: {note}")
    there = [[f"{column.name} ({column.holds.words})" for column in sample.columns] for sample in samples]
    return match_columns(samples[0], samples[1], every_name=names_every_column(live)), there


def _judged(monitor: MonitorSnapshot, matched: Matched) -> tuple[MonitorSnapshot, dict[str, Change], dict[str, str]]:
    """Take features out whose divergence says nothing: fields that never came, and constants.

    Returns
    -------
    monitor : without them
    changed : columns that drift by what they are
    same : why a constant was left out, where it is the same in the live data
    """
    changed = {name: Change("critical", why) for name, why in matched.changed.items()}
    same: dict[str, str] = {}
    kept = []
    for f, info in enumerate(monitor.features):
        if info.name in matched.unseen and monitor.missing_ratio[0, f] == 1:
            changed[info.name] = Change("critical", matched.unseen[info.name])
        elif info.name not in matched.constants or not _is_constant(info):
            kept.append(f)
        else:
            severity_of, why = _constant(monitor, f, matched.constants[info.name])
            if severity_of is None:
                same[info.name] = why
            else:
                changed[info.name] = Change(severity_of, why)
    return monitor.of_features(kept), changed, same


def _is_constant(info: FeatureInfo) -> bool:
    """Return whether all of the reference, and not only the rows looked at, has one value."""
    return info.reference_counts is not None and np.count_nonzero(info.reference_counts) == 1


def _constant(monitor: MonitorSnapshot, f: int, constant: Constant) -> tuple[Severity | None, str]:
    """Judge a feature that never varies in the reference, by the share of live values that are others."""
    info = monitor.features[f]
    assert info.reference_counts is not None
    live = monitor.counts[0, monitor.offsets[f] : monitor.offsets[f + 1]]
    n, m = int(live.sum()), int(info.reference_counts.sum())
    others = n - int(live[np.argmax(info.reference_counts)])
    if others == 0:
        return None, constant.why
    lower = lower_bound(others, n, m, monitor.confidence)
    such_as = f", such as {listed(constant.others)}" if constant.others else ""
    why = f"{constant.why} in the reference, but {others:,} of {n:,} live values differ{such_as}"
    return severity(lower, info.warning, info.critical), why


def _spec(given: MonitorSpec | None, features: tuple[FeatureSpec, ...]) -> MonitorSpec:
    """Return the monitor with these features and the one window; the times of rows are ignored."""
    if given is None:
        return MonitorSpec("compare", features, (WINDOW,))
    return replace(given, features=features, windows=(WINDOW,), timestamp=None, segments=None, reference=None)


# --- the reference ---------------------------------------------------------------------------------


def _read_reference(
    path: Path,
    given: MonitorSpec | None,
    now_ms: int,
    notice: Callable[[str], None],
    features: Sequence[FeatureSpec],
) -> list[FeatureReference]:
    """Count the references of some features. Without a time, the order of a file says nothing: rows are independent."""
    timestamp, missing_values = (None, None) if given is None else (given.timestamp, given.missing_texts)
    watched = [feature.name for feature in features]
    made, _ = reference_from_data(path, features, now_ms, notice, timestamp, missing_values, watched)
    return list(made) if all(one.by_time for one in made) else [reference.of_independent_rows() for reference in made]


def _references(
    path: Path, features: Sequence[FeatureSpec], read: ReadReferences, *, strict: bool
) -> tuple[list[FeatureReference], dict[str, str]]:
    """Make the references of the features that can have one, in order, and say why the others cannot."""
    groups = [features[i : i + FEATURES_AT_A_TIME] for i in range(0, len(features), FEATURES_AT_A_TIME)]
    references: list[FeatureReference] = []
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, thread_count())) as pool:
        for made, missing in pool.map(lambda group: _group(path, group, read, strict=strict), groups):
            references += made
            problems |= missing
    return references, problems


def _group(
    path: Path, features: Sequence[FeatureSpec], read: ReadReferences, *, strict: bool
) -> tuple[Sequence[FeatureReference], dict[str, str]]:
    problems: dict[str, str] = {}
    while left := [feature for feature in features if feature.name not in problems]:
        try:
            return read(left), problems
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


def _note_spellings(monitor: MonitorSnapshot, path: Path, notice: Callable[[str], None]) -> None:
    """Say which features seem to have other values only because these are spelled otherwise, with an example."""
    hints = {f: hint for f in range(len(monitor.features)) if (hint := spelling_hint(monitor, f, 0))}
    columns = {column.name: column.values for column in read_live_sample(path).columns} if hints else {}
    for f, hint in hints.items():
        info, values = monitor.features[f], columns.get(monitor.features[f].name)
        texts = [] if values is None else map(str, values.drop_nulls().unique(maintain_order=True).head(MAX_SPELLINGS))
        pair = same_but_for_spelling(texts, info.categories or ())
        example = "" if pair is None else f", as {pair[0]!r} and {pair[1]!r} are"
        notice(f"live data {path.name}: {info.name}: {hint}{example}")


def _report(path: Path, rejected: Mapping[str, int], invalid: Mapping[str, int], notice: Callable[[str], None]) -> None:
    if rejected:
        reasons = ", ".join(f"{n:,} {word}" for word, n in sorted(rejected.items()))
        n = sum(rejected.values())
        notice(f"live data {path.name}: {n:,} row{'' if n == 1 else 's'} could not be read, left out: {reasons}")
    wrong = {name: n for name, n in invalid.items() if n}
    if wrong:
        named = listed(f"{name} ({n:,})" for name, n in wrong.items())
        notice(f"live data {path.name}: values of the wrong type, counted as invalid: {named}")
