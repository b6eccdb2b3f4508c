"""The daemon as a process: samples in, divergences out, reload, orderly stop."""

import gzip
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.processes import KLDRIFT, Client, daemon, free_port, kldrift, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: none
engine: {{tick: 100ms}}
monitors:
  coins:
    windows: [5m]
    smoothing: none
    features:
      coin: {{kind: categorical, reference: {{probabilities: {{heads: 0.5, tails: 0.5}}}}}}
  sizes:
    windows: [5m, 1h]
    features:
      size: {{kind: numeric, reference: {{edges: [0, 1, 2, 4], counts: [500, 300, 200]}}}}
"""


def written(folder: Path, port: int, text: str = CONFIG) -> Path:
    path = folder / "kldrift.yaml"
    path.write_text(text.format(port=port))
    return path


def rows(**counts: int) -> bytes:
    return b"".join(json.dumps({"coin": side}).encode() + b"\n" for side, n in counts.items() for _ in range(n))


def test_the_worked_example_through_the_whole_daemon(tmp_path: Path) -> None:
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        assert client.metric("kldrift_kl_divergence_nats", feature="coin") is None  # empty: no series, not 0
        assert client.metric("kldrift_window_samples", feature="coin") == 0
        answer = client.post("coins", rows(heads=400, tails=600))
        assert answer["accepted"] == 1000
        kl = until(lambda: client.metric("kldrift_kl_divergence_nats", monitor="coins", feature="coin"))
        assert round(kl, 7) == 0.0201355
        assert client.metric("kldrift_window_ready", feature="coin") == 1


def test_every_format_is_taken_and_counted_the_same(tmp_path: Path) -> None:
    import io

    import polars as pl

    values = [0.5, 1.5, 1.5, 3.0, None]
    arrow = io.BytesIO()
    pl.DataFrame({"size": values}).write_ipc_stream(arrow)
    bodies = {
        "application/x-ndjson": "\n".join(json.dumps({"size": v}) for v in values).encode(),
        "application/json": json.dumps([{"size": v} for v in values]).encode(),
        "application/json; charset=utf-8": json.dumps({"size": values}).encode(),
        "text/csv": b'size\n0.5\n1.5\n1.5\n3.0\n""\n',
        "application/vnd.apache.arrow.stream": arrow.getvalue(),
    }
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        for media, body in bodies.items():
            assert client.post("sizes", body, media)["accepted"] == 5, media
        body = gzip.compress(b'{"size": 0.5}\n')
        code, _ = client.request(
            "/v1/monitors/sizes/samples", body, {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        )
        assert code == 200

        def counts() -> list[int]:
            return client.json("/api/v1/monitors/sizes/features/size?window=1h")["live_counts"]

        until(lambda: sum(counts()) == 26, what="all counted")
        assert counts() == [6, 10, 5, 0, 0, 5, 0]


def test_a_bad_record_costs_nobody_else_their_data(tmp_path: Path) -> None:
    port = free_port()
    body = b'{"size": 0.5}\nnot json\n{"size": "1.5"}\n[1]\n{"size": 3, "other": {"deep": [1]}}\n{"siz'
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        answer = client.post("sizes", body)
        assert answer["accepted"] == 3
        assert answer["rejected"] == 3
        assert [error["row"] for error in answer["errors"]] == [1, 2, 3, 5]
        assert answer["errors"][1]["feature"] == "size"
        assert client.metric("kldrift_values_invalid_total", monitor="sizes", feature="size") == 1
        assert client.metric("kldrift_samples_received_total", source="http") == 6
        until(lambda: client.metric("kldrift_window_samples", feature="size", window="5m") == 3)
        assert client.metric("kldrift_invalid_ratio", feature="size", window="5m") == pytest.approx(1 / 3)


def test_a_web_page_neither_reads_nor_reloads_a_daemon_on_loopback(tmp_path: Path) -> None:
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        assert client.request("/api/v1/monitors", headers={"Host": "evil.example"})[0] == 421
        assert client.request("/api/v1/monitors", headers={"Host": f"localhost:{port}"})[0] == 200
        assert client.request("/-/reload", headers={"Origin": "http://evil.example"}, method="POST")[0] == 403
        assert client.request("/-/reload", method="POST")[0] == 200
        assert client.metric("kldrift_config_last_reload_successful") == 1


def test_unknown_monitors_and_media_types_are_told_what_there_is(tmp_path: Path) -> None:
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        code, answer = client.request("/v1/monitors/coin/samples", b"{}", {"Content-Type": "application/x-ndjson"})
        assert code == 404
        assert b"coins" in answer
        code, answer = client.request("/v1/monitors/coins/samples", b"{}", {"Content-Type": "text/yaml"})
        assert code == 415
        assert b"application/x-ndjson" in answer
        code, answer = client.request("/v1/monitors/coins/samples", b"", {"Content-Type": "application/x-ndjson"})
        assert code == 400
        assert b"empty" in answer


def test_reload_keeps_the_counts_of_unchanged_monitors_and_refuses_a_bad_file(tmp_path: Path) -> None:
    port = free_port()
    path = written(tmp_path, port)
    with daemon(path, port, tmp_path / "log") as client:
        client.post("coins", rows(heads=3, tails=1))
        client.post("sizes", b'{"size": 1}\n' * 7)
        path.write_text(CONFIG.format(port=port).replace("kind: categorical", "kind: categoric"))
        code, answer = client.request("/-/reload", b"")
        assert code == 500
        assert b"kldrift.yaml:9: monitors.coins.features.coin.kind" in answer
        assert client.metric("kldrift_config_last_reload_successful") == 0

        path.write_text(CONFIG.format(port=port).replace("[0, 1, 2, 4]", "[0, 1, 2, 5]"))
        client.process.send_signal(signal.SIGHUP)
        until(lambda: client.metric("kldrift_config_last_reload_successful") == 1, what="reloaded")
        assert client.metric("kldrift_window_samples", feature="coin") == 4
        assert client.metric("kldrift_window_samples", feature="size", window="1h") == 0
        assert "sizes" in client.log.read_text()  # it started anew, and says so


def test_sigterm_ends_it_in_order_with_exit_code_0(tmp_path: Path) -> None:
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(10) == 0


def test_files_are_followed(tmp_path: Path) -> None:
    port = free_port()
    text = CONFIG + ("sources: {{log: {{type: file, path: 'rows*.ndjson', format: ndjson, follow: true}}}}\n")
    config = written(tmp_path, port, text.replace("  sizes:\n", "  sizes:\n    sources: [log]\n"))

    def seen(client: Client) -> float | None:
        return client.metric("kldrift_window_samples", feature="size", window="1h")

    with daemon(config, port, tmp_path / "log") as client:
        live = tmp_path / "rows.ndjson"
        live.write_text('{"size": 1}\n{"size": 2}\n{"si')
        until(lambda: seen(client) == 2, what="two whole lines")
        with live.open("a") as file:
            file.write('ze": 3}\n')
        until(lambda: seen(client) == 3, what="the line completed")
        live.rename(tmp_path / "rows.1.ndjson")
        live.write_text('{"size": 1}\n')
        until(lambda: seen(client) == 4, what="the new file, and the old one not again")


def test_a_port_in_use_is_said_clearly(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = kldrift("run", "-c", str(written(tmp_path, port)))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_standard_input_is_a_source(tmp_path: Path) -> None:
    text = CONFIG + "sources: {{pipe: {{type: stdin, format: ndjson}}}}\n"
    config = written(tmp_path, free_port(), text.replace("  sizes:\n", "  sizes:\n    sources: [pipe]\n"))
    done = kldrift("run", "--once", "-c", str(config), stdin=b'{"size": 1}\n' * 1000 + b'{"size": 3}')
    assert done.returncode == 0, done.stderr
    assert "1,001 rows" in done.stdout


@pytest.mark.parametrize("arguments", [("version",), ("schema",), ("--help",), ("run", "--help")])
def test_small_commands(arguments: tuple[str, ...]) -> None:
    done = kldrift(*arguments)
    assert done.returncode == 0
    assert done.stdout


def test_check_prints_the_plan_and_bad_files_exit_2(tmp_path: Path) -> None:
    done = kldrift("check", "-c", str(written(tmp_path, 1)))
    assert done.returncode == 0, done.stderr
    assert "ok: 2 monitors, 2 features" in done.stdout
    done = kldrift("check", "-c", str(tmp_path / "absent.yaml"))
    assert done.returncode == 2
    assert "absent.yaml" in done.stderr
    bad = written(
        tmp_path, 1, CONFIG.replace("[0, 1, 2, 4]", "[0, 1, 1, 4]").replace("windows: [5m]", "windows: [5 m]")
    )
    done = kldrift("check", "-c", str(bad))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 2


def test_the_demo_drifts_and_ends(tmp_path: Path) -> None:
    log = tmp_path / "demo"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [KLDRIFT, "demo", "--port", "0", "--drift-after", "6s", "--duration", "26s"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        assert running.wait(90) == 0, log.read_text()
    lines = [line for line in log.read_text().splitlines() if line.startswith("KL over")]
    assert "critical" not in lines[0]
    assert "score" in lines[-1]
    assert "country" in lines[-1]
    assert lines[-1].split("country ")[1].split()[1] == "critical"
    assert lines[-1].split("score ")[1].split()[1] == "quiet"


def test_check_counts_the_series_that_are_exported(tmp_path: Path) -> None:
    from kldrift.assembly.monitors import build_monitors
    from kldrift.cli.check import n_series
    from kldrift.config.load import load_config
    from kldrift.export.drift_metrics import render_drift
    from kldrift.records.samples import SampleBatch
    from kldrift.records.snapshots import DriftSnapshot

    monitors = build_monitors(load_config(written(tmp_path, 1)).monitors, created_ms=1)
    for monitor in monitors:
        column = np.full(100, 0.5) if monitor.features[0].kind == "numeric" else np.zeros(100, dtype=np.int32)
        monitor.add(SampleBatch(100, (column,)), "s", 0)
        rendered = render_drift(DriftSnapshot(0, (monitor.evaluate(0),)), openmetrics=False)
        assert rendered.series == n_series(monitor)


def test_sigterm_does_not_wait_for_a_reference_that_is_being_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.csv")  # nobody writes to it: to read it takes for ever
    port = free_port()
    text = f'server: {{listen: "127.0.0.1:{port}"}}\nmonitors: {{m: {{windows: [5m], features: {{x: %s}}}}}}\n'
    endless = text % "{kind: numeric, reference: {data: endless.csv}}"
    (tmp_path / "kldrift.yaml").write_text(endless)
    log = tmp_path / "log"
    with process(KLDRIFT, "run", "-c", "kldrift.yaml", log=log, cwd=tmp_path) as running:
        client = Client(port, running, log)

        def status(path: str) -> int:
            try:
                return client.request(path)[0]
            except OSError:
                return 0

        until(lambda: status("/-/healthy") == 200, what="listening")
        assert status("/-/ready") == 503
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    (tmp_path / "kldrift.yaml").write_text(text % "{kind: numeric, reference: {edges: [0, 1], counts: [1000]}}")
    with process(KLDRIFT, "run", "-c", "kldrift.yaml", log=log, cwd=tmp_path) as running:
        client = Client(port, running, log)
        until(lambda: status("/-/ready") == 200, what="ready")
        (tmp_path / "kldrift.yaml").write_text(endless)
        running.send_signal(signal.SIGHUP)
        code, _ = client.request("/v1/monitors/m/samples", b'{"x": 0.5}', {"Content-Type": "application/json"})
        assert code == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    assert "Traceback" not in log.read_text()
    assert log.read_text().splitlines()[-1].endswith("msg=stopped rows_counted=1")


def test_the_demo_ends_with_its_terminal(tmp_path: Path) -> None:
    log = tmp_path / "demo"
    with process(KLDRIFT, "demo", "--port", "0", "--drift-after", "1h", log=log) as running:
        until(lambda: "Ctrl-C" in log.read_text() and "KL over" in log.read_text(), 60, "the first line")
        running.send_signal(signal.SIGHUP)
        assert running.wait(15) == 0, log.read_text()


def test_a_state_that_is_taken_away_is_said_and_nothing_is_confirmed_until_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    config = written(tmp_path, port, CONFIG.replace("state: none", 'state: {{path: "state/state.db"}}'))
    state, away = tmp_path / "state", tmp_path / "away"
    state.mkdir()
    with daemon(config, port, tmp_path / "log") as client:
        client.post("coins", rows(heads=400, tails=600))
        state.rename(away)
        state.mkdir()
        body = rows(heads=7)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k"}
        assert client.request("/v1/monitors/coins/samples", body, headers)[0] == 503
        assert "state.db has been removed while kldrift was using it" in client.log.read_text()
        state.rmdir()
        away.rename(state)
        until(lambda: client.request("/v1/monitors/coins/samples", body, headers)[0] == 200)
        assert client.metric("kldrift_window_samples", feature="coin") == 1007
    with daemon(config, port, tmp_path / "log") as client:
        until(lambda: client.metric("kldrift_window_samples", feature="coin") == 1007)


def test_a_post_of_which_nothing_counts_is_answered_at_once_with_a_state(tmp_path: Path) -> None:
    port = free_port()
    text = CONFIG.replace("state: none", 'state: {{path: "state.db"}}').replace(
        "  coins:\n", "  coins:\n    timestamp: {{field: t, unit: s}}\n"
    )
    bodies = (b'{"coin":', b'"a string"', b'{"coin": "heads", "t": "noon"}', b'{"coin": "heads", "t": 9000000000}')
    with daemon(written(tmp_path, port, text), port, tmp_path / "log") as client:
        for body in bodies * 2:
            began = time.monotonic()
            client.request("/v1/monitors/coins/samples", body, {"Content-Type": "application/x-ndjson"})
            assert time.monotonic() - began < 5  # it took 120 s, or another post


GOOD = b'{"coin": "heads"}\n{"coin": "tails"}\n'
COINS = "monitors: {coins: {sources: [s], windows: [1h], features: {coin: {kind: categorical, reference: {%s}}}}}\n"


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("missing.ndjson", None, "found none; check the path and the working directory"),
        ("*.ndjson", None, "found none; check the path and the working directory"),
        ("cut.ndjson.gz", gzip.compress(GOOD * 1000, mtime=0)[:50], "1 of 1 files could not be read to their end"),
        ("bad.parquet", b"junk", "1 of 1 files could not be read to their end"),
        ("empty.ndjson", b"", "expected rows, found none"),
        ("blank.ndjson", b"\n\n", "none could be read: {folder}/blank.ndjson: empty body"),
        ("junk.ndjson", b"x\ny\n", "none could be read: {folder}/junk.ndjson: none of the 2 rows could be read"),
        ("other.csv", b"a,b\n1,2\n", "none could be read: {folder}/other.csv: no column of the header is a feature"),
        ("semi.csv", b"coin;n\nheads;1\n", "none could be read: {folder}/semi.csv: no column of the header"),
    ],
)
def test_once_exits_1_where_a_source_could_not_be_read(tmp_path: Path, name: str, body: bytes | None, why: str) -> None:
    data_format = {".csv": "csv", ".parquet": "parquet"}.get(Path(name).suffix, "ndjson")
    config = tmp_path / "kldrift.yaml"
    source = f'state: none\nsources: {{s: {{type: file, path: "{name}", format: {data_format}}}}}\n'
    config.write_text(source + COINS % "probabilities: {heads: 0.5, tails: 0.5}")
    if body is not None:
        (tmp_path / name).write_bytes(body)
    done = kldrift("run", "--once", "-c", str(config))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("source s: ")
    assert why.format(folder=tmp_path) in last
    assert "0 rows in" in done.stdout


def test_once_exits_1_for_one_bad_file_among_good_ones(tmp_path: Path) -> None:
    config = tmp_path / "kldrift.yaml"
    source = 'state: none\nsources: {s: {type: file, path: "*.ndjson", format: ndjson}}\n'
    config.write_text(source + COINS % "probabilities: {heads: 0.5, tails: 0.5}")
    for name in ("a", "b"):
        (tmp_path / f"{name}.ndjson").write_bytes(GOOD)
    assert kldrift("run", "--once", "-c", str(config)).returncode == 0
    (tmp_path / "c.ndjson").write_bytes(b"not JSON\n")
    done = kldrift("run", "--once", "-c", str(config))
    assert done.returncode == 1
    assert "4 rows in" in done.stdout
    assert f"{tmp_path}/c.ndjson: none of the 1 rows could be read" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_start_says_why_it_compiles_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    shared = tmp_path / "cache"
    shared.write_text("a file where the directory would be")
    monkeypatch.setenv("KLDRIFT_CACHE_DIR", str(shared))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    config = written(tmp_path, port)
    with process(KLDRIFT, "run", "-c", str(config), log=tmp_path / "log"):
        said = until(lambda: [line for line in (tmp_path / "log").read_text().splitlines() if "compile" in line], 60)
    assert 'msg="compiled kernels cannot be kept, so every start compiles them"' in said[0]
    assert f"{shared}/kldrift-" in said[0]
    assert "Not a directory; set KLDRIFT_CACHE_DIR" in said[0]
