"""Errors of the disk, cut short; `python -m tests.faults.disk_errors` runs them in full."""

from pathlib import Path

import pytest

from tests.faults import disk_errors
from tests.faults.disk_starts import BAD_STARTS, run_starts
from tests.faults.injection import FAULTS, untraceable
from tests.kafka.broker import Broker


@pytest.fixture(scope="module", autouse=True)
def tracing() -> None:
    """System calls can be replaced."""
    reason = untraceable()
    if reason is not None:
        pytest.skip(reason)


def test_errors_of_the_disk_are_no_false_answer_and_no_loss(kafka: Broker, tmp_path: Path) -> None:
    kills: tuple[disk_errors.Kill, ...] = ("never", "never", "after", "within")
    rounds = list(zip(FAULTS, kills, strict=True))
    seen = disk_errors.run(rounds, 2, 50, tmp_path, kafka)
    assert seen["refused"] > 0
    assert seen["kills"] == 2
    assert seen["longest scrape s"] < 10  # the machine may be busy; the full run asks for 1


def test_a_daemon_that_cannot_open_its_state_says_so_and_ends(tmp_path: Path) -> None:
    assert run_starts(BAD_STARTS[:4], tmp_path) == 4
