"""Weight of the monitor page with 1,000 features, and the time to its first paint in Chromium.

python -m tests.benchmarks.pages [--quick]
"""

import gzip
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from kldrift.state.history import Layout, Row, SqliteHistory
from kldrift.state.sqlite import SqliteStore
from tests.benchmarks.footprint import wide
from tests.benchmarks.table import Row as TableRow
from tests.benchmarks.table import print_rows
from tests.e2e.processes import Client, daemon, free_port, until

N_FEATURES = 1000
MOST_BYTES, MOST_SECONDS = 500_000, 0.3
HTML = {"Accept": "text/html"}
PAGE = "/monitors/wide"

#: Seconds from the start of the navigation to the first content.
_FIRST_PAINT = """() => new Promise((resolve) => new PerformanceObserver((list) => {
    const [entry] = list.getEntriesByName("first-contentful-paint");
    if (entry) resolve(entry.startTime / 1000);
}).observe({ type: "paint", buffered: true }))"""


def prepared(folder: Path, port: int, n_features: int = N_FEATURES) -> Path:
    """A configuration of one wide monitor, and a state file with three hours of its history."""
    config = wide(folder, port, n_features, "[kl, psi]")
    config.write_text(config.read_text() + "state: {path: state.db}\n")
    now_ms = time.time_ns() // 1_000_000
    SqliteStore(folder / "state.db", lambda: now_ms, lambda _: None).close()
    layout = Layout(("5m", "1h", "24h"), tuple(f"feature_{i:04d}" for i in range(n_features)))
    rng = np.random.default_rng(0)
    kl = rng.gamma(2, 0.005, (180, 3, n_features))
    points = np.stack((kl, 0.7 * kl, 1.5 * kl), axis=1).astype(np.float32)
    rows = [Row("wide", None, 1, now_ms - 60_000 * (180 - t), layout, points[t]) for t in range(180)]
    history = SqliteHistory(folder / "state.db")
    history.write(rows, {}, now_ms)
    history.close()
    return config


def fed(client: Client, folder: Path) -> None:
    """Post 1,000 rows, and wait until they are evaluated."""
    body = (folder / "body").read_bytes()
    for _ in range(10):
        client.post("wide", body)
    until(lambda: client.metric("kldrift_window_samples", feature="feature_0000", window="1h") == 1000, 60)


def first_paints(browser: Browser, url: str, loads: int) -> list[float]:
    """Seconds to the first paint of some loads, each with an empty cache."""
    seconds = []
    for _ in range(loads):
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        page = context.new_page()
        page.goto(url)
        seconds.append(float(page.evaluate(_FIRST_PAINT)))
        context.close()
    return seconds


def rows(quick: bool = False) -> list[TableRow]:
    """Weight and first paint, for the table."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, port = Path(name), free_port()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with daemon(prepared(folder, port), port, folder / "log") as client:
            fed(client, folder)
            body = client.request(PAGE, headers=HTML)[1]
            assert body.count(b"/feature?name=") == body.count(b"<svg") == N_FEATURES
            paint = statistics.median(first_paints(browser, client.url + PAGE, 3 if quick else 15))
            least = statistics.median(first_paints(browser, client.url + "/no-such-page", 3 if quick else 15))
            took = statistics.median(_seconds(client) for _ in range(3 if quick else 15))
        browser.close()
    return [
        TableRow(
            f"monitor page, {N_FEATURES:,} features with sparklines",
            f"{len(body) / 1000:.0f} kB, {len(gzip.compress(body, 5)) / 1000:.0f} kB with gzip",
            f"{MOST_BYTES / 1000:.0f} kB",
            "at most",
            MOST_BYTES / len(body),
            1.0,
        ),
        TableRow(
            "… its first paint in Chromium, nothing cached",
            f"{1000 * paint:.0f} ms, of which the daemon's answer {1000 * took:.0f} ms; "
            f"a page of one line {1000 * least:.0f} ms",
            f"{1000 * MOST_SECONDS:.0f} ms",
            "at most",
            MOST_SECONDS / paint,
            1.0,
        ),
    ]


def _seconds(client: Client) -> float:
    started = time.perf_counter()
    client.request(PAGE, headers=HTML | {"Accept-Encoding": "gzip"})
    return time.perf_counter() - started


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
