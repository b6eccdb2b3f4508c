"""Small real implementations of the ports, and a client that calls the application without a socket."""

import asyncio
from gzip import compress

import httpx
import numpy as np

from kldrift.records import DIVERGENCES, DriftSnapshot, FeatureInfo, MonitorSnapshot, Receipt
from kldrift.web.app import App
from kldrift.web.body import Limits
from kldrift.web.ports import SourceStatus, Status


class FakeIngest:
    """Keeps what it is given; answers with `answer`, a Receipt or an exception."""

    def __init__(self, answer=None, monitors=("loans", "a/b ü")):
        self.answer = answer or Receipt(1)
        self.names = monitors
        self.bodies = []

    def monitors(self):
        return self.names

    async def submit(self, monitor, format, body):  # noqa: A002 as the port has it
        self.bodies.append((monitor, format, body))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class FakeReaders:
    def __init__(self, ready=True, problems=()):
        self.ready = ready
        self.problems = list(problems)
        self.asked = []

    def snapshot(self):
        return snapshot()

    def status(self):
        return Status(
            ready=self.ready,
            reason="" if self.ready else "kernels are being compiled",
            version="0.1.0",
            started_ms=1_700_000_000_000,
            config_path="kldrift.yaml",
            sources=(SourceStatus("files", up=False, lag_records=3, last_error="no such file"),),
            warnings=("series limit",),
        )

    async def exposition(self, openmetrics, gzip):
        self.asked.append((openmetrics, gzip))
        return compress(b"metrics") if gzip else b"metrics"

    async def reload(self):
        return self.problems


def snapshot():
    """One monitor, two windows, two features of 3 and 2 cells; the second window of each is empty."""
    edges = np.array([-np.inf, 0.5, np.inf])
    age = FeatureInfo(
        "age", "numeric", edges, None, ("[-inf, 0.5)", "[0.5, inf]", "missing"),
        np.array([4, 5, 1]), np.array([0.4, 0.5, 0.1]), 10.0, 5, "b1", "r1", 0.01, 0.1,
    )  # fmt: skip
    city = FeatureInfo(
        "home/city, ü 100%", "categorical", None, ("München", "other"), ("München", "other"),
        None, np.array([0.5, 0.5]), np.inf, 5, "b2", "r2", 0.01, 0.1, "too short",
    )  # fmt: skip
    divergences = np.full((2, 2, len(DIVERGENCES)), np.nan)
    divergences[0, 0] = np.arange(len(DIVERGENCES)) / 8
    divergences[0, 1] = np.inf
    ratio = np.array([[0.1, 0.0], [np.nan, np.nan]])
    loans = MonitorSnapshot(
        name="loans", windows=("5m", "1h"), features=(age, city), smoothing="none", exported=("kl",), at_ms=7,
        offsets=np.array([0, 3, 5]), samples=np.array([[10, 2], [0, 0]]), divergences=divergences,
        noise_floor=np.array([[0.2, 0.3], [np.nan, np.nan]]), ready=np.array([[True, False], [False, False]]),
        lower=np.array([[0.0, np.nan], [np.nan, np.nan]]), upper=np.array([[0.9, np.nan], [np.nan, np.nan]]),
        log10_p_value=np.array([[-0.3, np.nan], [np.nan, np.nan]]),
        effective_samples=np.array([[5.0, 2.0], [np.nan, np.nan]]),
        missing_ratio=ratio, unseen_ratio=ratio, out_of_range_ratio=ratio,
        counts=np.array([[2, 7, 1, 2, 0], [0, 0, 0, 0, 0]]),
    )  # fmt: skip
    return DriftSnapshot(9, (loans,))


class Service:
    """The application with its fakes; `seen` is what `on_request` heard."""

    def __init__(self, ingest=None, readers=None, limits=None):
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

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
