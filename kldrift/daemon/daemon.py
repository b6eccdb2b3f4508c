"""The daemon: builds the parts, starts and stops them in the order of the data flow, and reloads them.

Start:  warm up kernels, count references → state → engine → push intake → sources → ready
Stop:   sources → HTTP answers requests in flight → push intake → engine (counts and stores its queue) → state
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from kldrift import __version__
from kldrift.config.load import load_config
from kldrift.config.records import Config, ServerConfig
from kldrift.config.resolution import resolved
from kldrift.daemon.entry import Entry
from kldrift.daemon.parts import Parts
from kldrift.daemon.reload import RESTART, changes_that_need_a_restart
from kldrift.daemon.service_manager import Notifier
from kldrift.engine.observing import now_ms
from kldrift.engine.push import PushIntake
from kldrift.errors import ConfigError, ReferenceProblem
from kldrift.export.telemetry import Telemetry
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot, Track
from kldrift.web.app import App
from kldrift.web.body import Limits
from kldrift.web.guard import Guard, Timeouts
from kldrift.web.open_files import RESERVED, connections_within, raise_open_files
from kldrift.web.ports import SourceStatus, Status
from kldrift.web.serve import WebServer, bind

logger = logging.getLogger(__name__)

#: Stopping takes at most 10 s: so long requests in flight are answered, then posts that are not awaited are decoded,
#: and then what is counted is stored. At the end of the last, the process ends, whatever it is doing.
GRACE_SECONDS, DECODED_SECONDS, STOP_SECONDS = 6, 7.5, 9.5

#: The engine's thread never takes this long for one step, unless a disk hangs.
HUNG_SECONDS = 60


Result = TypeVar("Result")


class Daemon:
    """The service; implements the web layer's `Readers` port.

    Parameters
    ----------
    config : the configuration as loaded
    config_path : the file to reload; None if there is none
    """

    def __init__(self, config: Config, config_path: Path | None, telemetry: Telemetry) -> None:
        self._path = config_path
        self._telemetry = telemetry
        self._parts = Parts(config, telemetry)
        self._push: PushIntake | None = None
        self._started_ms = now_ms()
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._not_ready = "starting: compiling kernels and loading references"
        self._tasks: set[asyncio.Task[object]] = set()
        self._building: list[threading.Thread] = []
        self._left_decoding = False
        self._manager = Notifier(os.environ, telemetry.config_warning)
        self._entry = Entry(config.server, telemetry)
        server = config.server
        limits = Limits(
            encoded_bytes=server.max_body_bytes,
            body_bytes=server.max_expanded_bytes,
            client_bytes=server.max_client_pending_bytes or config.engine.queue_bytes // 4,
        )
        self._app = App(None, self, telemetry.http_answered, limits, self._entry.access, self._entry.hosts)
        self._server = WebServer(
            self._app,
            bind(server.listen.host, server.listen.port),
            grace_seconds=GRACE_SECONDS,
            guard=self._guard(server),
            tls=None if self._entry.tls is None else self._entry.tls.context,
        )

    def _guard(self, config: ServerConfig) -> Guard:
        """Build the guard, with no more connections than the system allows open files."""
        before, after = raise_open_files(config.max_connections + RESERVED)
        connections = connections_within(after, config.max_connections)
        self._telemetry.open_files(before, after, connections, config.max_connections)
        timeouts = Timeouts(
            header=config.header_timeout_ms / 1000,
            body=config.body_timeout_ms / 1000,
            idle=config.idle_timeout_ms / 1000,
            write=config.write_timeout_ms / 1000,
        )
        return Guard(timeouts, connections, config.max_client_connections, self._telemetry)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`.

        Raises
        ------
        ReferenceProblem
            a reference could not be loaded
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        # without a file to reload (demo), SIGHUP means that the terminal was closed
        loop.add_signal_handler(signal.SIGHUP, self.stop if self._path is None else self._reload_in_background)
        await self._server.start()
        self._manager.starting(self._not_ready)
        watching = [asyncio.ensure_future(self._entry.watch())]
        try:
            building = asyncio.ensure_future(self._in_thread(self._parts.build))
            stopped = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait((building, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not building.done():  # a reference may take long; nothing has been counted yet, so nothing is lost
                building.cancel()
                return
            building.result()
            engine = self._parts.engine
            assert engine is not None
            self._push = PushIntake(engine, self._telemetry, loop, self._parts.clock)
            self._push.start()
            self._app.take_samples(self._push)
            self._parts.start_sources()
            self._telemetry.reload_succeeded(now_ms())
            self._telemetry.ready(self._server.port, time.time() - self._started_ms / 1000)
            self._not_ready = ""
            self._manager.ready(self._summary())
            watching.append(asyncio.ensure_future(self._manager.watch(self.snapshot, self._tick_seconds)))
            await stopped
        finally:
            self._manager.stopping()
            for task in watching:
                task.cancel()
            await self._shut_down()

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        """Call a function that may take long to count references; stopping does not wait for it."""
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # raised again where the result is awaited
                future.set_exception(error)

        thread = threading.Thread(target=call, name="building", daemon=True)
        self._building = [*(other for other in self._building if other.is_alive()), thread]
        thread.start()
        return await asyncio.wrap_future(future)

    @property
    def left_working(self) -> bool:
        """Whether a thread is still counting references or decoding."""
        return self._left_decoding or any(thread.is_alive() for thread in self._building)

    async def asked_to_stop(self) -> None:
        """Return once it is about to stop."""
        await self._stopping.wait()

    def stop(self) -> None:
        """Start to stop; `run` returns once everything is done."""
        self._stopping.set()

    async def _shut_down(self) -> None:
        self._not_ready = "stopping"
        decoded_by = time.monotonic() + DECODED_SECONDS
        if self._stopping.is_set():
            self._telemetry.stopping()
        with contextlib.suppress(Exception):
            await asyncio.to_thread(self._parts.stop_sources)
        await self._server.stop()
        self._entry.close()
        if self._push is not None:
            dropped = await asyncio.to_thread(self._push.stop, decoded_by)
            self._left_decoding = dropped > 0
            if dropped:
                self._telemetry.posts_dropped(dropped)
        await asyncio.to_thread(self._parts.stop)
        if self._parts.engine is not None:
            self._telemetry.stopped(self._parts.engine.rows_counted)

    # --- what the web layer asks for -------------------------------------------------------------

    def snapshot(self) -> DriftSnapshot:
        """The divergences as of the last tick."""
        engine = self._parts.engine
        return DriftSnapshot(0) if engine is None else engine.snapshot

    def status(self) -> Status:
        """The daemon's own state."""
        reason = self._reason()
        return Status(
            ready=not reason,
            reason=reason,
            version=__version__,
            started_ms=self._started_ms,
            config_path=None if self._path is None else str(self._path.absolute()),
            sources=tuple(SourceStatus(name, *self._telemetry.source_state(name)) for name in self._parts.pulls),
            warnings=self._parts.config.warnings,
            hung=self._hung(),
        )

    def _reason(self) -> str:
        """Return why no samples are accepted, or an empty string; every post is refused for the same reason."""
        engine = self._parts.engine
        if self._not_ready or engine is None:
            return self._not_ready
        problem = engine.cannot_store
        return f"the state cannot be written: {problem}" if problem else self._hung()

    def _hung(self) -> str:
        """Return why the counting thread is considered dead, or an empty string while it is alive."""
        engine = self._parts.engine
        if engine is None or self._not_ready or engine.seconds_in_turn < HUNG_SECONDS + self._tick_seconds():
            return ""
        return f"nothing has been counted or compared for {engine.seconds_in_turn:.0f} s"

    def now_ms(self) -> int:
        """The time that the daemon goes by."""
        return self._parts.clock()

    def track(self, monitor: MonitorSnapshot, features: Sequence[int], windows: Sequence[int], span_ms: int) -> Track:
        """Return some features and windows over the last `span_ms`; empty if the history cannot be read."""
        if self._parts.history is None:
            return Track.empty(len(windows), len(features))
        return self._parts.history.track(monitor, features, windows, span_ms)

    def since(self, monitor: MonitorSnapshot) -> Mapping[str, Mapping[int, int]]:
        """Return since when each drifting feature has been drifting."""
        return {} if self._parts.history is None else self._parts.history.since(monitor)

    def configuration(self) -> str:
        """Return the effective configuration; it contains the paths of secrets, never secrets."""
        return resolved(self._parts.config)

    async def exposition(self, openmetrics: bool, gzip: bool) -> bytes:
        """Return every metric, as the body of a scrape."""
        return await asyncio.to_thread(self._telemetry.exposition, openmetrics, gzip, self.snapshot())

    def _reload_in_background(self) -> None:
        task: asyncio.Task[object] = asyncio.ensure_future(self.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> list[str]:
        """Reload the configuration. On any problem, keep the old one and return the problems."""
        async with self._reloading:
            if not self._not_ready:
                self._manager.reloading()
            try:
                problems = await self._in_thread(self._reload)
            except Exception as error:
                logger.exception("reload failed")
                problems = [f"internal error, please report it: {type(error).__name__}: {error}"]
            if not self._not_ready:  # otherwise it is stopping by now
                self._manager.ready(self._summary(problems))
        if problems:
            self._telemetry.reload_failed(problems)
        else:
            self._telemetry.reload_succeeded(now_ms())
        return problems

    def _summary(self, problems: Collection[str] = ()) -> str:
        config = self._parts.config
        status = f"listening on port {self.port}; monitors: {len(config.monitors)}, sources: {len(self._parts.pulls)}"
        if not problems:
            return status
        return f"{status}; new configuration rejected, the old one stays in use: {'; '.join(problems)}"

    def _tick_seconds(self) -> float:
        return self._parts.config.engine.tick_ms / 1000

    def _reload(self) -> list[str]:
        if self._path is None:
            return ["there is no configuration file to reload"]
        if self._not_ready:
            return [f"not ready: {self._not_ready}; try again later"]
        try:
            config = load_config(self._path)
            fixed = changes_that_need_a_restart(self._parts.config, config)
            if fixed:
                return [f"{self._path.name}: {key}: {RESTART}" for key in fixed]
            if self._parts.engine is not None and self._parts.engine.cannot_store:
                return ["the state cannot be written, and counting is waiting for it; reload once it can"]
            use_entry = self._entry.load()
            self._parts.reload(config)
            use_entry()
        except ConfigError as error:
            return list(error.problems)
        except ReferenceProblem as error:
            return str(error).splitlines()
        return []


def serve(config: Config, config_path: Path | None, telemetry: Telemetry) -> None:
    """Run a daemon in this process until it is asked to stop."""
    from kldrift.web.serve import new_event_loop

    def give_up() -> None:
        telemetry.stop_overdue(STOP_SECONDS)
        logging.shutdown()
        os._exit(1)

    async def main() -> bool:
        daemon = Daemon(config, config_path, telemetry)
        overdue = threading.Timer(STOP_SECONDS, give_up)
        overdue.daemon = True
        asking = asyncio.ensure_future(daemon.asked_to_stop())
        asking.add_done_callback(lambda asked: None if asked.cancelled() else overdue.start())
        await daemon.run()
        asking.cancel()
        return daemon.left_working

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        left_working = runner.run(main())
    if left_working:  # the thread is in native code, so the interpreter must not be torn down under it
        logging.shutdown()
        os._exit(0)
