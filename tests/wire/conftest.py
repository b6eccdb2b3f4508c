"""What is decoded from NDJSON and CSV is the same by the kernels and without: tests of that run in both ways."""

import sys
from collections.abc import Iterator

import pytest

from kldrift.kernels import compilation
from kldrift.kernels.parsing import csv_records
from kldrift.wire import ndjson

BOTH_WAYS = {f"tests.wire.test_{name}" for name in ("csv", "ndjson", "missing_values", "spellings", "vocabularies")}


@pytest.fixture(scope="module")
def decoded_by(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether the kernel takes whatever it can, or nothing."""
    compilation.warm_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson, "SCAN_BYTES", 0 if request.param == "kernel" else sys.maxsize)
        patch.setattr(csv_records, "is_ready", lambda: request.param == "kernel")
        yield request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules in both ways."""
    if metafunc.module.__name__ in BOTH_WAYS:
        metafunc.fixturenames.append("decoded_by")
        metafunc.parametrize("decoded_by", ["kernel", "general"], indirect=True, scope="module")
