"""A reload of the parts, without a server: what keeps its counts, and what starts anew."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kldrift.config.load import load_config
from kldrift.daemon.parts import Parts
from kldrift.drift.monitor import Monitor
from kldrift.engine.observing import now_ms
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import SampleBatch
from tests.e2e.processes import until

CONFIG = """\
monitors:
  coins:
    windows: [5m, 1h]
    drift: {warning: 0.01}
    features:
      coin: {kind: categorical, reference: {counts: {heads: 500, tails: 500}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kldrift.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def parts(file: Path) -> Iterator[Parts]:
    parts = Parts(load_config(file), Telemetry())
    parts.build()
    yield parts
    parts.stop_sources()
    assert parts.engine is not None
    parts.engine.stop()


def the_monitor(parts: Parts) -> Monitor:
    assert parts.engine is not None
    return parts.engine.monitors["coins"]


def samples(parts: Parts) -> int:
    assert parts.engine is not None
    snapshot = parts.engine.snapshot.monitors[0]
    return int(snapshot.samples[snapshot.windows.index("5m"), 0])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{warning: 0.01}", "{warning: 0.02}"),
        ("windows:", "divergences: [kl, js]\n    windows:"),
        ("windows:", "smoothing: laplace\n    windows:"),
        ("{heads: 500, tails: 500}", "{heads: 600, tails: 400}"),
        ("monitors:", "sources: {in: {type: file, path: '*.ndjson', follow: true}}\nmonitors:"),
        ("windows:", "sources: [in]\n    windows:"),
        ("[5m, 1h]", "[5m, 2h]"),
        ("[5m, 1h]", "[1m, 5m, 1h]"),
    ],
)
def test_what_means_the_same_after_a_reload_keeps_its_counts(parts: Parts, file: Path, before: str, after: str) -> None:
    text = CONFIG.replace(before, after)
    if "sources: [in]" in text:
        text = "sources: {in: {type: file, path: '*.ndjson', follow: true}}\n" + text
    old = the_monitor(parts)
    old.add(SampleBatch(7, (np.zeros(7, dtype=np.int32),)), "s", now_ms())
    file.write_text(text)
    config = load_config(file)
    parts.reload(config)
    assert samples(parts) == 7
    assert the_monitor(parts).spec == config.monitors[0]
    the_monitor(parts).add(SampleBatch(2, (np.ones(2, dtype=np.int32),)), "s", now_ms())
    assert parts.engine is not None
    parts.engine.evaluate()
    assert samples(parts) == 9


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("windows:", "timestamp: {field: ts, unit: ms}\n    windows:"),
        ("tails: 500}", "tails: 500, edge: 100}"),
    ],
)
def test_a_monitor_of_other_bins_or_clock_starts_anew(parts: Parts, file: Path, before: str, after: str) -> None:
    the_monitor(parts).add(SampleBatch(7, (np.zeros(7, dtype=np.int32),)), "s", now_ms())
    file.write_text(CONFIG.replace(before, after))
    parts.reload(load_config(file))
    assert samples(parts) == 0


def test_after_a_defect_while_monitors_are_swapped_the_old_sources_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, file = tmp_path / "in.ndjson", tmp_path / "kldrift.yaml"
    data.write_text('{"coin": "heads"}\n' * 3)
    (tmp_path / "more.ndjson").write_text('{"coin": "heads"}\n' * 4)
    source = "{type: file, path: %s.ndjson, follow: true}"
    monitor = CONFIG.partition("\n")[2].replace("windows:", "sources: [in]\n    windows:")
    old = "state: {path: state.db, commit_interval: 50ms}\n"
    old += f"sources: {{in: {source % 'in'}, more: {source % 'more'}}}\n"
    old += "monitors:\n" + monitor + monitor.replace("coins:", "dice:").replace("[in]", "[more]")
    file.write_text(old)
    parts = Parts(load_config(file), Telemetry())
    parts.build()
    engine = parts.engine
    assert engine is not None
    try:
        parts.start_sources()
        until(lambda: engine.stored_positions("more") and engine.rows_counted == 7)
        # another source, and one monitor instead of another
        file.write_text(old.replace("in.ndjson", "other.ndjson").replace("dice:", "cubes:"))
        with monkeypatch.context() as patch:
            patch.setattr(engine, "_take_over", defect)
            with pytest.raises(RuntimeError, match="a defect"):
                parts.reload(load_config(file))
        assert {*engine.monitors} == {"coins", "dice"}
        with data.open("a") as appended:
            appended.write('{"coin": "tails"}\n' * 2)
        until(lambda: engine.rows_counted == 9)
        assert [*parts.pulls] == ["in", "more"]
    finally:
        parts.stop_sources()
        parts.stop()
    file.write_text(old)
    again = Parts(load_config(file), Telemetry())
    again.build()
    assert again.engine is not None
    restored = [monitor.samples[0, 0] for monitor in again.engine.snapshot.monitors]
    again.stop()
    assert restored == [5, 4]


def defect(_: object) -> None:
    raise RuntimeError("a defect")
