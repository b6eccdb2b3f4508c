"""A source with a new name in the configuration continues where it was; its rows are counted once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kldrift.config.load import load_config
from kldrift.daemon.parts import Parts
from kldrift.engine.engine import Engine
from kldrift.export.telemetry import Telemetry
from tests.e2e.processes import until

SOURCE = "{type: file, path: '%s.ndjson', format: ndjson, follow: true}"
MONITOR = """
  %s:
    windows: [5m]
    sources: [%s]
    features:
      coin: {kind: categorical, reference: {counts: {heads: 500, tails: 500}}}
"""


def configured(folder: Path, sources: dict[str, str], monitors: dict[str, str]) -> Path:
    """Write a configuration of sources (name → file) and monitors (name → source)."""
    lines = [f"  {name}: {SOURCE % path}\n" for name, path in sources.items()]
    text = "state: {path: state.db, commit_interval: 50ms}\nsources:\n" + "".join(lines) + "monitors:"
    (folder / "kldrift.yaml").write_text(text + "".join(MONITOR % pair for pair in monitors.items()))
    return folder / "kldrift.yaml"


@contextmanager
def running(file: Path) -> Iterator[Parts]:
    parts = Parts(load_config(file), Telemetry())
    parts.build()
    parts.start_sources()
    try:
        yield parts
    finally:
        parts.stop_sources()
        parts.stop()


def add(folder: Path, rows: int, name: str = "in") -> None:
    with (folder / f"{name}.ndjson").open("a") as file:
        file.write('{"coin": "heads"}\n' * rows)


def samples(engine: Engine) -> dict[str, int]:
    engine.evaluate()
    return {monitor.name: int(monitor.samples[0, 0]) for monitor in engine.snapshot.monitors}


def settles(parts: Parts, source: str, expected: dict[str, int]) -> None:
    """Wait until these rows are counted, and the place of the source is stored."""
    engine = parts.engine
    assert engine is not None
    until(lambda: samples(engine) == expected and engine.stored_positions(source))


@pytest.mark.parametrize("pattern", ["in", "*"])
def test_after_a_reload_and_back_each_row_is_counted_once(tmp_path: Path, pattern: str) -> None:
    add(tmp_path, 50)
    with running(configured(tmp_path, {"a": pattern}, {"m": "a"})) as parts:
        settles(parts, "a", {"m": 50})
        for n, name in enumerate(("b", "a", "c"), start=1):
            parts.reload(load_config(configured(tmp_path, {name: pattern}, {"m": name})))
            add(tmp_path, 1)
            settles(parts, name, {"m": 50 + n})
            assert parts.engine is not None
            assert [*parts.engine.positions] == [name]


@pytest.mark.parametrize("pattern", ["in", "*"])
def test_after_restarts_each_row_is_counted_once(tmp_path: Path, pattern: str) -> None:
    add(tmp_path, 50)
    for n, name in enumerate(("a", "b", "b", "a")):
        with running(configured(tmp_path, {name: pattern}, {"m": name})) as parts:
            settles(parts, name, {"m": 50 + n})
            add(tmp_path, 1)
            settles(parts, name, {"m": 51 + n})


def test_a_kill_before_the_name_is_stored_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, 50)
    with running(configured(tmp_path, {"a": "in"}, {"m": "a"})) as parts:
        settles(parts, "a", {"m": 50})
    file = configured(tmp_path, {"b": "in"}, {"m": "b"})
    with monkeypatch.context() as patch:
        patch.setattr("kldrift.state.sqlite.SqliteStore._write", lambda *_: None)  # nothing is stored from here on
        with running(file) as parts:
            settles(parts, "b", {"m": 50})
    add(tmp_path, 1)
    with running(file) as parts:
        settles(parts, "b", {"m": 51})


@pytest.mark.parametrize(
    "start",
    [
        lambda parts, file: parts.reload(load_config(file)),
        None,
    ],
    ids=["reload", "restart"],
)
def test_a_source_of_the_same_files_for_a_new_monitor_is_read_from_the_beginning(
    tmp_path: Path, start: Callable[[Parts, Path], None] | None
) -> None:
    """Whether the old source is still there or not."""
    add(tmp_path, 50)
    for name, before, after in [
        ("both", {"m": "a"}, {"m": "a", "n": "b"}),
        ("other", {"m": "a"}, {"n": "b"}),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        add(folder, 50)
        expected = dict.fromkeys(after, 50)
        with running(configured(folder, {"a": "in"}, before)) as parts:
            settles(parts, "a", {"m": 50})
            if start is not None:
                start(parts, configured(folder, dict.fromkeys(after.values(), "in"), after))
                settles(parts, "b", expected)
        if start is None:
            with running(configured(folder, dict.fromkeys(after.values(), "in"), after)) as parts:
                settles(parts, "b", expected)


def test_other_files_are_read_from_the_beginning(tmp_path: Path) -> None:
    add(tmp_path, 50)
    add(tmp_path, 7, "other")
    with running(configured(tmp_path, {"a": "in"}, {"m": "a"})) as parts:
        settles(parts, "a", {"m": 50})
        parts.reload(load_config(configured(tmp_path, {"b": "other"}, {"m": "b"})))
        settles(parts, "b", {"m": 57})
        assert parts.engine is not None
        assert {*parts.engine.positions} == {"a", "b"}
