"""Engine, history and pull intakes of a configuration: build, start, reload and stop them."""

import time
from collections.abc import Collection

from kldrift.assembly.monitors import build_monitors
from kldrift.assembly.sources import build_source, renamed_sources
from kldrift.config.records import Config
from kldrift.drift.monitor import Monitor
from kldrift.engine.clock import Clock
from kldrift.engine.engine import Engine
from kldrift.engine.history import History
from kldrift.engine.observing import monotonic_ms, now_ms
from kldrift.engine.pull import PullIntake
from kldrift.errors import KldriftError
from kldrift.export.telemetry import Telemetry
from kldrift.kernels.compilation import PLACE, set_threads, warm_up
from kldrift.records.snapshots import DriftSnapshot
from kldrift.records.sources import PUSH, SourceConfig
from kldrift.sources.base import Surroundings
from kldrift.state.base import NoStore, Store
from kldrift.state.history import SqliteHistory
from kldrift.state.sqlite import SqliteStore


class Parts:
    """Engine and pull intakes of a configuration, with or without a server."""

    def __init__(self, config: Config, telemetry: Telemetry, once: bool = False) -> None:
        self.config = config
        self.telemetry = telemetry
        self.engine: Engine | None = None
        self.history: History | None = None
        self.pulls: dict[str, PullIntake] = {}
        self.clock = Clock(telemetry.clock_jumped)
        self._once = once
        self._store: Store = NoStore()

    def build(self) -> None:
        """Warm up the kernels, count the references and start the engine.

        Raises
        ------
        ReferenceProblem
            a reference could not be loaded
        StateError
            the state could not be opened or read
        """
        set_threads(self.config.engine.threads)
        if PLACE.problem:
            self.telemetry.kernels_not_kept(PLACE.problem)
        elif PLACE.is_empty:
            self.telemetry.kernels_compiled_first()
        warm_up()
        monitors = build_monitors(self.config.monitors, now_ms(), self.telemetry.config_warning)
        self._configure(self.config)
        engine, state = self.config.engine, self.config.state
        if state.path is not None and not self._once:  # a single pass over the sources is independent of the state
            self._store = SqliteStore(state.path, monotonic_ms, self.telemetry.state_moved)
        if not self._once:
            self.history = History(SqliteHistory(state.path), self.telemetry, self.clock)
        self.engine = Engine(
            monitors,
            tick_ms=engine.tick_ms,
            queue_bytes=engine.queue_bytes,
            telemetry=self.telemetry,
            clock_ms=self.clock,
            ahead_ms=lambda: self.clock.ahead_ms,
            store=self._store,
            commit_ms=state.commit_interval_ms,
            on_evaluated=(lambda _: None) if self.history is None else self.history.record,
        )
        self.engine.start()

    def start_sources(self) -> None:
        """Start the pull sources that feed a monitor."""
        if self.engine is not None:
            self._rename_sources(self.engine.restored)
        for source in self.config.sources:
            self._start(source)

    def _rename_sources(self, counting: Collection[str]) -> None:
        """Let sources with a new name continue where they were, if one of the monitors they feed keeps its counts."""
        assert self.engine is not None
        feeding = [s for s in self.config.sources if not set(self._feeds(self.config, s.name)).isdisjoint(counting)]
        names = [s for s in self.config.sources if s in feeding or s.name in self.engine.positions]
        if found := renamed_sources(names, self.engine.positions):
            self.engine.rename_sources(found)

    def _start(self, config: SourceConfig) -> None:
        feeds = self._feeds(self.config, config.name)
        if self.engine is None or not feeds:
            return

        def on_error(reason: str, detail: str) -> None:
            self.telemetry.source_error(config.name, reason, detail)

        widest = max(self.engine.monitors[name].schema.row_numbers for name in feeds)
        engine = self.engine
        surroundings = Surroundings(
            clock_ms=self.clock,
            on_error=on_error,
            once=self._once,
            row_numbers=widest,
            settled=lambda: engine.stored_positions(config.name),
            on_lost=lambda n_bytes, detail: self.telemetry.source_lost(config.name, n_bytes, detail),
            on_rebalance=lambda streams: self.telemetry.source_assigned(config.name, streams),
        )
        source = build_source(config, surroundings)
        pull = PullIntake(
            source, config.body_format, feeds, self.engine, self.telemetry, self._once, config.missing_values
        )
        self.pulls[config.name] = pull
        pull.start()

    def stop_sources(self) -> None:
        """Stop the pull sources, all at the same time; what they have handed over stays queued."""
        for pull in self.pulls.values():
            pull.end()
        for pull in self.pulls.values():
            pull.stop()

    def stop(self) -> None:
        """Count and store what is queued, then stop counting."""
        if self.engine is not None:
            self.engine.stop()
        if self.history is not None:
            self.history.close()
        self._store.close()

    def reload(self, config: Config) -> None:
        """Switch to another configuration: the same bins and windows keep their counts, the same sources their place.

        Raises
        ------
        ReferenceProblem
            a reference could not be loaded; nothing has changed
        """
        assert self.engine is not None
        counting = set(self.engine.monitors)
        built = build_monitors(config.monitors, now_ms(), self.telemetry.config_warning)
        monitors = [self._kept(monitor) for monitor in built]
        # No source decodes for a monitor that is about to go; each continues exactly where it stopped.
        self.stop_sources()
        changed = [
            name
            for name in self.pulls
            if _source(self.config, name) != _source(config, name)
            or self._feeds(self.config, name) != self._feeds(config, name)
        ]
        try:
            self.engine.swap(monitors, config.engine.tick_ms)
        except BaseException:  # a defect: keep the old monitors and the sources that feed them
            for pull in self.pulls.values():
                pull.start()
            raise
        for name in changed:
            del self.pulls[name]
        self.config = config
        self._configure(config)
        self._rename_sources(counting)
        for pull in self.pulls.values():
            pull.start()
        for source in config.sources:
            if source.name not in self.pulls:
                self._start(source)

    def _kept(self, built: Monitor) -> Monitor:
        assert self.engine is not None
        old = self.engine.monitors.get(built.spec.name)
        return old if old is not None and old.identity == built.identity else built

    def _configure(self, config: Config) -> None:
        self.telemetry.configure(
            [source.name for source in config.sources if self._feeds(config, source.name)],
            [] if self._once else [PUSH],
            {monitor.name: [feature.name for feature in monitor.features] for monitor in config.monitors},
        )

    @staticmethod
    def _feeds(config: Config, source: str) -> list[str]:
        return [monitor.name for monitor in config.monitors if source in monitor.sources]


def _source(config: Config, name: str) -> SourceConfig | None:
    return next((source for source in config.sources if source.name == name), None)


def run_once(config: Config, telemetry: Telemetry) -> tuple[DriftSnapshot, int, float, list[KldriftError]]:
    """Read the sources to the end.

    Returns
    -------
    snapshot : the divergences at the end
    rows : rows counted
    seconds : from the first read to the last count
    failures : of sources that could not be read to the end, or not at all

    Raises
    ------
    ReferenceProblem
        a reference could not be loaded
    """
    parts = Parts(config, telemetry, once=True)
    parts.build()
    assert parts.engine is not None
    started = time.perf_counter()
    parts.start_sources()
    for pull in parts.pulls.values():
        while not pull.wait(0.5):  # in short waits, so that Ctrl-C is noticed
            pass
    parts.engine.stop()
    seconds = time.perf_counter() - started
    failures: list[KldriftError] = [failure for pull in parts.pulls.values() for failure in pull.failures()]
    return parts.engine.snapshot, parts.engine.rows_counted, seconds, failures
