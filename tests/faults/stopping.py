"""SIGTERM while the worst bodies are being decoded: ``python -m tests.faults.stopping``.

Large bodies from several clients, and hundreds of connections with smaller ones of the same kind. The daemon ends
within the time that is promised, without an error, and whatever it has answered with 200 is there after the next start.
"""

import contextlib
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tests.e2e.processes import Client, daemon, free_port, until
from tests.faults.worst_bodies import BODIES, MIB, MONITORS, STOP_SECONDS

_CONFIG = """\
server: {{listen: "127.0.0.1:{port}", max_body: 64MiB}}
state: {{path: state.db}}
log: {{level: warning}}
monitors:
  good: {{windows: [1h], features: {{x: {{kind: numeric, reference: {{edges: [0, 1, 2], counts: [100, 100]}}}}}}}}
"""
LARGE, SMALL_BYTES = 4, 100_000


def _send(port: int, client: str, monitor: str, media: str, body: bytes, answers: list[bytes]) -> None:
    """Post a body on a connection of its own, which stays open until the daemon has ended."""
    head = f"POST /v1/monitors/{monitor}/samples HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 60, source_address=(client, 0)) as connection,
    ):
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while piece := connection.recv(4096):
            answers.append(piece)


def _post_rows(client: Client, enough: threading.Event, taken: list[int]) -> None:
    while not enough.wait(0.02):
        with contextlib.suppress(OSError):
            headers = {"Content-Type": "application/json"}
            if client.request("/v1/monitors/good/samples", b'{"x": 0.5}', headers)[0] == 200:
                taken.append(1)


def stop_within(media: str, name: str, n_bytes: int, connections: int, folder: Path) -> float:
    """Send bodies of one kind, and SIGTERM while they are decoded; the seconds that stopping took."""
    port = free_port()
    config, log = folder / "kldrift.yaml", folder / "log"
    config.write_text(_CONFIG.format(port=port) + MONITORS)
    make = BODIES[media][name]
    large, small = make(n_bytes), make(SMALL_BYTES)
    answers: list[bytes] = []
    taken: list[int] = []
    enough = threading.Event()
    with daemon(config, port, log) as client:
        bodies = [(f"127.0.0.{2 + i}", large) for i in range(LARGE)] + [("127.0.0.9", small)] * connections
        senders = [
            threading.Thread(target=_send, args=(port, address, ("timed", "plain")[i % 2], media, body, answers))
            for i, (address, body) in enumerate(bodies)
        ]
        good = threading.Thread(target=_post_rows, args=(client, enough, taken))
        for thread in (good, *senders):
            thread.start()
        until(lambda: len(taken) > 5, what="good posts")
        time.sleep(1)  # into the decoding
        began = time.monotonic()
        client.process.send_signal(signal.SIGTERM)
        code = client.process.wait(STOP_SECONDS + 50)
        took = time.monotonic() - began
        enough.set()
        for thread in (good, *senders):
            thread.join()
    said = log.read_text()
    assert code == 0, said
    assert "Traceback" not in said, said
    assert took < STOP_SECONDS, f"{media} {name}: stopping took {took:.1f} s"
    with daemon(config, port, log) as client:  # the last post may have been stored but not answered
        counted = until(lambda: client.metric("kldrift_window_samples", monitor="good", feature="x"))
        assert counted - len(taken) in (0, 1), f"{counted:.0f} counted, {len(taken)} answered with 200"
    return took


def run(kinds: Iterable[tuple[str, str]], n_bytes: int, connections: int, folder: Path) -> dict[str, float]:
    """Stop under each kind of body; the seconds that each took."""
    took = {}
    for number, (media, name) in enumerate(kinds):
        place = folder / str(number)
        place.mkdir()
        took[f"{media} {name}"] = round(stop_within(media, name, n_bytes, connections, place), 1)
    return took


def main() -> None:
    """The full run."""
    kinds = [(media, name) for media, bodies in BODIES.items() for name in bodies]
    with tempfile.TemporaryDirectory() as name:
        for kind, seconds in run(kinds, 60 * MIB, 300, Path(name)).items():
            print(f"{seconds:4.1f} s  {kind}")


if __name__ == "__main__":
    main()
