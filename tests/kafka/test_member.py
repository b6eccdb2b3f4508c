"""A member of a consumer group whose brokers are gone. No broker is needed: the answers of the client library are
scripted.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kldrift.errors import SourceError
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources import kafka_member
from kldrift.sources.base import Surroundings
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_settings import KafkaLimits
from tests.e2e.processes import until
from tests.kafka.topics import Reader

GONE = KafkaError(KafkaError._ALL_BROKERS_DOWN)
NOBODY_ANSWERS = KafkaException(KafkaError(KafkaError._TRANSPORT))


class Answers:
    """Replaces the library's consumer: no records, and a scripted answer to each request for brokers."""

    def __init__(self) -> None:
        self.given: list[dict[int, object] | KafkaException] = []
        self.n_asked = 0
        self.n_polls = 0
        self.closed = False
        self.is_there = False
        self.on_error: Callable[[KafkaError], None] = lambda _: None

    def __call__(self, settings: dict[str, Any], logger: object) -> "Answers":
        self.on_error = settings["error_cb"]
        return self

    def subscribe(self, topics: list[str], *, on_assign: Callable[..., None], **_: object) -> None:
        self.on_assign = on_assign

    def consume(self, _wanted: int, _seconds: float) -> list[object]:
        if self.n_polls == 0 and self.is_there:
            self.on_assign(self, [])
        elif self.n_polls == 0:
            self.on_error(GONE)
        self.n_polls += 1
        return []

    def list_topics(self, topic: str, seconds: float) -> SimpleNamespace:
        assert seconds > 0
        self.n_asked += 1
        answer = self.given.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return SimpleNamespace(brokers=answer, topics={})

    def committed(self, partitions: list[object], _seconds: float) -> list[object]:
        return partitions

    def incremental_assign(self, partitions: list[object]) -> None:
        """Read nothing."""

    resume = incremental_assign

    def poll(self, _seconds: float) -> None:
        """Deliver nothing."""

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    made = Answers()
    monkeypatch.setattr(kafka_member, "Consumer", made)
    yield made
    assert made.closed


def test_a_broker_that_knows_no_broker_does_not_count_as_back(answers: Answers) -> None:
    """librdkafka #5301: after an answer without brokers the client may never connect again."""
    answers.given = [{}, {}, NOBODY_ANSWERS]
    with Reader("127.0.0.1:9", "t", down_seconds=0.0) as reader:
        until(lambda: reader.failure is not None)
    assert reader.failure is not None
    assert reader.failure.reason == "unreachable"
    assert answers.n_asked == 3


def test_requests_stop_once_a_broker_is_known_again(answers: Answers) -> None:
    answers.given = [{}, {1: object()}]
    with Reader("127.0.0.1:9", "t", down_seconds=0.0) as reader:
        until(lambda: answers.n_asked == 2)
        polls = answers.n_polls
        until(lambda: answers.n_polls > polls + 100)
    assert reader.failure is None
    assert answers.n_asked == 2


def test_brokers_are_requested_only_after_a_while(answers: Answers) -> None:
    with Reader("127.0.0.1:9", "t", down_seconds=60.0) as reader:
        until(lambda: answers.n_polls > 100)
    assert reader.failure is None
    assert answers.n_asked == 0


def test_a_source_is_not_up_before_a_broker_answers(answers: Answers) -> None:
    answers.given = [{}, {}, NOBODY_ANSWERS]
    source = KafkaSource(
        KafkaSourceConfig(name="s", brokers=("nowhere:1",), topic="t", group="g", format="ndjson", start="earliest"),
        Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None),
        limits=KafkaLimits(down_seconds=0.5),
    )
    with closing(source.chunks({}, threading.Event())) as chunks, pytest.raises(SourceError, match="no broker answers"):
        assert next(chunks) == "nothing is yielded"


def test_a_source_without_partitions_is_up_while_brokers_answer(answers: Answers) -> None:
    answers.is_there = True
    source = KafkaSource(
        KafkaSourceConfig(name="s", brokers=("somewhere:1",), topic="t", group="g", format="ndjson", start="earliest"),
        Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None),
    )
    with closing(source.chunks({}, threading.Event())) as chunks:
        assert [next(chunks) for _ in range(2)] == [None, None]
