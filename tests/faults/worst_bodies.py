"""The bodies that cost most for their size: ``python -m tests.faults.worst_bodies``.

For each format, bodies of as many rows, errors or nested values as fit. All are answered, none with an error of ours;
the daemon stays below the memory that the shipped unit and manifests give it, a client that posts single rows meanwhile
does not wait for them, and SIGTERM ends the daemon on time.
"""

import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.processes import Client, daemon, free_port

MIB = 1 << 20
#: What the shipped unit and manifests allow.
MEMORY_BYTES = 1500e6
STOP_SECONDS = 10.0
#: The most that a post of one row may take, for all but one of a hundred.
P99_SECONDS = 0.5

_FEATURES = """\
    features:
      x: {kind: numeric, reference: {edges: [0, 1, 2], counts: [100, 100]}}
      c: {kind: categorical, reference: {counts: {a: 100, b: 100}}}
"""
_CONFIG = """\
server: {{listen: "127.0.0.1:{port}", max_body: 64MiB}}
state: none
log: {{level: warning}}
monitors:
"""
MONITORS = (
    "  plain:\n    windows: [5m]\n" + _FEATURES + "  timed:\n    windows: [5m]\n    timestamp: {field: t, unit: s}\n"
    + _FEATURES
)  # fmt: skip

Body = Callable[[int], bytes]
#: By media type: what fills a body of some bytes.
BODIES: dict[str, dict[str, Body]] = {
    "application/x-ndjson": {
        "x": lambda n: b"x\n" * (n // 2),
        "{}": lambda n: b"{}\n" * (n // 3),
        '{"x":': lambda n: b'{"x":\n' * (n // 6),
        '{"x":"a"}': lambda n: b'{"x":"a"}\n' * (n // 10),
        '{"x":NaN}': lambda n: b'{"x":NaN}\n' * (n // 10),
        "not UTF-8": lambda n: b"\xff\n" * (n // 2),
        "one nested line": lambda n: b'{"y":' + b"[" * (n // 2) + b"]" * (n // 2) + b"}\n",
        "times": lambda n: b'{"t":1}\n' * (n // 8),
    },
    "application/json": {
        "[{},…]": lambda n: b"[" + b"{}," * (n // 3) + b"{}]",
        "[1,…]": lambda n: b"[" + b"1," * (n // 2) + b"1]",
        "[[],…]": lambda n: b"[" + b"[]," * (n // 3) + b"{}]",
        "nested": lambda n: b"[" * (n // 2) + b"]" * (n // 2),
        "columns": lambda n: b'{"x":[' + b"1," * (n // 2) + b"1]}",
        "columns of lists": lambda n: b'{"x":[' + b"[]," * (n // 3) + b"1]}",
        "columns of text": lambda n: b'{"x":[' + b'"a",' * (n // 4) + b"1]}",
        "repeated keys": lambda n: b"[{" + b'"x":1,' * (n // 6) + b'"x":2}]',
    },
    "text/csv": {
        "an open quote": lambda n: b'x,c\n1,"' + b"a\n" * (n // 2),
        "open quotes": lambda n: b"x,c\n" + b'1,"a\n' * (n // 5),
        "short records": lambda n: b"x,c\n" + b"1\n" * (n // 2),
        "text for numbers": lambda n: b"x,c\n" + b"a,b\n" * (n // 4),
        "commas": lambda n: b"x,c\n" + b"," * n,
        "empty cells": lambda n: b"x,c\n" + b",\n" * (n // 2),
    },
}


def _peak_bytes(client: Client) -> int:
    """The most memory that the daemon has held."""
    status = Path(f"/proc/{client.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _post_rows(client: Client, enough: threading.Event) -> list[float]:
    """Post single rows until it is enough; how long each took."""
    took = []
    while not enough.wait(0.05):
        began = time.perf_counter()
        code, answer = client.request("/v1/monitors/plain/samples", b'{"x": 0.5}', {"Content-Type": "application/json"})
        took.append(time.perf_counter() - began)
        assert code == 200, answer
    return took


def run(n_bytes: int, at_once: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Post each body to a monitor with times and to one without, so many at once; to a fresh daemon for each format."""
    seen: dict[str, dict[str, Any]] = {}
    for media_type, bodies in BODIES.items():
        port = free_port()
        config = folder / "kldrift.yaml"
        config.write_text(_CONFIG.format(port=port) + MONITORS)
        with daemon(config, port, folder / "log") as client:
            enough = threading.Event()
            took: list[float] = []
            rows = threading.Thread(target=lambda c=client, e=enough, t=took: t.extend(_post_rows(c, e)))
            rows.start()
            slowest = ("", 0.0)
            for name, make in bodies.items():
                body = make(n_bytes)
                began = time.perf_counter()
                codes = _post_at_once(client, media_type, body, at_once)
                seconds = (time.perf_counter() - began) / len(codes)
                assert all(code < 500 or code == 503 for code in codes), f"{media_type} {name}: {codes}"
                slowest = max(slowest, (name, seconds), key=lambda item: item[1])
            enough.set()
            rows.join()
            took.sort()
            peak = _peak_bytes(client)
            assert peak < MEMORY_BYTES, f"{media_type}: {peak / 1e6:.0f} MB"
            seen[media_type] = {
                "peak MB": round(peak / 1e6),
                "slowest": f"{slowest[0]}: {n_bytes / 1e6 / slowest[1]:.0f} MB/s",
                "rows": len(took),
                "p99 s": round(took[int(len(took) * 0.99)], 3) if took else None,
                "longest s": round(took[-1], 3) if took else None,
            }
            began = time.perf_counter()
            client.process.send_signal(signal.SIGTERM)
            assert client.process.wait(STOP_SECONDS + 5) == 0
            assert time.perf_counter() - began < STOP_SECONDS
        assert "Traceback" not in (folder / "log").read_text()
    return seen


def _post_at_once(client: Client, media: str, body: bytes, at_once: int) -> list[int]:
    codes: list[int] = []

    def post(monitor: str) -> None:
        codes.append(client.request(f"/v1/monitors/{monitor}/samples", body, {"Content-Type": media})[0])

    threads = [threading.Thread(target=post, args=(("timed", "plain")[i % 2],)) for i in range(2 * at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as name:
        seen = run(32 * MIB, 4, Path(name))
    for media, figures in seen.items():
        print(f"{media}: {figures}")
    assert max(figures["p99 s"] for figures in seen.values()) <= P99_SECONDS


if __name__ == "__main__":
    main()
