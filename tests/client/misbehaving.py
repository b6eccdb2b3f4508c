"""A small HTTP server that follows a script, one word per request, and counts rows by key as the daemon does."""

import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    lines: list[bytes]


@dataclass
class Site:
    """Received requests and the script: ``ok``; a status, ``503``, ``503 retry-after=1``; ``reset`` before it is
    read; ``unanswered`` (counted, then the connection is closed); ``garbage``; ``html``; ``slow`` (counted, no answer
    for a while); ``close`` (counted, answered, and the idle connection closed). `otherwise` after the script."""

    words: deque[str] = field(default_factory=deque)
    otherwise: str = "ok"
    largest: int = 1 << 30
    slow_seconds: float = 1.0
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    counted: dict[str, list[bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rows(self) -> list[Any]:
        """Return the rows that were counted, each key once, in order."""
        with self.lock:
            return [json.loads(line) for lines in self.counted.values() for line in lines]


@contextmanager
def misbehaving(words: Iterable[str] = (), **more: Any) -> Iterator[Site]:
    site = Site(words=deque(words), **more)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with site.lock:
                site.connections += 1

        def do_POST(self) -> None:
            with site.lock:
                word = site.words.popleft() if site.words else site.otherwise
            if word == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.split(b"\n")
            headers = {name.lower(): value for name, value in self.headers.items()}
            with site.lock:
                site.seen.append(Seen(self.path, headers, lines))
            if word == "garbage":
                self.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
                self.close_connection = True
                return
            if word == "html":
                self.answer(200, b"<html>welcome</html>")
                return
            if word[0].isdigit():
                status, *pairs = word.split()
                self.answer(int(status), b'{"error": "as scripted"}', dict(pair.split("=") for pair in pairs))
                return
            if len(lines) > site.largest:
                self.answer(413, b'{"error": "too large"}')
                return
            with site.lock:
                known = site.counted.setdefault(headers["idempotency-key"], lines)
            assert known == lines, "another body with the same key"
            if word == "unanswered":
                self.close_connection = True
                return
            if word == "slow":
                threading.Event().wait(site.slow_seconds)
            self.answer(200, b'{"accepted": %d, "rejected": 0, "late": 0, "errors": []}' % len(lines))
            self.close_connection = word == "close"

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            with suppress(OSError):
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # it closes its own connections

    with Server(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
