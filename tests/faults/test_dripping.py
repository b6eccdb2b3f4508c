"""Slow senders and tiny chunks, cut short; `python -m tests.faults.dripping` runs them in full."""

from pathlib import Path

import pytest

from tests.faults import dripping
from tests.web.certificates import Authority

TIMEOUTS = {"idle": 5, "header": 3, "body": 4}


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
def test_whoever_sends_slowly_is_ended_on_time_and_does_not_delay_the_stop(tmp_path: Path, secured: bool) -> None:
    authority = Authority(tmp_path / "authority") if secured else None
    seen = dripping.run(10, tmp_path, None if authority is None else (authority, authority.issue("server")), TIMEOUTS)
    assert seen["p99 s"] < 1  # the machine may be busy; the full run asks for half of it
    assert len(seen["ended after s"]) == len(dripping.DRIPS) + 2 * secured


def test_chunks_of_one_byte_do_not_hold_up_others(tmp_path: Path) -> None:
    seen = dripping.flood(50, 5, tmp_path)
    assert seen["good posts"] > 10
    assert seen["median s"] < 0.5  # it took 16 s
