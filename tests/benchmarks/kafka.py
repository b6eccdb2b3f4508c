"""A topic of a real broker, already filled, to counts; beside consuming and decoding alone with the same libraries.

python -m tests.benchmarks.kafka [--quick]
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Producer

from tests.benchmarks.pipeline import FEATURES, configuration, data, ndjson
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import free_port, kldrift
from tests.kafka.broker import Broker, broker, jars

PARTITIONS = 12
TOPIC = "rows"

#: What a user would write without kldrift: batches of records, joined, decoded in bulk.
_ALONE = f"""
import io, sys, time
import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
address, rows = sys.argv[1], int(sys.argv[2])
schema = {{f"f{{i}}": pl.Float64 for i in range({len(FEATURES)})}}
started = time.perf_counter()
consumer = Consumer({{"bootstrap.servers": address, "group.id": "alone", "enable.auto.commit": False}})
consumer.assign([TopicPartition("{TOPIC}", partition, OFFSET_BEGINNING) for partition in range({PARTITIONS})])
n = 0
while n < rows:
    values = [message.value() for message in consumer.consume(10_000, 0.1) if message.error() is None]
    if values:
        n += pl.read_ndjson(io.BytesIO(b"\\n".join(values)), schema=schema).height
print(time.perf_counter() - started)
consumer.close()
"""


def fill(node: Broker, rows: int) -> None:
    node.create(TOPIC, PARTITIONS)
    producer = Producer({"bootstrap.servers": node.address, "linger.ms": 50, "queue.buffering.max.messages": 2_000_000})
    written = 0
    while written < rows:
        n = min(50_000, rows - written)
        for k, line in enumerate(ndjson(data(n, seed=written)).splitlines()):
            producer.produce(TOPIC, line, partition=k % PARTITIONS)
        assert producer.flush(120) == 0
        written += n


def alone(node: Broker, rows: int) -> float:
    command = [sys.executable, "-c", _ALONE, node.address, str(rows)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ours(config: Path, rows: int) -> float:
    done = kldrift("run", "--once", "-c", str(config))
    found = re.search(r"([\d,]+) rows in ([\d.]+) s", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1].replace(",", "")) == rows, done.stdout
    return float(found[2])


def rows(quick: bool) -> list[Row]:
    """The one row; none where there is nothing to start a broker from."""
    missing = jars()
    if missing is not None:
        print(f"no Kafka: {missing}", file=sys.stderr)
        return []
    n_rows, times = (20_000, 1) if quick else (400_000, 5)
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder) / "kafka") as node:
        fill(node, n_rows)
        source = f"{{type: kafka, brokers: ['{node.address}'], topic: {TOPIC}}}"
        config = configuration(Path(folder), free_port(), source)
        measured = [(ours(config, n_rows), alone(node, n_rows)) for _ in range(times)]  # in turns: speeds drift
    best_ours, best_alone = (min(seconds) for seconds in zip(*measured, strict=True))
    return [
        Row(
            f"Kafka topic of {n_rows:,} JSON rows × 50 to counts, `run --once`",
            f"{n_rows / best_ours:,.0f} rows/s",
            f"{n_rows / best_alone:,.0f} rows/s",
            "confluent-kafka batches and polars.read_ndjson alone",
            best_alone / best_ours,
            0.7,
        )
    ]


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
