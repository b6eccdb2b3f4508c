"""Kills while a topic is read, cut short; `python -m tests.faults.kafka_kills` and `… .kafka_chaos` run in full.

A daemon that stood still for longer than its session, a broker that goes away and members that come and go are in
`tests/kafka`.
"""

from pathlib import Path

from tests.faults import kafka_kills
from tests.kafka.broker import Broker


def test_records_are_counted_once_through_kills(kafka: Broker, tmp_path: Path) -> None:
    seen = kafka_kills.run(records=200_000, kills=4, per_second=30_000, seed=2, folder=tmp_path, kafka=kafka)
    assert seen["kills"] == 4
    assert seen["kills after something was stored"] > 0
