"""What tests of several folders share."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


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
