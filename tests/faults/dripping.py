"""Clients that send a little at a time, or chunks of one byte at full speed: ``python -m tests.faults.dripping``.

Whatever is sent slowly (headers, bodies, chunks, trailers, handshakes, TLS records), its connection is ended on time; a
good client is served meanwhile, and SIGTERM ends the daemon within its promise while all of them go on.
"""

import asyncio
import contextlib
import http.client
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.e2e.processes import KLDRIFT as COMMAND
from tests.e2e.processes import Client, free_port, process, until
from tests.faults.connections import CONFIG, PATH, ROW
from tests.faults.worst_bodies import STOP_SECONDS
from tests.web.certificates import Authority, Pair

_HOST = b"Host: localhost\r\nContent-Type: application/x-ndjson\r\n"
_POST = f"POST {PATH} HTTP/1.1\r\n".encode() + _HOST
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Drip(NamedTuple):
    """What is sent at once, what again and again, and the time limit that ends it."""

    start: bytes
    piece: bytes
    limit: str


DRIPS: Mapping[str, Drip] = {
    "headers by bytes": Drip(_POST + b"X: ", b"a", "header"),
    "headers by fields": Drip(_POST, b"X: a\r\n", "header"),
    "a body by bytes": Drip(_POST + b"Content-Length: 100000\r\n\r\n", b"x", "body"),
    "a body by chunks": Drip(_CHUNKED, b"1\r\nx\r\n", "body"),
    "a size of a chunk": Drip(_CHUNKED, b"0", "body"),
    "an extension of a chunk": Drip(_CHUNKED + b"1;", b"a", "body"),
    "trailers": Drip(_CHUNKED + b"0\r\n", b"X: a\r\n", "body"),
    "a body that is answered already": Drip(
        b"POST /nowhere HTTP/1.1\r\n" + _HOST + b"Content-Length: 100000\r\n\r\n", b"x", "body"
    ),
}
#: By how much the end may come later: two sweeps, and a few seconds for a client that goes on after it was told why.
LATE_SECONDS = 8.0
TIMEOUTS = {"idle": 75, "header": 10, "body": 30}


def _hello(context: ssl.SSLContext) -> bytes:
    """The first message of a handshake."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


async def _drip(port: int, drip: Drip, context: ssl.SSLContext | None, seconds: float) -> float:
    """Send until the daemon ends the connection; the seconds until then."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=("127.0.0.2", 0))
    ended = asyncio.ensure_future(reader.read())
    with contextlib.suppress(OSError):
        writer.write(drip.start)
        while not ended.done() and time.monotonic() < began + seconds:
            writer.write(drip.piece)
            await asyncio.wait([ended], timeout=0.25)
    assert ended.done(), f"not ended within {seconds} s"
    ended.exception()
    writer.close()
    return time.monotonic() - began


async def _all(port: int, each: int, context: ssl.SSLContext | None, seconds: float) -> dict[str, list[float]]:
    """Every kind, each several times at once; the seconds until they were ended."""
    drips = {name: (drip, context) for name, drip in DRIPS.items()}
    if context is not None:
        drips["a handshake by bytes"] = Drip(_hello(context)[:1], b"\x03", "header"), None
        drips["half a handshake"] = Drip(_hello(context)[:100], b"", "header"), None
    runs = {name: [_drip(port, drip, how, seconds) for _ in range(each)] for name, (drip, how) in drips.items()}
    took = await asyncio.gather(*(run for each_run in runs.values() for run in each_run))
    return {name: took[i * each : (i + 1) * each] for i, name in enumerate(runs)}


def _post_rows(port: int, context: ssl.SSLContext | None, enough: threading.Event, took: list[float]) -> None:
    while not enough.wait(0.05):
        began = time.perf_counter()
        connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
        )
        try:
            connection.request("POST", PATH, ROW, {"Content-Type": "application/x-ndjson"})
            assert connection.getresponse().status == 200
            took.append(time.perf_counter() - began)
        except OSError:
            took.append(20.0)
        finally:
            connection.close()


