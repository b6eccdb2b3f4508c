"""The mock brokers built into librdkafka: fast, within one process, and enough for tests with a single reader."""

from collections.abc import Iterable

from confluent_kafka import Producer


class MockKafka:
    """Three brokers that live as long as this object; writing to a topic creates it with four partitions."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 3, "log_level": 0})
        self.brokers = tuple(
            f"{broker.host}:{broker.port}" for broker in self._producer.list_topics(timeout=10).brokers.values()
        )

    def write(self, topic: str, values: Iterable[bytes | None], partition: int = 0, first_ms: int = 1000) -> None:
        """Write values to a partition; record k has the time ``first_ms + k``."""
        self._producer.list_topics(topic, timeout=10)
        for k, value in enumerate(values):
            self._producer.produce(topic, value, partition=partition, timestamp=first_ms + k)
        assert self._producer.flush(10) == 0
