"""The daemon as a process that reads a topic of a real broker."""

import signal
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.e2e.processes import Client, daemon, free_port, kldrift, until
from tests.kafka.broker import Broker
from tests.kafka.topics import produce

PARTITIONS = 12
N = 20_000

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {state}
engine: {{tick: 200ms}}
sources:
  scores: {{type: kafka, brokers: ["{address}"], topic: {topic}, group: {topic}, member: one}}
monitors:
  coins:
    sources: [scores]
    windows: [1h]
    features:
      coin: {{kind: categorical, reference: {{probabilities: {{heads: 0.5, tails: 0.5}}}}}}
"""


def written(folder: Path, address: str, topic: str, state: str = "none") -> tuple[Path, int]:
    path, port = folder / "kldrift.yaml", free_port()
    path.write_text(CONFIG.format(port=port, address=address, topic=topic, state=state))
    return path, port


def toss(kafka: Broker, topic: str, n: int) -> None:
    """Return n records with the current time, every fourth of them heads."""
    now_ms = time.time_ns() // 1_000_000 - n
    values = [b'{"coin":"heads"}' if k % 4 == 0 else b'{"coin":"tails"}' for k in range(n)]
    produce(kafka.address, topic, values, PARTITIONS, first_ms=now_ms)


def counted(client: Client) -> dict[str, int]:
    found = client.json("/api/v1/monitors/coins/features/coin?window=1h")
    return {cell: n for cell, n in zip(found["cells"], found["live_counts"], strict=True) if n}


def test_every_record_is_counted_once(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("tosses", PARTITIONS)
    toss(kafka, "tosses", N)
    config, port = written(tmp_path, kafka.address, "tosses")
    with daemon(config, port, tmp_path / "log") as client:
        until(lambda: counted(client) == {"heads": N // 4, "tails": N * 3 // 4}, what="every record counted")
        produce(kafka.address, "tosses", [b"\xff", b'{"coin":"heads"', None], PARTITIONS, time.time_ns() // 1_000_000)
        until(lambda: client.metric("kldrift_samples_rejected_total", source="scores", reason="malformed") == 2)
        until(lambda: client.metric("kldrift_source_errors_total", source="scores", reason="tombstone") == 1)
        assert client.metric("kldrift_source_lag_records", source="scores") == 0
        assert counted(client) == {"heads": N // 4, "tails": N * 3 // 4}
    log = (tmp_path / "log").read_text()
    assert f"tosses/2/{N // PARTITIONS + 1}" in log  # the tombstone
    assert "rdkafka" not in log


def test_once_counts_a_topic_to_its_end(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("once", PARTITIONS)
    toss(kafka, "once", N)
    config, _ = written(tmp_path, kafka.address, "once")
    done = kldrift("run", "-c", str(config), "--once")
    assert done.returncode == 0, done.stderr
    assert f"{N:,}" in done.stdout


def test_a_killed_daemon_continues_exactly_where_its_state_is(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("kills", PARTITIONS)
    toss(kafka, "kills", N)
    config, port = written(
        tmp_path, kafka.address, "kills", state=f"{{path: {tmp_path}/state.db, commit_interval: 50ms}}"
    )
    rounds = 3
    for _ in range(rounds):
        with daemon(config, port, tmp_path / "log") as client:
            until(lambda: counted(client))
            client.process.kill()
            client.process.wait()
        toss(kafka, "kills", N)
    with daemon(config, port, tmp_path / "log") as client:
        n = N * (rounds + 1)
        until(lambda: sum(counted(client).values()) >= n, what="every record counted")
        assert counted(client) == {"heads": n // 4, "tails": n * 3 // 4}


def test_a_daemon_stopped_for_longer_than_its_session_counts_nothing_twice(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("still", PARTITIONS)
    toss(kafka, "still", N)
    config, port = written(tmp_path, kafka.address, "still")
    config.write_text(config.read_text().replace(", member: one", ""))
    admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})

    def members() -> int:
        return len(admin.describe_consumer_groups(["still"])["still"].result(10).members)

    with daemon(config, port, tmp_path / "log") as client:
        until(lambda: counted(client) == {"heads": N // 4, "tails": N * 3 // 4})
        client.process.send_signal(signal.SIGSTOP)
        toss(kafka, "still", N)
        until(lambda: members() == 0, what="the end of the session")
        client.process.send_signal(signal.SIGCONT)
        until(lambda: sum(counted(client).values()) >= 2 * N, what="every record counted")
        assert client.metric("kldrift_source_errors_total", source="scores", reason="lost") == 1
        assert counted(client) == {"heads": N // 2, "tails": N * 3 // 2}


def test_a_source_is_down_as_long_as_no_broker_answers(tmp_path: Path) -> None:
    config, port = written(tmp_path, f"127.0.0.1:{free_port()}", "tosses")
    with daemon(config, port, tmp_path / "log") as client:
        until(lambda: "no broker answers" in (tmp_path / "log").read_text())
        seen = set()
        for _ in range(30):  # long enough for two attempts
            seen.add(client.metric("kldrift_source_up", source="scores"))
            time.sleep(0.3)
    assert seen == {0}
