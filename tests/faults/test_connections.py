"""Connections, bombs and the worst bodies, cut short; `python -m tests.faults.bombs` and so on run them in full."""

from pathlib import Path

from tests.faults import bombs, connections, stopping, worst_bodies


def test_bad_connections_are_ended_on_time_while_good_clients_post(tmp_path: Path) -> None:
    seen = connections.run(100, 100, 20, tmp_path, {"idle": 5, "header": 3, "body": 4})
    assert seen["good posts"] > 500
    assert seen["p99 ms"] < 1000  # the machine may be busy; the full run asks for 100


def test_bombs_are_413_and_do_not_unfold(tmp_path: Path) -> None:
    assert len(bombs.run(1_000_000_000, 1, tmp_path)) == len(bombs.BOMBS)


def test_the_worst_bodies_are_answered_within_the_memory_of_the_unit(tmp_path: Path) -> None:
    assert worst_bodies.run(worst_bodies.MIB, 1, tmp_path).keys() == worst_bodies.BODIES.keys()


def test_sigterm_ends_the_daemon_on_time_whatever_is_being_decoded(tmp_path: Path) -> None:
    kinds = [("application/json", "columns of lists"), ("application/x-ndjson", '{"x":"a"}')]
    assert len(stopping.run(kinds, 60 * stopping.MIB, 100, tmp_path)) == len(kinds)
