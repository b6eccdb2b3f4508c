"""Run tests against mutants: a process of pytest collects once, and forks for each."""

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Literal, NoReturn

import pytest

from tests.mutants.mutations import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent

Outcome = Literal["killed", "timed out", "survived"]

#: For so many mutants of a folder, its tests are run once to find the lines that each of them runs; then a mutant meets
#: only those that run its own, the fastest first. For fewer, it meets all, first those of files that name its module.
LEAST_FOR_COVERAGE = 12
#: What a mutant may take for a test: this many times what the test took, and seconds for a busy machine.
TIMES_LONGER, SECONDS_LONGER = 10, 10.0
#: The same where that is not known.
SECONDS_WITHOUT_COVERAGE = 20.0
#: What a process tells of each test.
PASSED, FAILED = b".", b"F"
#: Bytes that a mutant may allocate.
MAX_MEMORY = 4 << 30


@dataclass(frozen=True)
class Result:
    """What became of a mutant: the test that killed it, or how many ran and saw nothing."""

    mutant: Mutant
    outcome: Outcome
    by: str
    n_tests: int
    seconds: float


@dataclass(frozen=True)
class Covered:
    """Seconds that each test takes, and the tests that run a line, by file and number."""

    seconds: dict[str, float]
    tests: dict[tuple[str, int], set[str]]


def tests_of(file: str) -> str:
    """Return the folder of the tests that have to kill the mutants of a file."""
    return "tests/" + file.split("/")[1]


def module_of(file: str) -> str:
    """Return the name that a file is imported by."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Mutants:
    """A plugin of pytest that, instead of running the tests, runs them against each mutant.

    Parameters
    ----------
    chosen : what to try, one after another
    report : called with each result
    folder : for temporary files
    """

    def __init__(self, chosen: Sequence[Mutant], report: Callable[[Result], None], folder: Path) -> None:
        self._chosen = chosen
        self._report = report
        self._folder = folder
        self._n_by_tests = Counter(tests_of(mutant.file) for mutant in chosen)
        self._covered: dict[str, Covered] = {}

    def pytest_configure(self) -> None:
        """Let tests of hypothesis try the same examples each time, and not look for simpler ones that fail."""
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutants", database=None, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
        )
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant."""
        if session.testsfailed:
            raise session.Failed("a file of tests could not be imported")
        from kldrift.kernels import compilation

        compilation.warm_up()
        for file in {mutant.file for mutant in self._chosen}:
            importlib.import_module(module_of(file))  # some are imported only where they are needed
        functions = _functions()
        for mutant in self._chosen:
            swap = _swap(mutant, functions)
            if swap is not None:
                items = [item for item in session.items if item.nodeid.startswith(tests_of(mutant.file) + "/")]
                self._report(self._try(mutant, swap, items))
        return True

    def _try(self, mutant: Mutant, swap: Callable[[], None], items: list[pytest.Item]) -> Result:
        if self._n_by_tests[tests_of(mutant.file)] >= LEAST_FOR_COVERAGE:
            covered = self._coverage_of(tests_of(mutant.file), items)
            noticing = set().union(*(covered.tests.get((mutant.file, line), ()) for line in mutant.lines))
            items = sorted(
                (item for item in items if item.nodeid in noticing), key=lambda item: covered.seconds[item.nodeid]
            )
            limits = [TIMES_LONGER * covered.seconds[item.nodeid] + SECONDS_LONGER for item in items]
        else:
            module = module_of(mutant.file)
            naming = {path: module in path.read_text() for path in {item.path for item in items}}
            items = sorted(items, key=lambda item: not naming[item.path])
            limits = [SECONDS_WITHOUT_COVERAGE] * len(items)
        begun = time.perf_counter()
        outcome, passed = _forked(lambda tell: _run_mutant(items, swap, tell), limits)
        by = "" if outcome == "survived" else items[passed].nodeid
        return Result(mutant, outcome, by, len(items), time.perf_counter() - begun)

    def _coverage_of(self, tests: str, items: list[pytest.Item]) -> Covered:
        if tests not in self._covered:
            self._covered[tests] = _covered(items, self._folder)
        return self._covered[tests]


def _functions() -> dict[tuple[str, str, int], list[FunctionType]]:
    """Return the functions of the package: by file, name and first line."""
    found = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__module__ and each.__module__.startswith("kldrift."):
            code = each.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)
    return found


