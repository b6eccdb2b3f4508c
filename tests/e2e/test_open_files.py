"""The daemon where it may open few files."""

import contextlib
import socket
from pathlib import Path

from tests.e2e.processes import KLDRIFT, Client, free_port, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db}}
engine: {{tick: 100ms}}
monitors:
  m:
    windows: [5m]
    features:
      x: {{kind: numeric, reference: {{edges: [0, 1, 2], counts: [100, 100]}}}}
"""


def test_with_64_open_files_it_says_so_and_counts_on_while_a_client_opens_all_the_connections_it_can(
    tmp_path: Path,
) -> None:
    port = free_port()
    config, log = tmp_path / "kldrift.yaml", tmp_path / "log"
    config.write_text(CONFIG.format(port=port))
    limited = ("sh", "-c", 'ulimit -n 64; exec "$0" run -c "$1"', KLDRIFT, str(config))
    with process(*limited, log=log) as running, contextlib.ExitStack() as stack:
        client = Client(port, running, log)
        until(lambda: "msg=ready" in log.read_text(), 60, "ready")
        assert "connections=16 wanted=4096" in log.read_text()
        assert "raise it (ulimit -n)" in log.read_text()
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", 0)))
        until(lambda: "too_many=connections" in log.read_text(), what="refusals")
        for _ in range(20):
            assert client.post("m", b'{"x": 1}\n')["accepted"] == 1
        assert client.metric("kldrift_samples_counted_total", monitor="m") == 20
    assert "rows_counted=20" in log.read_text()
    assert "level=error" not in log.read_text()
