"""A command in the tests' own process, where it need not wait two seconds for the interpreter and its imports."""

import io
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from kldrift.cli.app import app


def kldrift(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What ``kldrift`` with these arguments prints, and its exit code.

    For commands that end by themselves and leave the process as it was. `tests.e2e.processes.kldrift` runs the
    installed command instead: at least one test of each command does, as do all tests of ``run``.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: int | str | None = 0
    with (
        chdir(cwd or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", "80")  # as wide as where there is no terminal
        try:
            app([*arguments], prog_name="kldrift")
        except SystemExit as ended:
            code = ended.code
    assert code is None or isinstance(code, int), code
    printed, complained = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(["kldrift", *arguments], code or 0, printed, complained)