def run(
    each: int, folder: Path, tls: tuple[Authority, Pair] | None = None, timeouts: Mapping[str, int] = TIMEOUTS
) -> dict:
    """Drip in every way, then again while the daemon is stopped; results, of which only the p99 is not asserted."""
    port, log = free_port(), folder / "log"
    config = folder / "kldrift.yaml"
    keys = ", ".join(f"{kind}_timeout: {seconds}s" for kind, seconds in timeouts.items())
    context = None
    if tls is not None:
        authority, pair = tls
        keys += f", tls: {{certificate: {pair.certificate}, key: {pair.key}}}"
        context = ssl.create_default_context(cafile=authority.certificate)
    config.write_text(CONFIG.format(port=port, timeouts=keys))
    took: list[float] = []
    enough = threading.Event()
    with process(COMMAND, "run", "-c", str(config), log=log) as running:
        until(lambda: "level=error" in log.read_text() or _listens(port), what="listening")
        good = threading.Thread(target=_post_rows, args=(port, context, enough, took))
        time.sleep(1)
        good.start()
        longest = max(timeouts[kind] for kind in ("header", "body"))
        seen = asyncio.run(_all(port, each, context, longest + 2 * LATE_SECONDS))
        enough.set()
        good.join()
        for name, seconds in seen.items():
            limit = timeouts[DRIPS[name].limit if name in DRIPS else "header"]
            low, high = min(seconds), max(seconds)
            assert limit - 0.1 <= low, f"{name}: ended after {low:.1f} s, before its {limit} s"
            assert high <= limit + LATE_SECONDS, f"{name}: ended after {high:.1f} s, {limit} s are allowed"
        dripping = threading.Thread(target=lambda: asyncio.run(_all(port, each, context, STOP_SECONDS + 5)))
        dripping.start()
        time.sleep(1)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(STOP_SECONDS + 20) == 0
        stopped = time.monotonic() - began
        dripping.join()
    assert stopped < STOP_SECONDS, f"stopping took {stopped:.1f} s"
    assert "Traceback" not in log.read_text(), log.read_text()
    took.sort()
    return {
        "ended after s": {name: round(max(seconds), 1) for name, seconds in seen.items()},
        "good posts": len(took),
        "p99 s": round(took[int(len(took) * 0.99)], 3),
        "stopped after s": round(stopped, 1),
    }


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.connect()
        return True
    return False


# --- chunks of one byte ----------------------------------------------------------------------------


async def _flood(port: int, connections: int, seconds: float) -> None:
    """Send chunks of one byte on many connections, as fast as they are taken."""

    async def one() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.write(_CHUNKED)
            async with asyncio.timeout(seconds):
                while True:
                    writer.write(b"1\r\n{\r\n" * 40_000)
                    await writer.drain()

    await asyncio.gather(*(one() for _ in range(connections)))


def flood(connections: int, seconds: float, folder: Path) -> dict[str, float]:
    """Post rows while others send chunks of one byte; how long the posts took."""
    port, log = free_port(), folder / "log"
    config = folder / "kldrift.yaml"
    config.write_text(CONFIG.format(port=port, timeouts="idle_timeout: 75s"))
    took: list[float] = []
    enough = threading.Event()
    with process(COMMAND, "run", "-c", str(config), log=log) as running:
        client = Client(port, running, log)
        until(lambda: _listens(port) and client.request("/-/ready")[0] == 200, what="ready")
        command = [sys.executable, "-m", "tests.faults.dripping", "flood", str(port), str(connections), str(seconds)]
        with subprocess.Popen(command) as attacker:
            time.sleep(1)
            good = threading.Thread(target=_post_rows, args=(port, None, enough, took))
            good.start()
            attacker.wait()
        enough.set()
        good.join()
    took.sort()
    return {"good posts": len(took), "median s": round(took[len(took) // 2], 3), "longest s": round(took[-1], 3)}


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder / "authority")
        for tls in (None, (authority, authority.issue("server"))):
            seen = run(100, folder, tls)
            print("TLS" if tls else "plain", seen)
            assert seen["p99 s"] < 0.5
        seen = flood(200, 30, folder)
        print("chunks of one byte", seen)
        assert seen["longest s"] < 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        asyncio.run(_flood(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    else:
        main()
