"""A backtest, from files to its outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kldrift.assembly.monitors import build_monitor
from kldrift.errors import DataFileProblem, KldriftError
from kldrift.kernels.compilation import warm_up
from kldrift.offline.backtest.alarms import Bounds, episodes
from kldrift.offline.backtest.outcome import WEEK_MS, Alarm, FeatureResult, Outcome, SeriesResult, Target
from kldrift.offline.backtest.proposal import ladder, own_tolerances, propose, survey
from kldrift.offline.backtest.replay import Replay, replay
from kldrift.offline.backtest.rows import History, Span, read_history, reasons
from kldrift.records.snapshots import Track
from kldrift.records.specs import MonitorSpec, ReferenceData, ReferencePrevious
from kldrift.records.texts import duration_text, listed

#: With fewer pages at the target rate, the history is too short to tell tolerances apart.
FEW_PAGES = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """Callbacks for the progress in event time (ms): once the extent is known, then at each evaluated step."""

    begin: Callable[[int, int], object] = lambda _first, _last: None
    reached: Callable[[int], object] = lambda _: None


def run_backtest(
    spec: MonitorSpec,
    paths: Sequence[Path],
    target: Target,
    every_ms: int,
    span: Span,
    now_ms: int,
    progress: Progress = Progress(),
) -> tuple[Outcome, Replay]:
    """Replay files through a monitor, and count its alarms.

    Parameters
    ----------
    spec : with a timestamp
    every_ms : length of a step
    now_ms : rows with later times are left out

    Raises
    ------
    ReferenceProblem
        the monitor's reference could not be loaded
    DataFileProblem
        a file cannot be read, or the files have no usable rows or none of the features
    """
    assert spec.timestamp is not None, "checked by the caller, who knows where it is configured"
    history = read_history(paths, spec.timestamp, span, now_ms)
    absent = [feature.name for feature in spec.features if feature.name not in history.columns]
    if len(absent) == len(spec.features):
        raise DataFileProblem(
            f"{', '.join(map(str, paths))}: expected columns with the features of monitor {spec.name}"
            f" ({listed(absent)}), there are only {listed(history.columns)}"
        )
    warm_up()
    notes: list[str] = []
    monitor = build_monitor(spec, now_ms, notes.append)
    progress.begin(history.first_ms, history.last_ms)
    played = replay(monitor, history, every_ms, progress.reached)
    notes += _notes(spec, history, played, absent, now_ms)
    return summarise(spec, history, played, target, notes), played


def summarise(
    spec: MonitorSpec, history: History, played: Replay, target: Target, notes: Sequence[str] = ()
) -> Outcome:
    """Derive alarms and proposals from what was recorded."""
    bounds = Bounds.of(played.tracks, played.every_ms)
    covered_ms = played.at_ms.size * played.every_ms
    weeks = covered_ms / WEEK_MS
    surveyed = survey(bounds)
    own = own_tolerances(surveyed, bounds.n_features, target, weeks)
    proposal = propose(bounds, surveyed, played.features, target, weeks, own)
    features = _features(bounds, played, own)
    alarms = _alarms(played)
    return Outcome(
        spec.name,
        tuple(map(_shown, history.paths)),
        history.rows,
        history.first_ms,
        history.last_ms,
        played.every_ms,
        int(played.at_ms.size),
        covered_ms,
        spec.confidence,
        target,
        played.windows,
        features,
        ladder(bounds, surveyed, played.features, weeks, proposal.rung),
        tuple(alarms),
        proposal,
        (*notes, *_caveats(spec, history, features, alarms, target, weeks)),
    )


def _caveats(
    spec: MonitorSpec,
    history: History,
    features: Sequence[FeatureResult],
    alarms: Sequence[Alarm],
    target: Target,
    weeks: float,
) -> list[str]:
    """Note what to keep in mind when reading the figures."""
    notes = []
    never = [feature.name for feature in features if feature.undecided == 1]
    if 0 < len(never) < len(features):
        notes.append(f"never decided, so their drift would go unnoticed: {listed(never)}")
    lengths = {window.name: window.duration_ms for window in spec.windows}
    early = sum(alarm.begin_ms < history.first_ms + lengths[alarm.window] for alarm in alarms)
    if early:
        notes.append(
            f"{early:,} of {len(alarms):,} alarms began before their window was full for the first time; a daemon that"
            " is started anew would have them too"
        )
    if target.per_week * weeks < FEW_PAGES:
        notes.append(
            f"the history covers {weeks:.3g} weeks: too short to tell {target.text} from less often; take the proposal"
            " with care"
        )
    return notes


def _features(bounds: Bounds, played: Replay, own: Sequence[float | None]) -> tuple[FeatureResult, ...]:
    warnings = bounds.tally(np.array([info.warning for info in played.features]))
    criticals = bounds.tally(np.array([info.critical for info in played.features]))
    lower = played.tracks[None].lower
    largest = bounds.largest()
    return tuple(
        FeatureResult(
            info.name,
            info.kind,
            info.warning,
            info.critical,
            int(warnings.feature_alarms[f]),
            int(criticals.feature_alarms[f]),
            float(warnings.feature_in_alarm[f]),
            float(np.isnan(lower[:, :, f]).all(axis=1).mean()),
            float(largest[f]),
            None if np.isnan(largest[f]) else own[f],
            info.problem,
            tuple(_series(played, w, f) for w in range(len(played.windows))),
        )
        for f, info in enumerate(played.features)
    )


def _series(played: Replay, w: int, f: int) -> SeriesResult:
    info, lower = played.features[f], played.tracks[None].lower[:, w, f]
    at = (played.at_ms, played.every_ms)
    return SeriesResult(
        played.windows[w],
        len(episodes(lower > info.warning, *at)),
        len(episodes(lower > info.critical, *at)),
        float(np.isnan(lower).mean()),
        float(np.fmax.reduce(lower, initial=np.nan)),
    )


def _alarms(played: Replay) -> list[Alarm]:
    """Return every alarm at the warning tolerances in order of its beginning, larger ones first."""
    found = [
        alarm
        for segment, track in played.tracks.items()
        for f in range(len(played.features))
        for w in range(len(played.windows))
        for alarm in _alarms_of(played, segment, track, w, f)
    ]
    return sorted(found, key=lambda alarm: (alarm.begin_ms, -alarm.peak_lower))


def _alarms_of(played: Replay, segment: str | None, track: Track, w: int, f: int) -> list[Alarm]:
    info, lower, kl = played.features[f], track.lower[:, w, f], track.kl[:, w, f]
    found = episodes(lower > info.warning, played.at_ms, played.every_ms)
    critical = episodes(lower > info.critical, played.at_ms, played.every_ms)
    return [
        Alarm(
            info.name,
            played.windows[w],
            segment,
            int(played.at_ms[start]),
            int(played.at_ms[stop - 1]),
            float(np.nanmax(kl[start:stop])),
            float(np.nanmax(lower[start:stop])),
            bool(((critical.starts >= start) & (critical.starts < stop)).any()),
            stop == played.at_ms.size,
        )
        for start, stop in zip(found.starts.tolist(), found.stops.tolist(), strict=True)
    ]


# --- notes ------------------------------------------------------------------------------------------


def _notes(spec: MonitorSpec, history: History, played: Replay, absent: Sequence[str], now_ms: int) -> list[str]:
    notes = []
    if absent:
        notes.append(f"not in the data, so counted as missing, as the daemon would: {listed(absent)}")
    if told := reasons(history.rejected):
        notes.append(f"rows left out: {told}")
    wrong = {info.name: n for info, n in zip(played.features, played.invalid.tolist(), strict=True) if n}
    if wrong:
        notes.append(
            f"values of the wrong type, counted as invalid: {listed(f'{name} ({n:,})' for name, n in wrong.items())}"
        )
    if history.backwards:
        notes.append(f"the rows were not in order of time ({history.backwards:,} go backwards): they were sorted")
    longer = [w.name for w in spec.windows if w.duration_ms > history.last_ms - history.first_ms + played.every_ms]
    if longer:
        notes.append(f"longer than the history, so never full: window {listed(longer)}")
    shorter = [w.name for w in spec.windows if w.duration_ms < played.every_ms]
    if shorter:
        step = duration_text(played.every_ms)
        notes.append(f"shorter than a step of {step}: window {listed(shorter)}; drift between two steps goes unnoticed")
    return notes + _reference_notes(spec, history, now_ms)


def _reference_notes(spec: MonitorSpec, history: History, now_ms: int) -> list[str]:
    """Note where the history contains the reference itself, or rows from before its end."""
    origins = (feature.reference or spec.reference for feature in spec.features)
    files = {
        origin.path for given in origins
        if isinstance(origin := given.bins if isinstance(given, ReferencePrevious) else given, ReferenceData)
    }  # fmt: skip
    return [note for path in sorted(files) if (note := _reference_note(path, history, now_ms))]


def _reference_note(path: Path, history: History, now_ms: int) -> str | None:
    if any(path.samefile(other) for other in history.paths):
        return (
            f"{path.name} is the reference as well: a history that is compared with itself drifts less than what comes"
            " next will; backtest on rows from after the reference where you can"
        )
    try:
        reference = read_history([path], history.timestamp, Span(), now_ms)
    except KldriftError:  # it has no times, which is fine
        return None
    if history.first_ms > reference.last_ms:
        return None
    where = "all of the history" if history.last_ms <= reference.last_ms else "part of the history"
    return (
        f"the reference {path.name} extends to {_day(reference.last_ms)}, and {where} is from before then: alarms there"
        f" say little about the future; --from {_day(reference.last_ms)} leaves it out"
    )


def _shown(path: Path) -> str:
    """Return the name of a file as text, even if it is not Unicode."""
    return path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _day(ms: int) -> str:
    return str(np.datetime64(ms, "ms").astype("datetime64[D]"))