def _swap(mutant: Mutant, functions: dict[tuple[str, str, int], list[FunctionType]]) -> Callable[[], None] | None:
    """Return what puts the mutant in place, whoever has imported its function; None where Python does not let it."""
    path = str(ROOT / mutant.file)
    name, line = mutant.outer
    pending: list[CodeType] = [compile(mutant.text, path, "exec", dont_inherit=True)]
    while (code := pending.pop()) and (code.co_qualname, code.co_firstlineno) != (name, line):
        pending += [each for each in code.co_consts if isinstance(each, CodeType)]
    in_place = functions.get((path, name, line), [])
    if not in_place or any(len(code.co_freevars) != len(each.__code__.co_freevars) for each in in_place):
        return None

    def swap() -> None:
        for each in in_place:
            each.__code__ = code

    return swap


class _Failed:
    """A plugin that notes whether a test failed, and why."""

    def __init__(self) -> None:
        self.why = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note it."""
        if report.failed:
            self.why += report.longreprtext or "failed"


def _run(items: Sequence[pytest.Item], tell: Callable[[bytes], object]) -> str:
    """Run tests until one fails, and tell of each that is done; return why it failed."""
    failed = _Failed()
    items[0].config.pluginmanager.register(failed)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if failed.why:
            break
        tell(PASSED)
    return failed.why


def _run_mutant(items: Sequence[pytest.Item], swap: Callable[[], None], tell: Callable[[bytes], object]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    swap()
    if _run(items, tell):
        tell(FAILED)


def _forked(run: Callable[[Callable[[bytes], object]], None], limits: Sequence[float]) -> tuple[Outcome, int]:
    """Run tests in a process of its own, which may take so many seconds for each; return how many passed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _child(run, write)
    os.close(write)
    passed = 0
    outcome: Outcome = "survived"
    while passed < len(limits) and outcome == "survived":
        if not select.select([read], [], [], limits[passed])[0]:
            outcome = "timed out"
        elif os.read(read, 1) == PASSED:
            passed += 1
        else:  # it failed, or took the process with it
            outcome = "killed"
    os.close(read)
    # With what it started; it has a group of its own, unless it was too early.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return outcome, passed


def _child(run: Callable[[Callable[[bytes], object]], None], write: int) -> NoReturn:
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silence, descriptor)
        run(lambda told: os.write(write, told))
    finally:
        os._exit(0)


class _Lines:
    """A plugin that notes the lines of the package that each test runs, in any thread, and its seconds."""

    def __init__(self) -> None:
        self.now: set[tuple[str, int]] = set()
        self.seconds: dict[str, float] = {}
        self.by_test: dict[str, set[tuple[str, int]]] = {}
        #: by file of tests: the lines of fixtures that many tests share
        self.shared: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._package = f"{ROOT}/kldrift/"

    def trace(self, frame: FrameType, event: str, arg: object) -> Callable[[FrameType, str, object], Any] | None:
        """Follow the lines of functions of the package."""
        path = frame.f_code.co_filename
        if not path.startswith(self._package):
            return None
        file = path[len(str(ROOT)) + 1 :]

        def line(frame: FrameType, event: str, arg: object) -> Any:
            self.now.add((file, frame.f_lineno))
            return line

        return line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note a test."""
        self.now = set()
        begun = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - begun
        self.by_test[item.nodeid] = self.now
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note what other tests of the file will not run again."""
        if fixturedef.scope == "function":
            return (yield)
        before, self.now = self.now, set()
        result = yield
        self.shared[request.node.nodeid.partition("::")[0]] |= self.now
        self.now |= before
        return result


def _covered(items: list[pytest.Item], folder: Path) -> Covered:
    """Run tests once, and find the lines that each of them runs; they have to pass."""
    found = folder / "covered.json"
    found.unlink(missing_ok=True)  # that of other tests

    def run(tell: Callable[[bytes], object]) -> None:
        lines = _Lines()
        items[0].config.pluginmanager.register(lines)
        threading.settrace(lines.trace)
        sys.settrace(lines.trace)
        why = _run(items, tell)
        sys.settrace(None)
        tests = [
            (name, lines.seconds[name], sorted(own | lines.shared[name.partition("::")[0]]))
            for name, own in lines.by_test.items()
        ]
        found.write_text(why or json.dumps(tests))
        tell(FAILED if why else PASSED)

    outcome, passed = _forked(run, [300.0] * (len(items) + 1))
    if outcome != "survived":
        why = found.read_text() if found.exists() else f"it took its process with it, or {outcome}"
        raise pytest.UsageError(f"expected tests that pass, got {items[passed].nodeid}:\n{why}")
    covered = Covered({}, defaultdict(set))
    for name, seconds, lines in json.loads(found.read_text()):
        covered.seconds[name] = seconds
        for file, number in lines:
            covered.tests[file, number].add(name)
    return covered
