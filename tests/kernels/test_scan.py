"""Rows of NDJSON to columns: what is plain, what is left, and that no byte is read that is not there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.kernels import _jit, scan
from tests.kernels import scan_scenario
from tests.kernels.scan_scenario import scan_body

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    _jit.warm_up()


def scanned(*lines: bytes) -> dict[str, Any]:
    body = b"\n".join(lines)
    found = scan_body(body, np.frombuffer(body + b"\n" * scan.PADDING, dtype=np.uint8))
    assert not found["given_up"]
    found["numbers"] = found["numbers"].view(np.float64)
    return found


def left(*lines: bytes) -> list[int]:
    return [int(row) for row in scanned(*lines)["left"][:, 0]]


def values(array: np.ndarray) -> list[Any]:
    return [None if value != value else value for value in array.tolist()]


def test_a_row_in_every_order_of_its_keys() -> None:
    row = scan_scenario.ROW
    keys = list(row)
    lines = [json.dumps({key: row[key] for key in keys[i:] + keys[:i]}).encode() for i in range(len(keys))] * 5
    found = scanned(*lines)
    assert not len(found["left"])
    assert found["numbers"][0].tolist() == [-1.25] * 40
    assert found["numbers"][1].tolist() == [1.234567890123456e-5] * 40
    assert found["codes"].tolist() == [[0] * 40, [0] * 40, [1] * 40]
    assert found["times"].tolist() == [1709204696789] * 40


def test_what_is_missing_or_null() -> None:
    found = scanned(b'{"x": 1, "c": "red"}', b'{"c": null, "x": null, "time": null}', b"{}", b"{ }", b'{"s": null}')
    assert not len(found["left"])
    assert values(found["numbers"][0]) == [1, None, None, None, None]
    assert found["codes"].tolist() == [[0, 4, 4, 4, 4], [9] * 5, [1, 2, 2, 2, 2]]
    assert found["times"].tolist() == [-1] * 5


def test_texts_of_categories() -> None:
    lines = [
        '{"c": "grün"}',
        '{"c": "a text of more than eight"}',
        '{"c": "a text of more than eighT"}',
        '{"c": "green"}',
    ]
    found = scanned(*[line.encode() for line in [*lines, '{"c": ""}', '{"c": true}', '{"c": 12}', '{"c": "fünf"}']])
    assert not len(found["left"])
    assert found["codes"].tolist() == [[1, 2, 3, 3, 3, 3, 3, 3], [9] * 8, [1, 1, 1, 0, 1, 1, 1, 1]]
    assert scanned(b'{"s": true}', b'{"s": 1}', b'{"s": "1"}')["codes"][1].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "line",
    [
        b'{"c": "a\\u0062"}', b'{"c": 1.0}', b'{"c": -0}', b'{"c": 1e5}', b'{"c": []}',
        b'{"c": 1234567890123456789}', b'{"s": "unknown"}', b'{"s": 2}', b'{"c": "\xff"}', b'{"c": "a\x01"}',
        b'{"x": "1"}', b'{"x": true}', b'{"x": NaN}', b'{"x": -Infinity}', b'{"x": 01}', b'{"x": 1.}', b'{"x": .5}',
        b'{"x": +1}', b'{"x": 1e}', b'{"x": 12345678901234567890}', b'{"x": []}', b'{"x": nul}', b'{"x": }',
        b'{"x": 1, "x": 2}', b'{"x": 1, "c": "red", "x": 1}', b'{"\\u0078": 1}', b'{"x" 1}', b'{"x": 1,}', b'{,"x": 1}',
        b'{"x": 1} {}', b'{"x": 1}x', b'[{"x": 1}]', b'{"x": 1', b'{"x"', b'{', b'"x"', b"1", b"{'x': 1}", b'{x: 1}',
        b'{"x": 1 "c": "red"}', b'{"x": 1;"c": "red"}', b'\x0b{"x": 1}', b'{"x":\xc2\xa01}', b'{"x": 1}\x00',
        b'{"z": tru}', b'{"z": [1,]}', b'{"z": {"a"}}', b'{"z": {"a":1,}}', b'{"z": [1}}', b'{"z": "\\x"}',
        b'{"z": 1 2}',
        b'{"z": "\xed\xa0\x80"}', b'{"z": "\xc0\x80"}', b'{"z": "\xf4\x90\x80\x80"}', b'{"z": "\\u12g4"}', b'{"z": 00}',
        b'{"z": "\t"}', b'{"\xff": 1}', b'{"z": ' + b"[" * 70 + b"]" * 70 + b"}", b'{"z": {1: 2}}', b'{"z": -}',
        b'{"z":}',
        b'{"time": "2024-02-30T00:00:00Z"}', b'{"time": "2024-01-01"}', b'{"time": 1}',
        b'{"time": "2024-01-01T24:00:00Z"}',
        b'{"time": "1969-12-31T23:59:59Z"}', b'{"time": "2262-01-01T00:00:00Z"}',
        b'{"time": "2024-01-01T00:00:00+0100"}',
        b'{"time": "2024-01-01T00:00:00."}', b'{"time": "2024-01-01T00:00:00.1234567890123Z"}', b'{"time": "x"}',
        b'{"time": "2024-01-01T00:00:00Zx"}', b'{"time": "20 4-01-01T00:00:00Z"}',
        b'{"time": "1970-01-01T00:00:00+00:01"}',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_and_nothing_else(line: bytes) -> None:
    before, behind = b'{"x": 1, "time": null}', b'{"x": 2}'
    found = scanned(before, line, behind)
    assert found["left"].tolist() == [[1, len(before) + 1, len(before) + 1 + len(line)]]
    assert found["numbers"][0].tolist() == [1, 2]
    assert found["counts"].tolist() == [3]


@pytest.mark.parametrize(
    "value",
    [
        '"\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00fc \\ud800"', "[]", "{}", "[ ]", "[[], [{}], {}]", "-0.0e-5", "1e999",
        "12345678901234567890123", '"ü € 𝄞 and more than eight bytes"', '{"a": {"x": 3}, "b": [true, false, null]}',
        "[" * 60 + "]" * 60, '{"": "", "\\"": 1}', "  null  ",
    ],
)  # fmt: skip
def test_fields_that_are_not_wanted_are_skipped(value: str) -> None:
    found = scanned(f'{{"x": 1, "z": {value}, "ts": 2}}'.encode())
    assert not len(found["left"])
    assert found["numbers"][[0, 2]].tolist() == [[1], [2]]


def test_blank_lines_are_no_rows() -> None:
    found = scanned(b"", b'{"x": 1}\r', b" \t\r", b"\r", b' {"x" : 2 } ', b"", b'{"x": 3}', b"", b"")
    assert found["counts"].tolist() == [3]
    assert found["numbers"][0].tolist() == [1, 2, 3]


def test_more_keys_than_can_be_learned() -> None:
    lines = [b'{"unknown field %d": 1, "x": %d, "another %d": "", "c": "red"}' % (i, i, i) for i in range(1000)]
    found = scanned(*lines)
    assert not len(found["left"])
    assert found["numbers"][0].tolist() == list(range(1000))
    assert found["codes"][0].tolist() == [0] * 1000


def test_keys_of_any_length() -> None:
    lines = [b'{"%s": %d, "x": %d}' % (b"k" * n, n, n) for n in range(200)] * 2
    found = scanned(*lines)
    assert found["numbers"][0].tolist() == [*range(200)] * 2


def test_too_many_rows_that_are_not_plain_are_given_up() -> None:
    body = b'{"x": 1}\n' * 4 + b"{\n" * 1000
    learned = scan_body(body, np.frombuffer(body + b"\n" * scan.PADDING, dtype=np.uint8))
    assert learned["given_up"]
    assert len(learned["left"]) < 100


def test_the_instant_of_a_time() -> None:
    times = {
        "1970-01-01T00:00:00Z": 0,
        "2000-02-29T23:59:59.999Z": 951868799999,
        "2100-02-28 12:00:00": 4107499200000,
        "2024-12-31T23:59:59.1-02:30": 1735698599100,
        "2261-12-31T23:59:59.999999999999Z": 9214646399999,
    }
    assert scanned(*[json.dumps({"time": time}).encode() for time in times])["times"].tolist() == [*times.values()]


@given(st.binary(max_size=5000))
def test_newlines_are_counted(data: bytes) -> None:
    assert scan.count_newlines(np.frombuffer(data, dtype=np.uint8)) == data.count(b"\n")


def test_many_newlines_are_counted() -> None:
    data = np.frombuffer(b"\n" * 100_001 + b"\x8a\x0b" * 3, dtype=np.uint8)
    assert scan.count_newlines(data) == 100_001


def in_new_process(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kernels.scan_scenario", str(out), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
        capture_output=True,
    )


def test_interpreted_equals_compiled_and_stays_within_bounds(tmp_path: Path) -> None:
    done = in_new_process(tmp_path / "interpreted.npz", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "interpreted.npz") as interpreted:
        compiled = scan_scenario.results(120)
        assert interpreted.keys() == compiled.keys()
        for name, array in compiled.items():
            np.testing.assert_array_equal(interpreted[name], array, err_msg=name, strict=True)
    assert len(compiled["times"]) > 50
    assert len(compiled["left"]) > 50


def test_no_byte_is_read_behind_the_padding(tmp_path: Path) -> None:
    done = in_new_process(tmp_path / "guarded.npz", "guard")
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "guarded.npz") as guarded:
        for name, array in scan_scenario.results(4000).items():
            np.testing.assert_array_equal(guarded[name], array, err_msg=name, strict=True)


def test_reading_behind_the_padding_would_be_seen(tmp_path: Path) -> None:
    assert in_new_process(tmp_path / "overrun.npz", "guard", "overrun").returncode == -signal.SIGSEGV
