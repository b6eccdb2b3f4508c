"""What tests of several folders share: real data, tools, a broker, a browser; and which tests are slow."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import is_hypothesis_test, settings

if TYPE_CHECKING:  # imported by the fixtures, as most tests need neither
    from playwright.sync_api import Browser

    from tests.kafka.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
#: Folders of tests that wait for processes, brokers and disks, and the quick cuts of long measurements.
SLOW_FOLDERS = ("faults", "kafka", "e2e", "deploy", "benchmarks", "evidence", "mutants")
#: Fixtures that are programs of others, and take seconds for each test.
SLOW_FIXTURES = {"browser", "promtool"}
#: One in so many examples of hypothesis is left with `--fast`.
FEWER_EXAMPLES = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast`."""
    parser.addoption(
        "--fast",
        action="store_true",
        help=f"leave out {', '.join(SLOW_FOLDERS)}, tests marked slow and those with {' or '.join(SLOW_FIXTURES)};"
        f" try one in {FEWER_EXAMPLES} examples of hypothesis",
    )


def is_slow(path: Path) -> bool:
    """Whether a file of tests, or a folder, is or lies in a slow folder."""
    return path.relative_to(ROOT / "tests").parts[:1] in [(folder,) for folder in SLOW_FOLDERS]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, leave out slow folders."""
    return True if config.getoption("--fast") and is_slow(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--fast`, leave out slow tests; else begin with slow folders, so that workers side by side end together."""
    if not config.getoption("--fast"):
        items.sort(key=lambda item: not is_slow(item.path))  # stable
        return
    left_out = [
        item
        for item in items
        if item.get_closest_marker("slow") or SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
    tried_less({item.function for item in items if isinstance(item, pytest.Function)})


def tried_less(tests: set[Callable[..., None]]) -> None:
    """Let tests of hypothesis try fewer examples, whatever number each asks for."""
    for test in filter(is_hypothesis_test, tests):
        asked = test._hypothesis_internal_use_settings  # there is no public way to what a test asked for
        fewer = settings(asked, max_examples=max(1, asked.max_examples // FEWER_EXAMPLES))
        test._hypothesis_internal_use_settings = fewer


def absent(what: str) -> None:
    """Skip with a reason; in CI, where it has to be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} has to be there in CI")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets."""
    if not (SHARED / "data").is_dir():
        absent("../shared/data")
    return SHARED / "data"


@pytest.fixture(scope="session")
def golden_statistics() -> Path:
    """Vectors made by an independent program."""
    path = SHARED / "golden" / "statistics.json"
    if not path.is_file():
        absent("../shared/golden/statistics.json")
    return path


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker."""
    found = shutil.which("promtool")
    if found is None:
        absent("promtool")
    assert found is not None
    return found


@pytest.fixture(scope="module")  # while it is open there is a running event loop, which other tests must not meet
def browser() -> "Iterator[Browser]":
    """Debian's Chromium without a window."""
    from tests.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """What a broker is started from."""
    from tests.kafka.broker import jars

    missing = jars()
    if missing is not None:
        absent(missing)


@pytest.fixture(scope="session")
def kafka(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Broker]":
    """One broker for all tests that do not stop it."""
    from tests.kafka.broker import broker

    with broker(tmp_path_factory.mktemp("kafka")) as made:
        yield made
