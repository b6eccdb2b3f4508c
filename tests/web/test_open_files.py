"""The limit of open files; asked in a process of its own, because it cannot be set back."""

import subprocess
import sys

import pytest

from kldrift.web.open_files import RESERVED, connections_within

CODE = """
import resource
from kldrift.web.open_files import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(*raise_open_files({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "expected"),
    [
        (128, 512, 300, [128, 300, 300]),
        (128, 512, 900, [128, 512, 512]),
        (400, 512, 300, [400, 400, 400]),
    ],
    ids=["raised", "as far as the hard limit", "never lowered"],
)
def test_the_soft_limit_is_raised_within_the_hard_one(soft: int, hard: int, wanted: int, expected: list[int]) -> None:
    code = CODE.format(soft=soft, hard=hard, wanted=wanted)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert list(map(int, done.stdout.split())) == expected


@pytest.mark.parametrize(
    ("open_files", "expected"),
    [(64, 16), (256, 64), (RESERVED + 200, 200), (5000, 4096), (3, 1)],
    ids=["few", "as many as are reserved", "all but the reserved", "as many as are wanted", "next to none"],
)
def test_where_files_are_few_a_quarter_of_them_are_connections(open_files: int, expected: int) -> None:
    assert connections_within(open_files, 4096) == expected
