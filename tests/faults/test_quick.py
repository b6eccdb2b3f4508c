"""The fault runs, cut short; `python -m tests.faults` runs them in full."""

from pathlib import Path

from tests.faults import disk_full, file_kills, http_kills


def test_posts_with_keys_are_counted_once_through_kills(tmp_path: Path) -> None:
    seen = http_kills.run(posts=2_000, kills=4, seed=2, folder=tmp_path)
    assert seen["kills"] == 4
    assert seen["retries"] > 0


def test_lines_of_rotated_files_are_counted_once_through_kills(tmp_path: Path) -> None:
    seen = file_kills.run(lines=100_000, kills=4, seed=2, folder=tmp_path)
    assert seen["kills"] == 4
    assert seen["rotations"] > 0


def test_lines_of_rotated_files_out_of_the_pattern_are_counted_once_through_kills(tmp_path: Path) -> None:
    seen = file_kills.run(lines=100_000, kills=4, seed=3, folder=tmp_path, path="live.ndjson")
    assert seen["kills"] == 4
    assert seen["rotations"] > 0


def test_a_full_disk_is_no_false_answer_and_no_loss(tmp_path: Path) -> None:
    assert disk_full.run(posts=50, seconds_full=3, folder=tmp_path)["refused while full"] > 0
