"""Benchmark results as a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One result: what, ours, the peer's, who the peer is, the ratio (above 1: we are ahead), what to reach."""

    what: str
    ours: str
    peer: str
    peer_name: str
    ratio: float
    reach: float | None = None


def print_rows(rows: Sequence[Row]) -> None:
    """The table, on stdout."""
    print("| what | kldrift | beside it | ratio | to reach |")
    print("|---|---|---|---|---|")
    for row in rows:
        reach = "" if row.reach is None else f"≥ {row.reach:g}"
        print(f"| {row.what} | {row.ours} | {row.peer} ({row.peer_name}) | {row.ratio:.2f} | {reach} |")
