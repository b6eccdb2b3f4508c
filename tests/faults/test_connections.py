"""Connections and bombs, cut short; `python -m tests.faults.connections` and `… .bombs` run them in full."""

from pathlib import Path

from tests.faults import bombs, connections


def test_bad_connections_are_ended_on_time_while_good_clients_post(tmp_path: Path) -> None:
    seen = connections.run(100, 100, 20, tmp_path, {"idle": 5, "header": 3, "body": 4})
    assert seen["good posts"] > 500
    assert seen["p99 ms"] < 1000  # the machine may be busy; the full run asks for 100


def test_bombs_are_413_and_do_not_unfold(tmp_path: Path) -> None:
    assert len(bombs.run(1_000_000_000, 1, tmp_path)) == len(bombs.BOMBS)
