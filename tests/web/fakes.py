"""Small real implementations of the ports, and a client that calls the application without a socket."""

import asyncio
from gzip import compress

import httpx
import numpy as np

from kldrift.records.divergences import N_DIVERGENCES
from kldrift.records.samples import Receipt
from kldrift.records.snapshots import DriftSnapshot, FeatureInfo, MonitorSnapshot, Track
from kldrift.web.app import App
from kldrift.web.body import Limits
from kldrift.web.ports import SourceStatus, Status

NOW_MS = 1_700_000_600_000


class FakeIngest:
    """Keeps what it is given; answers with `answer`, a Receipt or an exception."""

    def __init__(self, answer=None, monitors=("loans", "a/b ü")) -> None:
        self.answer = answer or Receipt(1)
        self.names = monitors
        self.bodies = []
        self.keys = []

    def monitors(self):
        return self.names

    honours_keys = False

    async def submit(self, monitor, format, body, key=None):  # noqa: A002 as the port has it
        self.bodies.append((monitor, format, body))
        self.keys.append(key)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class FakeReaders:
    """A daemon that stands still.

    Parameters
    ----------
    monitor : its only one; of `monitors`, if given, there may be any number
    tracks : (at_ms, features) to a `Track`; without it there is no history
    drifting : what `since` answers
    """

    def __init__(
        self,
        ready=True,
        problems=(),
        monitor=None,
        monitors=None,
        tracks=None,
        drifting=None,
        text="server: {}\n",
        hung="",
    ) -> None:
        self.ready = ready
        self.hung = hung
        self.monitors = (monitor or loans(),) if monitors is None else monitors
        self.problems = list(problems)
        self.tracks = tracks
        self.drifting = drifting or {}
        self.text = text
        self.asked = []
        self.tracked = []

    def snapshot(self):
        return DriftSnapshot(9, tuple(self.monitors))

    def now_ms(self):
        return NOW_MS

    def track(self, monitor, features, windows, span_ms):
        self.tracked.append((monitor.segment, list(features), list(windows), span_ms))
        if self.tracks is None:
            return Track.empty(len(windows), len(features))
        return self.tracks(len(windows), len(features))

    def since(self, monitor):
        return {} if monitor.segment is not None else self.drifting

    def configuration(self):
        return self.text

    def status(self):
        return Status(
            ready=self.ready,
            reason="" if self.ready else "kernels are being compiled",
            version="0.1.0",
            started_ms=1_700_000_000_000,
            config_path="kldrift.yaml",
            sources=(SourceStatus("files", up=False, lag_records=3, last_error="no such file"),),
            warnings=("series limit",),
            hung=self.hung,
        )

    async def exposition(self, openmetrics, gzip):
        self.asked.append((openmetrics, gzip))
        return compress(b"metrics") if gzip else b"metrics"

    async def reload(self):
        return self.problems


AGE = FeatureInfo(
    "age", "numeric", np.array([-np.inf, 0.5, np.inf]), None,
    ("[-inf, 0.5)", "[0.5, inf)", "underflow", "overflow", "missing", "invalid"),
    np.array([4, 5, 0, 0, 1, 0]), np.array([0.4, 0.5, 0, 0, 0.1, 0]), 10.0, 5, "b1", "r1", 0.01, 0.1,
    reference_text="loans.parquet", parameters=(("mean", 0.25), ("std", np.inf)),
    value_range=(0.25, np.inf), limits=("only infinite values count",),
)  # fmt: skip
CITY = FeatureInfo(
    "home/city, ü 100%", "categorical", None, ("München",), ("München", "other", "unseen", "missing", "invalid"),
    None, np.array([0.5, 0.5, 0, 0, 0]), np.inf, 5, "b2", "r2", 0.01, 0.1, "too short",
)  # fmt: skip
LATENT = FeatureInfo(
    "latent", "vector", None, ("present",), ("present", "other", "unseen", "missing", "invalid"),
    None, np.array([1.0, 0, 0, 0, 0]), 100.0, 5, "b3", "r3", 0.01, 0.1,
)  # fmt: skip


