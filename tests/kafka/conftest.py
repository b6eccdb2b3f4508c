"""One broker for all tests of this folder that do not stop it."""

from collections.abc import Iterator

import pytest

from tests.conftest import absent
from tests.kafka.broker import Broker, broker, jars


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """What a broker is started from."""
    missing = jars()
    if missing is not None:
        absent(missing)


@pytest.fixture(scope="session")
def kafka(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("kafka")) as made:
        yield made
