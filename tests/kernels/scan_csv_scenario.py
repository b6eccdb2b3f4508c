"""Records for the scanning kernel, read compiled or interpreted, with or without a page behind them that kills.

python -m tests.kernels.scan_csv_scenario OUT.npz [guard]
"""

import random
import sys
from typing import Any

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.parsing import csv_records, json_rows, output
from tests.faults.payloads import changed
from tests.kernels.guarded import save
from tests.kernels.scan_scenario import FIELDS, NOT_COUNTED, empty_output

#: x, a column that is not wanted, c, time, ts and s, as numbered by `FIELDS`.
CELLS = csv_records.Cells(
    kinds=np.array(
        [
            csv_records.NUMBER,
            csv_records.SKIP,
            csv_records.CATEGORY,
            csv_records.TIME,
            csv_records.NUMBER,
            csv_records.CATEGORY,
        ]
    ),
    targets=np.array([0, 0, 0, 0, 2, 1]),
    header=np.empty(0, dtype=np.uint8),
)
#: Bodies that are read interpreted, and before the page.
INTERPRETED, GUARDED = 200, 4000
RECORD = ["-1.25", 'so ""much"" of it,\nin vain', "red", "2024-02-29T12:34:56.789+01:30", "1700000000000", "1"]


def bodies(n: int) -> list[bytes]:
    """Records quoted in several ways, most of them damaged; the last line has no newline in every other body."""
    rng = random.Random(5)
    found = []
    for i in range(n):
        records = []
        for _ in range(rng.choice((1, 2, 5))):
            cells = [cell if rng.random() < 0.9 else rng.choice(("", " ", "ü")) for cell in RECORD]
            quoted = [f'"{cell}"' if "\n" in cell or rng.random() < 0.4 else cell for cell in cells]
            record = ",".join(quoted).encode()
            records.append(changed(rng, record) if rng.random() < 0.4 else record)
        found.append(rng.choice((b"\n", b"\n", b"\r\n")).join(records) + b"\n" * (i % 2))
    return found


def scan_body(body: bytes, buffer: np.ndarray) -> dict[str, Any]:
    """What the kernel makes of a body that lies in `buffer`, with newlines behind it as far as it may look."""
    stride = body.count(b"\n") + 1
    out = empty_output(stride, len(body))
    with compilation.ieee():
        end = csv_records.scan_records(buffer, 0, len(body), 0, FIELDS, CELLS, out, NOT_COUNTED)
    left = out.left[: 3 * out.state[output.LEFT]].reshape(-1, 3)
    plain = np.ones(int(out.n_rows[0]), dtype=np.bool_)
    plain[left[:, 0]] = False
    there = np.flatnonzero(plain)
    return {
        "numbers": out.numbers.reshape(-1, stride)[::2, there].view(np.int64),
        "codes": out.codes.reshape(-1, stride)[:, there],
        "times": out.times[there],
        "left": left,
        "counts": out.n_rows,
        "end": np.array([end]),
        "given_up": out.state[output.GIVEN_UP],
    }


def results(n: int, buffer_of: Any = None) -> dict[str, np.ndarray]:
    """Everything that comes of the bodies, one after another."""
    compilation.warm_up()
    found: dict[str, list[np.ndarray]] = {}
    for body in bodies(n):
        buffer = np.frombuffer(body + b"\n" * json_rows.PADDING, dtype=np.uint8)
        if buffer_of is not None:
            buffer = buffer_of(buffer)
        for name, value in scan_body(body, buffer).items():
            found.setdefault(name, []).append(np.ravel(value))
    return {name: np.concatenate(parts) for name, parts in found.items()}


if __name__ == "__main__":
    save(results, INTERPRETED, GUARDED, *sys.argv[1:])