def loans(**changes):
    """Two windows, the second empty; features of 6, 5 and 5 cells: one drifts, one has no usable reference, and of a
    vector there are too few."""
    empty = [np.nan] * 3
    divergences = np.full((2, 3, N_DIVERGENCES), np.nan)
    divergences[0, 0] = np.arange(N_DIVERGENCES) / 8
    divergences[0, 1] = np.inf
    divergences[0, 2, 0] = 0.75
    ratio = np.array([[0.1, 0.0, 0.0], empty])
    values = {
        "name": "loans", "windows": ("5m", "1h"), "features": (AGE, CITY, LATENT), "smoothing": "none",
        "exported": ("kl",), "at_ms": 7, "offsets": np.array([0, 6, 11, 16]),
        "samples": np.array([[10, 2, 8], [0, 0, 0]]), "divergences": divergences,
        "noise_floor": np.array([[0.2, 0.3, 2.0], empty]), "ready": np.array([[True, False, False], [False] * 3]),
        "absent": np.zeros((2, 3), dtype=np.bool_),
        "lower": np.array([[0.031, np.nan, np.nan], empty]), "upper": np.array([[0.9, np.nan, np.nan], empty]),
        "log10_p_value": np.array([[-7.5, np.nan, np.nan], empty]),
        "effective_samples": np.array([[5.0, 2.0, 4.0], empty]),
        "dispersion": np.array([[1.25, 1.0, 1.0], empty]),
        "missing_ratio": ratio, "invalid_ratio": ratio / 2, "unseen_ratio": ratio, "out_of_range_ratio": ratio,
        "counts": np.array([[2, 7, 0, 0, 1, 0, 1, 0, 1, 0, 0, 7, 0, 0, 1, 0], [0] * 16]),
        "detected": np.array([[1.0, 0.0], [np.nan, np.nan], [np.nan, np.nan]]),
        "reference_probabilities": np.array([[0.4, 0.5, 0, 0, 0.1, 0, 0.5, 0.5, 0, 0, 0, 1, 0, 0, 0, 0]] * 2),
        "reference_rows": np.array([[10, np.inf, 100]] * 2),
        "per_dimension": {2: np.array([[0.5, 0.25], [np.nan] * 2])},
    }  # fmt: skip
    return MonitorSnapshot(**values | changes)


def segmented_loans(**changes):
    """Two segments of 6 and 2 rows, their mix not what it was."""
    whole = loans()
    sizes = [("DE", 6), ("other", 2)]
    values = {
        "segments": tuple(loans(segment=name, samples=np.minimum(whole.samples, rows)) for name, rows in sizes),
        "segment_mix": np.array([0.25, np.nan]),
        "within_segments": np.array([[0.5, np.inf, 0.0], [np.nan] * 3]),
    }
    return loans(**values | changes)


def snapshot(monitor=None):
    """One monitor, without segments unless given."""
    return DriftSnapshot(9, (monitor or loans(),))


def course(n=40, seed=0):
    """Tracks of `n` noisy points a minute each, the KL about 0.01 nats between its bounds."""

    def made(n_windows, n_features):
        kl = np.random.default_rng(seed).gamma(2, 0.005, (n, n_windows, n_features)).astype(np.float32)
        return Track(NOW_MS - 60_000 * np.arange(n)[::-1], kl, 0.7 * kl, 1.5 * kl)

    return made


class Service:
    """The application with its fakes; `seen` is what `on_request` heard."""

    def __init__(self, ingest=None, readers=None, limits=None) -> None:
        self.ingest = ingest or FakeIngest()
        self.readers = readers or FakeReaders()
        self.seen = []
        self.app = App(self.ingest, self.readers, lambda *call: self.seen.append(call), limits or Limits())

    def request(self, method, path, **arguments):
        async def call():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://kldrift") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(call())

    def get(self, path, **arguments):
        return self.request("GET", path, **arguments)

    def post(self, body=b'{"age": 1}\n', path="/v1/monitors/loans/samples", **headers):
        """Post samples; a keyword is a header, with ``_`` for ``-``."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, content=body, headers={"content-type": "application/x-ndjson"} | fields)

    @property
    def held_bytes(self):
        return self.app._ingest._bodies.held_bytes


def call_app(app, scope, messages):
    """Call an ASGI application by hand with the messages that it will receive; what it sent."""
    sent = []
    waiting = iter(messages)

    async def receive():
        return next(waiting, {"type": "http.disconnect"})

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
