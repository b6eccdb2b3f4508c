"""What it costs that an answer comes only once its samples are stored: with a state file beside without one.

python -m tests.benchmarks.commits [--quick]

Two daemons stand side by side, and are posted to in turns: the machine's speed, and its disk's, drift.
"""

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.http_handlers import requests_per_second
from tests.benchmarks.pipeline import configuration, data, ndjson, over_http
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import Client, daemon, free_port

STATES = {"none": "state: none", "file": "state: {path: state.db}"}
BIG_ROWS = 2_000
ONE_ROW_CONNECTIONS = 64


def in_turns(rounds: int, measure: Callable[[str], float]) -> tuple[float, float, float]:
    """Rates without and with a state, medians; and the median of the ratios of with to without, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in STATES}
    for number in range(rounds):
        for name in sorted(STATES, reverse=number % 2 == 0):
            rates[name].append(measure(name))
    ratios = [kept / lost for kept, lost in zip(rates["file"], rates["none"], strict=True)]
    return statistics.median(rates["none"]), statistics.median(rates["file"]), statistics.median(ratios)


def commits(client: Client) -> float:
    """Transactions until now; without a state, batches that were counted."""
    return client.metric("kldrift_commit_duration_seconds_count") or 0


def big_posts(clients: dict[str, Client], folder: Path, seconds: float, rounds: int) -> Row:
    """NDJSON posts of 2,000 rows of 50 numbers."""
    body = ndjson(data(BIG_ROWS))

    def measure(name: str) -> float:
        load = over_http(clients[name], folder, "body", "application/x-ndjson", body, BIG_ROWS, 4, seconds)
        return load.posts_per_second * BIG_ROWS * 50

    without, kept, ratio = in_turns(rounds, measure)
    what = f"posts of {BIG_ROWS:,} rows × 50, answered once they are stored"
    return Row(what, f"{kept / 1e6:.1f} M samples/s", f"{without / 1e6:.1f} M samples/s", "state: none", ratio, 0.8)


def one_row_posts(clients: dict[str, Client], seconds: float, rounds: int) -> list[Row]:
    """Posts of one row of 50 numbers from many connections; they share commits."""
    if shutil.which("wrk") is None:
        print("one-row posts are left out: they take wrk (Debian's package)", file=sys.stderr)
        return []
    row = ndjson(data(1))
    done, spent = [0.0], [0.0]

    def measure(name: str) -> float:
        before = commits(clients[name])
        rate = requests_per_second(
            clients[name].port, max(1, round(seconds)), ONE_ROW_CONNECTIONS, row, "/v1/monitors/bench/samples"
        )
        if name == "file":
            done.append(commits(clients[name]) - before)
            spent.append(max(1, round(seconds)))
        return rate

    without, kept, ratio = in_turns(rounds, measure)
    commit_rate = sum(done) / sum(spent)
    return [
        Row(
            f"one-row posts, {ONE_ROW_CONNECTIONS} connections, answered once they are stored",
            f"{kept:,.0f} requests/s in {commit_rate:,.0f} commits/s",
            f"{without:,.0f} requests/s",
            "state: none",
            ratio,
        )
    ]


def rows(quick: bool = False) -> list[Row]:
    """Both, for the table."""
    seconds, rounds = (1.0, 1) if quick else (5.0, 5)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        clients = {}
        for state, line in STATES.items():
            folder = Path(name) / state
            folder.mkdir()
            port = free_port()
            config = configuration(folder, port)
            config.write_text(config.read_text().replace("state: none", line))
            clients[state] = stack.enter_context(daemon(config, port, folder / "log"))
        for client in clients.values():  # warm
            over_http(client, Path(name), "warm", "application/x-ndjson", ndjson(data(200)), 200, 4, 1)
        return [big_posts(clients, Path(name), seconds, rounds), *one_row_posts(clients, seconds, rounds)]


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
