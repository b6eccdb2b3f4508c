"""Rows for the scanning kernel, read compiled or interpreted, with or without a page behind them that kills.

python -m tests.kernels.scan_scenario OUT.npz [guard]
"""

import json
import random
import sys
from typing import Any

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import make_bin_table
from kldrift.kernels.parsing import gaps, json_rows, output
from kldrift.kernels.parsing.fields import Categories, make_fields
from tests.faults.payloads import changed
from tests.kernels.guarded import save

FIELDS = make_fields(
    ["x", "a longer name", "ts"],
    [
        Categories("c", [(b"red", 0), ("grün".encode(), 1), (b"a text of more than eight", 2)], 3, 4),
        Categories("s", [(b"1", 0), (b"true", 1)], -1, 9),
        Categories("c", [(b"green", 0)], 1, 2),
    ],
    "time",
)
N_NUMBERS, N_COLUMNS = 3, 3
#: Bodies that are read interpreted, and before the page.
INTERPRETED, GUARDED = 120, 4000
NOT_COUNTED = output.Counting(make_bin_table([]), np.empty(0, dtype=np.int64), np.empty((0, 0, 0), dtype=np.int64))

ROW = {
    "x": -1.25, "c": "red", "a longer name": 1.234567890123456e-5, "unknown": {"a": [1, {"b": "\\ \u20ac"}], "c": {}},
    "ts": 1700000000000, "time": "2024-02-29T12:34:56.789+01:30", "s": 1, "text": "so \"much\" of it, in vain",
}  # fmt: skip


def bodies(n: int) -> list[tuple[bytes, bool]]:
    """Rows of several shapes, most of them damaged, in lines and in lists, and whether it is a list.

    The last line has no newline in every other body; of a list there is what follows its bracket.
    """
    rng = random.Random(5)
    found = []
    for i in range(n):
        lines = []
        blank = rng.choice((b"", b" ", b"\n", b"\r\n    "))
        for _ in range(rng.choice((1, 2, 5))):
            keys = rng.sample(list(ROW), rng.randint(0, len(ROW)))
            separators = rng.choice(((",", ":"), (", ", ": "), (" ,\t", " : ")))
            row = {key: ROW[key] if rng.random() < 0.9 else None for key in keys}
            line = json.dumps(row, separators=separators, ensure_ascii=rng.random() < 0.5).encode()
            lines.append(changed(rng, line) if rng.random() < 0.6 else line)
        found.append((b"\n".join(lines) + b"\n" * (i % 2), False))
        found.append(((b"," + blank).join(line.replace(b"\t:", blank + b":") for line in lines) + blank + b"]", True))
    return found


def empty_output(stride: int, n_bytes: int) -> output.Output:
    """Room for rows in columns."""
    return output.Output(
        stride=np.array([stride]),
        numbers=np.zeros(N_NUMBERS * stride),
        codes=np.zeros(N_COLUMNS * stride, dtype=np.int32),
        times=np.zeros(stride, dtype=np.int64),
        left=np.zeros(3 * stride, dtype=np.int64),
        bare=np.zeros(n_bytes // 3 + 1, dtype=np.int64),
        shown=np.zeros(2 * output.SHOWN, dtype=np.int64),
        ends=np.array([n_bytes + 1]),
        n_rows=np.zeros(1, dtype=np.int64),
        n_bare=np.zeros(1, dtype=np.int64),
        state=np.zeros(output.N_STATE, dtype=np.int64),
    )


def padded(body: bytes, in_list: bool = False) -> np.ndarray:
    """The body, and behind it what has to be there as far as the kernel may look."""
    return np.frombuffer(body + (b"\0" if in_list else b"\n") * json_rows.PADDING, dtype=np.uint8)


def scan_body(body: bytes, buffer: np.ndarray, in_list: bool = False) -> dict[str, Any]:
    """What the kernel makes of a body that lies, `padded`, in `buffer`."""
    stride = body.count(b"," if in_list else b"\n") + 1
    out = empty_output(stride, len(body))
    learned = gaps.nothing_learned(FIELDS, in_list)
    with compilation.ieee():
        end = json_rows.scan_rows(buffer, 0, len(body), FIELDS, learned, out, NOT_COUNTED)
    left = out.left[: 3 * out.state[output.LEFT]].reshape(-1, 3)
    plain = np.ones(int(out.n_rows[0]), dtype=np.bool_)
    plain[left[:, 0]] = False
    bare = out.bare[: out.state[output.BARE]]
    plain[bare] = False
    there = np.flatnonzero(plain)
    return {
        "numbers": out.numbers.reshape(N_NUMBERS, stride)[:, there].view(np.int64),
        "codes": out.codes.reshape(N_COLUMNS, stride)[:, there],
        "times": out.times[there],
        "left": left,
        "bare": bare,
        "shown": out.shown[: 2 * min(bare.size, output.SHOWN)],
        "counts": out.n_rows,
        "given_up": out.state[output.GIVEN_UP],
        "end": end,
    }


def results(n: int, buffer_of: Any = None) -> dict[str, np.ndarray]:
    """Everything that comes of the bodies, one after another."""
    compilation.warm_up()
    found: dict[str, list[np.ndarray]] = {}
    for body, in_list in bodies(n):
        buffer = padded(body, in_list)
        if buffer_of is not None:
            buffer = buffer_of(buffer)
        for name, value in scan_body(body, buffer, in_list).items():
            found.setdefault(name, []).append(np.ravel(value))
    return {name: np.concatenate(parts) for name, parts in found.items()}


if __name__ == "__main__":
    save(results, INTERPRETED, GUARDED, *sys.argv[1:])
