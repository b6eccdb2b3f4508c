"""Fuzzing, cut short; `python -m tests.faults.fuzz` runs it in full."""

from pathlib import Path

from tests.faults import fuzz


def test_damaged_payloads_cost_themselves_only(tmp_path: Path) -> None:
    seen = fuzz.run(20_000, tmp_path)
    assert seen["decoded"] + seen["requests"] == 20_000
    assert {200, 400, 404, 405, 415} <= seen["answers"].keys()
