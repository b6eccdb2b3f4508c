"""The shipped configurations on real data: every figure is that of scipy on the same counts."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import rel_entr

from tests.conftest import ROOT
from tests.e2e.processes import Client, daemon, free_port, kldrift, until

EXAMPLES = ROOT / "config" / "examples"


def listening_copy(name: str, shared_data: Path, folder: Path, port: int) -> Path:
    """A shipped example, on a free port and with the data where it is."""
    text = (EXAMPLES / name).read_text().replace("../../../shared/data", str(shared_data))
    path = folder / name
    path.write_text(f'server: {{listen: "127.0.0.1:{port}"}}\nengine: {{tick: 200ms}}\n{text}')
    return path


def assert_like_scipy(client: Client, monitor: str, window: str) -> int:
    exported = client.metrics()
    features = client.json(f"/api/v1/monitors/{monitor}")["features"]
    checked = 0
    for feature in features:
        shown = client.json(f"/api/v1/monitors/{monitor}/features/{feature['name']}?window={window}")
        live = np.array(shown["live_counts"], dtype=float)
        reference = np.array(shown["reference_counts"], dtype=float)
        if shown["unseen_expected_ratio"]:  # rows whose category occurs once stand for what the reference has missed
            once = shown["unseen_expected_ratio"] * reference.sum()
            reference[-4:-2] += np.array([-once, once])
        q = (reference + 0.5) / (reference.sum() + 0.5 * reference.size)
        p = live / live.sum()
        smooth = (live + 0.5) / (live.sum() + 0.5 * live.size)
        expected = {
            "kldrift_kl_divergence_nats": rel_entr(p, q).sum(),
            "kldrift_reverse_kl_divergence_nats": rel_entr(q, smooth).sum(),
            "kldrift_js_divergence_nats": (rel_entr(p, (p + q) / 2) + rel_entr(q, (p + q) / 2)).sum() / 2,
            "kldrift_psi": (rel_entr(smooth, q) + rel_entr(q, smooth)).sum(),
        }
        for name, value in expected.items():
            series = f'{name}{{monitor="{monitor}",feature="{feature["name"]}",window="{window}"}}'
            if series in exported:
                # the terms of either sum are rounded at some 1e-18 each: below 1e-4 that shows in the twelfth digit
                assert exported[series] == pytest.approx(value, rel=1e-12, abs=1e-16), series
                checked += 1
    return checked


def test_employment_figures_equal_scipys(shared_data: Path, tmp_path: Path) -> None:
    port = free_port()
    config = listening_copy("employment.yaml", shared_data, tmp_path, port)
    with daemon(config, port, tmp_path / "log") as client:
        until(
            lambda: client.metric("kldrift_window_samples", feature="AGEP", window="1h") == 208_892,
            what="all rows counted",
        )
        assert assert_like_scipy(client, "employment", "1h") == 18 * 4
        assert client.metric("kldrift_window_ready", feature="AGEP", window="1h") == 1


def test_electricity_in_event_time(shared_data: Path, tmp_path: Path) -> None:
    port = free_port()
    config = listening_copy("electricity.yaml", shared_data, tmp_path, port)
    with daemon(config, port, tmp_path / "log") as client:
        until(
            lambda: client.metric("kldrift_samples_received_total", source="market") == 45_312, what="all rows counted"
        )
        until(lambda: client.metric("kldrift_window_samples", feature="class", window="4w"), what="an evaluation")
        # the windows end at the last row, 1998-12-06: eleven twelfths of four weeks, and the slice begun
        samples = client.metric("kldrift_window_samples", feature="class", window="4w")
        assert samples is not None
        assert 4 * 7 * 48 * 11 / 12 <= samples <= 4 * 7 * 48
        assert client.metric("kldrift_samples_late_total", monitor="electricity") == 0
        assert assert_like_scipy(client, "electricity", "4w") >= 7


@pytest.mark.parametrize(("name", "rows"), [("employment.yaml", "208,892"), ("electricity.yaml", "45,312")])
def test_run_once_prints_the_final_table(name: str, rows: str, shared_data: Path, tmp_path: Path) -> None:
    done = kldrift("run", "--once", "-c", str(listening_copy(name, shared_data, tmp_path, free_port())))
    assert done.returncode == 0, done.stderr
    assert f"{rows} rows in" in done.stdout
    assert "quiet" in done.stdout


def test_three_electricity_features_are_constant_and_then_come_alive(shared_data: Path, tmp_path: Path) -> None:
    import polars as pl

    table = pl.read_csv(shared_data / "electricity.csv.gz")
    table[:15_000].write_csv(tmp_path / "constant.csv")
    table[15_000:].write_csv(tmp_path / "live.csv")
    (tmp_path / "kldrift.yaml").write_text(
        """
state: none
sources: {live: {type: file, path: live.csv, format: csv}}
monitors:
  market:
    sources: [live]
    windows: [1h]
    reference: {data: constant.csv}
    features:
      vicprice: {kind: numeric}
      vicdemand: {kind: numeric}
      transfer: {kind: numeric}
"""
    )
    done = kldrift("run", "--once", "-c", str(tmp_path / "kldrift.yaml"))
    assert done.returncode == 0, done.stderr
    for feature in ("vicprice", "vicdemand", "transfer"):
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"│ {feature} "))
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert float(cells[3]) > 5  # the divergence shows …
        assert cells[-1] == "undecided"  # … a reference that never varied says nothing of how much is usual
        assert f"{feature}: undecided: the reference is constant" in done.stdout
