"""What the ingest endpoint costs over an empty handler, here and on plain uvicorn, and how fast large bodies come in.

    python -m tests.benchmarks.http_handlers [seconds a run]

The server runs in a process of its own; the load comes from wrk (one-row posts) and from a raw-socket client
(large bodies). The fake intake commits in a second thread, in groups, as the engine does.
"""

import asyncio
import collections
import multiprocessing
import queue
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from kldrift.records.samples import Receipt
from kldrift.web.app import App
from kldrift.web.serve import WebServer, bind, new_event_loop

ROW = b'{"amount": 12.5, "age": 41, "country": "DE"}\n'
EXPECTED = b'{"accepted":1,"rejected":0,"late":0,"errors":[]}'
TARGET = "/v1/monitors/loans/samples"


class GroupingIngest:
    """Commits in a thread what came in one turn of the event loop, and wakes the loop once for all of it.

    The thread is woken once a turn too: woken at the first post, it would contend for the GIL with the others.
    """

    def __init__(self, loop) -> None:
        self.loop = loop
        self.waiting = []
        self.groups = queue.SimpleQueue()
        threading.Thread(target=self.commit, daemon=True).start()

    def monitors(self):
        return ("loans",)

    honours_keys = False

    async def submit(self, monitor, format, body, key=None):  # noqa: A002 as the port has it
        if not self.waiting:
            self.loop.call_soon(self.hand_over)
        future = self.loop.create_future()
        self.waiting.append((future, body))
        return await future

    def hand_over(self) -> None:
        self.groups.put(self.waiting)
        self.waiting = []

    def commit(self) -> None:
        while True:
            group = self.groups.get()
            self.loop.call_soon_threadsafe(self.answer, group)

    @staticmethod
    def answer(group):
        receipt = Receipt(1)
        for future, _ in group:
            future.set_result(receipt)


async def empty_handler(scope, receive, send) -> None:
    """Reads the body and answers 200 with as many bytes as a receipt has."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(EXPECTED))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": EXPECTED})


def serve(ports) -> None:
    async def main() -> None:
        ingest = GroupingIngest(asyncio.get_running_loop())
        statuses = collections.Counter()

        def count(handler, status, _seconds) -> None:
            statuses[handler, status] += 1

        servers = [WebServer(app, bind("127.0.0.1", 0)) for app in (App(ingest, None, count), empty_handler)]
        for server in servers:
            await server.start()
        stock_socket = bind("127.0.0.1", 0)
        stock = uvicorn.Server(
            uvicorn.Config(
                empty_handler, http="httptools", ws="none", lifespan="off", interface="asgi3", proxy_headers=False,
                server_header=False, access_log=False, log_config=None, log_level="error",
            )
        )  # fmt: skip
        ports.send((*(server.port for server in servers), stock_socket.getsockname()[1]))
        await stock.serve(sockets=[stock_socket])

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


async def empty_route(request):
    """The same through starlette's routing."""
    await request.body()
    return Response(EXPECTED, media_type="application/json")


def serve_empty(ports) -> None:
    """Empty handlers on the daemon's own server: plain ASGI, and behind starlette's routes."""

    async def main() -> None:
        routed = Starlette(routes=[Route("/v1/monitors/{monitor}/samples", empty_route, methods=["POST"])])
        servers = [WebServer(app, bind("127.0.0.1", 0)) for app in (empty_handler, routed)]
        for server in servers:
            await server.start()
        ports.send([server.port for server in servers])
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def requests_per_second(port, seconds, connections, row=ROW, target=TARGET):
    """One-row posts by wrk; fails on any answer that is not 200."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = row.decode().replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        script.write(
            f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/x-ndjson'\n"
        )
        script.flush()
        url = f"http://127.0.0.1:{port}{target}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in report, report
    assert "Socket errors" not in report, report
    return float(re.search(r"Requests/sec:\s+([\d.]+)", report)[1])


def bytes_per_second(port, size, seconds):
    """Bodies of `size` bytes, one after another on one connection; the receipts are checked."""
    body = (ROW * (size // len(ROW) + 1))[:size]
    head = (
        f"POST {TARGET} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {size}\r\n\r\n"
    ).encode()
    request = head + body
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        until = time.perf_counter() + seconds
        started = time.perf_counter()
        while time.perf_counter() < until:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(EXPECTED):
                piece = connection.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            sent += size
        return sent / (time.perf_counter() - started)


def main(seconds=3, rounds=3) -> None:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sending,), daemon=True)
    server.start()
    ours, empty, stock = receiving.recv()
    try:
        for connections in (1, 16, 64, 256) if shutil.which("wrk") else ():
            rates = collections.defaultdict(list)
            for _ in range(rounds):  # in turn: the machine's speed drifts
                for name, port in (("ours", ours), ("empty", empty), ("stock", stock)):
                    rates[name].append(requests_per_second(port, seconds, connections))

            def ratio(base, rates=rates):
                return statistics.median(a / b for a, b in zip(rates["ours"], rates[base], strict=True))

            print(
                f"one-row posts, {connections:3} connections: {statistics.median(rates['ours']):8.0f} requests/s, "
                f"{ratio('empty'):.2f} x an empty handler here, {ratio('stock'):.2f} x one on uvicorn as it comes"
            )
        for size in (100_000, 800_000, 2_000_000, 8_000_000):
            ours_rate = bytes_per_second(ours, size, seconds) / 1e6
            empty_rate = bytes_per_second(empty, size, seconds) / 1e6
            print(f"bodies of {size / 1e6:3.1f} MB: {ours_rate:6.0f} MB/s, empty handler {empty_rate:6.0f} MB/s")
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
