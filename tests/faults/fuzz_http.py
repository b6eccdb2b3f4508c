"""Requests that are damaged in every part, to a real daemon."""

import collections
import random
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.processes import Client, daemon, free_port
from tests.faults.payloads import FORMATS, SEEDS, encoded, mutant

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: none
engine: {{threads: 1}}
log: {{level: warning}}
monitors:
  m:
    windows: [5m]
    timestamp: {{field: ts, unit: iso8601}}
    features:
      x: {{kind: numeric, reference: {{edges: [0, 1, 2], counts: [100, 100]}}}}
      c: {{kind: categorical, reference: {{counts: {{red: 10, green: 20, blue: 30}}}}}}
  n:
    windows: [5m]
    segments: {{by: s}}
    features:
      x: {{kind: numeric, reference: {{edges: [0, 1, 2], counts: [100, 100]}}}}
"""
#: Requests between two looks at the metrics.
LOOK_EVERY = 2_000

_MEDIA = {
    "ndjson": b"application/x-ndjson",
    "json": b"application/json",
    "csv": b"text/csv",
    "arrow": b"application/vnd.apache.arrow.stream",
}
_METHODS = (b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"BREW", b"post", b"P\x00ST", b"CONNECT")
_PATHS = (
    b"/v1/monitors/n/samples?ack=received", b"/v1/monitors/m/samples?ack=%ff", b"/v1/monitors//samples",
    b"/v1/monitors/m/samples/", b"/v1/monitors/%00/samples", b"/v1/monitors/%ff%fe/samples", b"/v1/monitors/../samples",
    b"/v1/monitors/%ed%a0%80/samples", b"/v1/monitors/m/", b"/v1/monitors", b"//v1/monitors/m/samples", b"/metrics?x=%",
    b"/api/v1/monitors/m", b"/api/v1/monitors/m/features/x?window=%ff", b"/api/v1/monitors/%ff", b"/", b"/-/ready",
    b"/api/v1/monitors/n?segment=%ed%a0%80", b"http://127.0.0.1/metrics", b"/" + b"a" * 3000, b"/\xff\xfe", b"/%", b"",
    b"*",
)  # fmt: skip
_HEADERS = (
    b"Accept: \xff", b"Accept-Encoding: gzip;q=\xff", b"Accept: application/openmetrics-text;version=1e999",
    b"Content-Type: text/csv; charset=\xff", b"Idempotency-Key: ", b"Idempotency-Key: a", b"Idempotency-Key: \xff",
    b"Expect: 100-continue", b"Connection: close", b"Connection: Upgrade", b"Upgrade: websocket", b"Host: \xff",
    b"Authorization: Bearer \xff", b"Authorization: Basic =", b"Range: bytes=0-1", b"X: " + b"x" * 9000, b"X-\x00: 1",
    b"Content-Length: 9", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b" folded", b"no colon", b": no name", b"\xff\xfe: 1",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is sent; `framed` where its end is where it says, so that the connection can go on after it."""

    data: bytes
    framed: bool
    head_only: bool


def request_of(rng: random.Random) -> Request:
    """A request that may be wrong anywhere."""
    body_format = rng.choice(FORMATS)
    body = rng.choice(SEEDS[body_format]) if rng.random() < 0.1 else mutant(rng, body_format)
    coding, body = encoded(rng, body) if rng.random() < 0.4 else (b"", body)
    method = rng.choice(_METHODS) if rng.random() < 0.08 else b"POST"
    path = b"/v1/monitors/%b/samples" % rng.choice((b"m", b"n")) if rng.random() < 0.8 else rng.choice(_PATHS)
    media = _MEDIA[body_format] if rng.random() < 0.9 else rng.choice((*_MEDIA.values(), b"text/plain", b"\xff", b""))
    head = [b"%b %b HTTP/1.1" % (method, path), b"Host: localhost", b"Content-Type: " + media]
    if coding:
        head.append(b"Content-Encoding: " + coding)
    framed = method not in (b"CONNECT", b"post", b"P\x00ST") and path not in (b"", b"*")
    if rng.random() < 0.15:
        cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(4)))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        head.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    else:
        head.append(b"Content-Length: %d" % len(body))
    if rng.random() < 0.1:
        framed = False
        head.insert(rng.randrange(1, len(head) + 1), rng.choice(_HEADERS))
    data = b"\r\n".join((*head, b"", b"")) + body
    if rng.random() < 0.05:
        framed = False
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 9)):
            damaged[rng.randrange(min(300, len(damaged)))] = rng.randrange(256)
        data = bytes(damaged[: rng.randrange(len(damaged)) + 1])
    return Request(data, framed, method == b"HEAD")


class Sender:
    """Sends requests one after another, on one connection for as long as that lasts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None
        self._was_used = False

    def send(self, request: Request) -> list[int]:
        """The statuses of what was answered: one of a request that is framed; else none, or more."""
        if not request.framed:
            self.close()
        for _ in range(2):
            answer = self._once(request)
            if answer or not (request.framed and self._was_used):  # what had been kept may have been ended meanwhile
                break
        assert answer or not request.framed, f"no answer to {request.data!r}"
        return statuses_of(answer)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _once(self, request: Request) -> bytes:
        self._was_used = self._connection is not None
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = b""
        try:
            self._connection.sendall(request.data)
            if not request.framed:
                self._connection.shutdown(socket.SHUT_WR)
            while not (request.framed and is_whole(answer, request.head_only)):
                piece = self._connection.recv(65536)
                if not piece:
                    self.close()
                    return answer
                answer += piece
        except (ConnectionResetError, BrokenPipeError):  # it was refused before it was read
            self.close()
            return answer
        if not request.framed or b"connection: close" in answer.partition(b"\r\n\r\n")[0].lower():
            self.close()
        return answer


def is_whole(answer: bytes, head_only: bool) -> bool:
    """Whether an answer has come to its end."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if head_only:
        return True
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return body.endswith(b"0\r\n\r\n") if b"transfer-encoding: chunked" in head.lower() else True


def statuses_of(answer: bytes) -> list[int]:
    """The status of each answer among some bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def look_at_metrics(client: Client) -> None:
    """They are there, and parse."""
    code, text = client.request("/metrics")
    assert code == 200, text
    families = list(text_string_to_metric_families(text.decode()))
    assert any(family.name == "kldrift_samples_counted" for family in families)


def run(requests: int, folder: Path, seed: int = 1) -> collections.Counter[int]:
    """Send so many; answers by status."""
    port = free_port()
    config = folder / "kldrift.yaml"
    config.write_text(CONFIG.format(port=port))
    log = folder / "log"
    statuses: collections.Counter[int] = collections.Counter()
    with daemon(config, port, log) as client:
        sender = Sender(port)
        for number in range(requests):
            request = request_of(random.Random(f"{seed} {number}"))
            for status in sender.send(request):
                statuses[status] += 1
                assert 100 <= status < 500 or status in (501, 503), f"request {number}: {status} to {request.data!r}"
            assert client.process.poll() is None, f"request {number} ended the daemon: {request.data!r}"
            if number % LOOK_EVERY == 0:
                look_at_metrics(client)
        sender.close()
        look_at_metrics(client)
        if shutil.which("promtool"):
            text = client.request("/metrics")[1]
            subprocess.run(["promtool", "check", "metrics"], input=text, check=True, capture_output=True)
        assert client.post("n", b'{"x": 0.5}\n')["accepted"] == 1
    told = log.read_text()
    assert "Traceback" not in told, told[-3000:]
    assert statuses[200] > requests / 20, f"most were to be read, at least in part: {statuses}"
    return statuses
