"""Change the code in small ways, and see whether the fast tests notice: ``python -m tests.mutants``.

Each mutant (a boundary moved, `and` for `or`, a branch inverted, one more or less, nothing returned) of `SCOPE` runs
against the tests of its own folder until one fails. Those that survive are listed with their change. Either a test is
missing, or there is code that nothing needs, or the change is none that anyone could see: then `equivalents.txt` gets
an entry with the reason.
"""

import argparse
import collections
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.mutants.equivalents import equivalents
from tests.mutants.mutations import Mutant, mutants
from tests.mutants.running import ROOT, Mutants, Outcome, Result, tests_of

#: What is mutated: folders, whose tests are in the folder of that name, and files of `web` that decide who gets in, and
#: what is counted.
SCOPE = (
    "kldrift/drift",
    "kldrift/engine",
    "kldrift/sources",
    "kldrift/state",
    *(f"kldrift/web/{name}.py" for name in ("access", "body", "guard", "ingest", "protocol")),
)
#: What is left out of it: its tests start a broker (`tests/kafka`), and are too slow to run for each mutant.
LEFT_OUT = ("kldrift/sources/kafka_member.py",)
LEAST_KILLED = 0.9


def files_of(paths: Iterable[str]) -> list[str]:
    """Return the files in scope that lie at some paths, from the repository's root."""
    found = [path for scope in SCOPE for path in _python_files(ROOT / scope)]
    wanted = [(ROOT / path).resolve() for path in paths]
    return [
        str(path.relative_to(ROOT))
        for path in found
        if (not wanted or any(path == each or each in path.parents for each in wanted))
        and str(path.relative_to(ROOT)) not in LEFT_OUT
    ]


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def every_mutant(files: Iterable[str], equivalent: bool = False) -> list[Mutant]:
    """Return the mutants of files: those that are listed as equivalent, or the others."""
    known = equivalents()
    return [mutant for file in files for mutant in mutants(ROOT, file) if (mutant.key in known) == equivalent]


def drawn(every: Sequence[Mutant], sample: int | None, seed: str) -> list[Mutant]:
    """Draw some mutants; as long as the line of one stays the same, changes of others do not exchange it."""
    if sample is None:
        return list(every)
    first = sorted(every, key=lambda mutant: mutant.rank(seed))[:sample]
    return sorted(first, key=lambda mutant: (mutant.file, mutant.line))


def run(chosen: Sequence[Mutant], unexpected: Callable[[Outcome], bool]) -> list[Result]:
    """Try mutants, and print what was not expected."""
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        if unexpected(result.outcome):
            what = f"{result.outcome} by {result.by}" if result.by else f"survived {result.n_tests} tests"
            print(f"{what}: {result.mutant}", flush=True)

    folders = sorted({tests_of(mutant.file) for mutant in chosen})
    with tempfile.TemporaryDirectory() as folder:
        code = pytest.main(
            [
                *("--fast", "-s", "-n0", "-qq", "--no-header", "--no-summary", "-p", "no:cacheprovider"),
                *("--basetemp", f"{folder}/tests", "-o", "tmp_path_retention_policy=none"),
                *folders,
            ],
            plugins=[Mutants(chosen, report, Path(folder))],
        )
    if code != pytest.ExitCode.OK:
        sys.exit(f"pytest ended with {code!r}")
    return results


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", default=[], metavar="PATH", help="files or folders (default: all)")
    parser.add_argument("--sample", type=int, metavar="N", help="how many to draw (default: all)")
    parser.add_argument("--seed", default=time.strftime("%F"), help="of the draw (default: the day)")
    parser.add_argument("--least", type=float, default=LEAST_KILLED, help="share to be killed (default: %(default)s)")
    parser.add_argument("--equivalents", action="store_true", help="try those that are listed as such: all survive")
    asked = parser.parse_args()
    chosen = drawn(every_mutant(files_of(asked.files), asked.equivalents), asked.sample, asked.seed)
    print(f"{len(chosen)} mutants, seed {asked.seed}", flush=True)
    begun = time.perf_counter()
    results = run(chosen, lambda outcome: (outcome == "survived") != asked.equivalents)
    killed = [result for result in results if result.outcome != "survived"]
    tried = collections.Counter(result.mutant.file for result in results)
    killed_of = collections.Counter(result.mutant.file for result in killed)
    for file, n in tried.items():
        print(f"{killed_of[file]:4} of {n:4} killed  {file}")
    late = sum(result.outcome == "timed out" for result in killed)
    seconds = time.perf_counter() - begun
    print(f"{len(killed)} of {len(results)} killed, {late} of them by a time limit, in {seconds:.0f} s")
    if len(results) < len(chosen):
        print(f"{len(chosen) - len(results)} could not be put in place: without them a function has no `super`")
    sys.exit(bool(killed) if asked.equivalents else len(killed) < asked.least * len(results))


if __name__ == "__main__":
    main()
