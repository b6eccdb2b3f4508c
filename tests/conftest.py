"""What tests of several folders share: real data, tools, a broker, a browser; and which tests are slow."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # imported by the fixtures, as most tests need neither
    from playwright.sync_api import Browser

    from tests.kafka.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
#: Folders of tests that wait for processes, brokers and disks.
SLOW_FOLDERS = ("faults", "kafka", "e2e", "deploy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast`."""
    parser.addoption(
        "--fast", action="store_true", help=f"leave out {', '.join(SLOW_FOLDERS)}, the quick benchmarks and browsers"
    )


def is_slow(path: Path) -> bool:
    """Whether a file of tests, or a folder, is or lies in a slow folder."""
    return path.relative_to(ROOT / "tests").parts[:1] in [(folder,) for folder in SLOW_FOLDERS]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, leave out slow folders."""
    return True if config.getoption("--fast") and is_slow(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--fast`, leave out browsers; else begin with slow folders, so that workers side by side end together."""
    if config.getoption("--fast"):
        in_browser = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=in_browser)
        items[:] = [item for item in items if item not in in_browser]
    items.sort(key=lambda item: not is_slow(item.path))  # stable


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
