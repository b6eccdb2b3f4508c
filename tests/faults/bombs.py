"""Bodies of 10 MB that unfold to 10 GB: ``python -m tests.faults.bombs``.

Each is answered 413, the daemon's memory grows by 64 MB at most, and rows are counted as before.
"""

import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.e2e.processes import daemon, free_port
from tests.faults.connections import CONFIG, PATH, ROW, memory_bytes

MIB = 1 << 20
MEMORY_BYTES = 64e6


def gzip_bomb(n_bytes: int) -> bytes:
    """Zeros in one member, 1,000 to 1; its end is never reached, so that it may be wrong."""
    zeros = zlib.compressobj(9, wbits=-15)
    piece = zeros.compress(bytes(16 * MIB)) + zeros.flush(zlib.Z_FULL_FLUSH)
    return bytes.fromhex("1f8b0800000000000003") + piece * (n_bytes // (16 * MIB)) + b"\x03\x00" + bytes(8)


def gzip_members(n_bytes: int) -> bytes:
    """The same in members of a megabyte."""
    member = zlib.compressobj(9, wbits=31)
    return (member.compress(bytes(MIB)) + member.flush()) * (n_bytes // MIB)


def zstd_bomb(n_bytes: int) -> bytes:
    """Runs of 128 KiB from 4 bytes each, and as many literal bytes between them as make it 1,000 to 1."""
    run = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    literal = (120 << 3).to_bytes(3, "little") + bytes(120)
    last = (1).to_bytes(3, "little")
    return bytes.fromhex("28b52ffd") + bytes([0, 0x58]) + (run + literal) * (n_bytes // (128 * 1024)) + last


BOMBS: tuple[tuple[str, str, Callable[[int], bytes]], ...] = (
    ("gzip", "gzip", gzip_bomb),
    ("gzip, many members", "gzip", gzip_members),
    ("zstd", "zstd", zstd_bomb),
)


def run(n_bytes: int, times: int, folder: Path) -> dict:
    """Each bomb `times` times, two at once; the growth of the daemon's memory, MB."""
    port = free_port()
    config = folder / "kldrift.yaml"
    config.write_text(CONFIG.format(port=port, timeouts="idle_timeout: 75s"))
    grown = {}
    with daemon(config, port, folder / "log") as client:
        for _ in range(200):
            client.post("m", ROW)
        before = memory_bytes(client)
        for name, coding, make in BOMBS:
            bomb = make(n_bytes)
            headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": coding}
            statuses: list[int] = []

            def post(bomb: bytes = bomb, headers: dict = headers, statuses: list[int] = statuses) -> None:
                statuses.extend(client.request(PATH, bomb, headers)[0] for _ in range(times))

            threads = [threading.Thread(target=post) for _ in range(2)]
            for thread in threads:
                thread.start()
            most = 0
            while any(thread.is_alive() for thread in threads):
                most = max(most, memory_bytes(client))
                threads[0].join(0.002)
            assert statuses == [413] * 2 * times, f"{name}: {statuses}"
            assert most - before <= MEMORY_BYTES, f"{name}: memory grew by {(most - before) / 1e6:.0f} MB"
            grown[f"{name}, {len(bomb) / 1e6:.1f} MB: memory MB"] = round((most - before) / 1e6, 1)
        assert client.post("m", ROW)["accepted"] == 1
    return grown


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as name:
        print(f"bombs of 10 GB, twice at once: {run(10_000_000_000, 5, Path(name))}")


if __name__ == "__main__":
    main()
