"""The command on a few mutants; `python -m tests.mutants` tries them all."""

import subprocess
import sys
from pathlib import Path

from tests.mutants.__main__ import every_mutant, files_of
from tests.mutants.equivalents import equivalents
from tests.mutants.mutations import mutants
from tests.mutants.running import ROOT


def command(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ten_random_mutants_are_killed() -> None:
    # Drawn at random once, and each stays until its own line changes: so a commit that passes today passes tomorrow,
    # and what fails is one that changes a line which no test of its folder sees. Ten others each day would fail at
    # whatever commit comes along, since one in ten may survive. If one of yours does: mend the tests, or list it.
    command("--sample", "10", "--seed", "ten-2", "--least", "1")


def test_mutants_that_are_listed_as_equivalent_survive() -> None:
    command("--sample", "3", "--seed", "three", "--equivalents")


def test_every_mutant_that_is_listed_exists_and_has_a_reason() -> None:
    existing = {mutant.key for mutant in every_mutant(files_of([]), equivalent=True)}
    assert [key for key in equivalents() if key not in existing] == []  # its line has changed: is it still equivalent?
    assert all(equivalents().values())


def test_the_changes_of_a_function(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        '''
LIMIT = 5

def f(x: int = 3, *, flag: bool = False) -> int | None:
    """Return 1."""
    assert x > 0
    if x >= 10 and not (
        flag  # or not
    ):
        return None
    x += 1
    return [
        y for y in "ä" if y
    ]
'''
    )
    found = mutants(tmp_path, "some.py")
    assert [(mutant.line, mutant.before, mutant.after) for mutant in found] == [
        (7, "if x >= 10 and not (", "if not (x >= 10 and not ("),
        (7, "if x >= 10 and not (", "if x >= 10 or not ("),
        (7, "if x >= 10 and not (", "if x > 10 and not ("),
        (7, "if x >= 10 and not (", "if x < 10 and not ("),
        (7, "if x >= 10 and not (", "if x >= 11 and not ("),
        (7, "if x >= 10 and not (", "if x >= 9 and not ("),
        (7, "if x >= 10 and not (", "if x >= 10 and ("),
        (11, "x += 1", "x -= 1"),
        (11, "x += 1", "x += 2"),
        (11, "x += 1", "x += 0"),
        (12, "return [", "return None"),
        (13, 'y for y in "ä" if y', 'y for y in "ä" if not y'),
    ]
    assert {mutant.text.count(b"\n") for mutant in found} == {14}
    assert {mutant.outer for mutant in found} == {("f", 4)}
