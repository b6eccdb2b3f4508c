"""How fast files are read, against a plain read loop in the same run: ``python -m tests.benchmarks.sources``.

The file is in the page cache. Every run is checked to have given all bytes.
"""

import gzip
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from kldrift.records.sources import Distribution, FileSourceConfig, SyntheticSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from kldrift.sources.synthetic import SyntheticSource

_READ_BYTES = 8 << 20
_PLAIN_BYTES = 256 << 20
_ARCHIVE_BYTES = 64 << 20


def _best_seconds(run: Callable[[], int], expected: int, repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        n_bytes = run()
        best = min(best, time.perf_counter() - began)
        assert n_bytes == expected, f"read {n_bytes} of {expected} bytes"
    return best


def _read_loop(path: Path, opener: Callable[..., object] = open) -> Callable[[], int]:
    def run() -> int:
        n_bytes = 0
        with opener(path, "rb") as file:  # type: ignore[attr-defined]
            while data := file.read(_READ_BYTES):
                n_bytes += len(data)
        return n_bytes

    return run


def _source(path: Path, header: bool) -> Callable[[], int]:
    def fail(reason: str, detail: str) -> None:
        raise AssertionError(f"{reason}: {detail}")

    def run() -> int:
        config = FileSourceConfig(name="bench", path=str(path), format="csv" if header else "ndjson")
        source = FileSource(config, Surroundings(clock_ms=lambda: 0, on_error=fail))
        n_bytes, head = 0, 0
        for chunk in source.chunks({}, threading.Event()):
            if chunk is not None and isinstance(chunk.payload, bytes):
                n_bytes, head = n_bytes + len(chunk.payload), len(chunk.header)
        return n_bytes + head

    return run


def _rows(make: Callable[[int], str], n_bytes: int) -> bytes:
    some = "".join(make(k) for k in range(10_000)).encode()
    return some * (n_bytes // len(some))


def main() -> None:
    """Print a row for each kind of file: GB/s of (decompressed) bytes, and the ratio to the plain loop."""
    ndjson = _rows(lambda k: f'{{"a":{k / 7},"b":{k / 13},"c":"category {k % 7}"}}\n', _PLAIN_BYTES)
    csv = _rows(lambda k: f"{k / 7},{k / 13},category\n", _PLAIN_BYTES)
    quoted = _rows(lambda k: f'"{k / 7}","{k / 13}","category"\n', _PLAIN_BYTES)
    small = ndjson[: ndjson.index(b"\n", _ARCHIVE_BYTES) + 1]
    with tempfile.TemporaryDirectory() as folder:
        for name, data, header, opener in [
            ("ndjson", ndjson, False, open),
            ("csv", csv, True, open),
            ("quoted.csv", quoted, True, open),
            ("ndjson.gz", gzip.compress(small, 6), False, gzip.open),
            ("ndjson.zst", zstandard.compress(small), False, zstandard.open),
        ]:
            path = Path(folder) / name
            path.write_bytes(data)
            n_bytes = len(small) if opener is not open else len(data)
            loop = _best_seconds(_read_loop(path, opener), n_bytes, 5 if opener is open else 2)
            ours = _best_seconds(_source(path, header), n_bytes, 5 if opener is open else 2)
            print(f"{name:12} {n_bytes / ours / 1e9:6.2f} GB/s   {loop / ours:5.2f} x a read loop")
            path.unlink()
    features = {f"f{k}": Distribution("normal", {"mean": 0.0, "std": 1.0}) for k in range(20)}
    config = SyntheticSourceConfig(name="bench", rate_per_second=0, seed=1, rows=100_000, features=features)
    began = time.perf_counter()
    source = SyntheticSource(config, Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None))
    n_rows = sum(int(chunk.payload.count(b"\n")) for chunk in source.chunks({}, threading.Event()) if chunk)  # type: ignore[union-attr]
    assert n_rows == 100_000
    print(f"{'synthetic':12} {20 * n_rows / (time.perf_counter() - began) / 1e6:6.2f} M values/s")


if __name__ == "__main__":
    main()
