"""Rows of NDJSON to columns: what is plain, what is left, and that no byte is read that is not there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.parsing import gaps, json_rows, output
from tests.kernels import scan_scenario
from tests.kernels.scan_scenario import padded, scan_body

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def scanned(*lines: bytes) -> dict[str, Any]:
    body = b"\n".join(lines)
    found = scan_body(body, padded(body))
    assert not found["given_up"]
    found["numbers"] = found["numbers"].view(np.float64)
    return found


def scanned_list(body: bytes) -> dict[str, Any]:
    """What comes of a list, but for its first bracket."""
    found = scan_body(body, padded(body, in_list=True), in_list=True)
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
    assert values(found["numbers"][0]) == [1, None, None]
    assert found["codes"].tolist() == [[0, 4, 4], [9] * 3, [1, 2, 2]]
    assert found["times"].tolist() == [-1] * 3
    assert found["bare"].tolist() == [2, 3]  # rows without any of the fields


def test_a_category_of_a_float_that_is_an_integer_is_the_integer() -> None:
    found = scanned(b'{"s": 1.0}', b'{"c": 123456789012345.0}', b'{"c": 0.0}', b'{"c": -1.0, "s": 1.0 }')
    assert not len(found["left"])
    assert found["codes"][:2].tolist() == [[4, 3, 3, 3], [0, 9, 9, 0]]


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


def test_numbers_that_are_not_finite_are_read_as_python_writes_them() -> None:
    found = scanned(
        b'{"x": NaN}', b'{"x": Infinity, "z": NaN}', b'{"x": -Infinity, "z": [-Infinity, Infinity]}', b'{"x": 1}'
    )
    assert not len(found["left"])
    np.testing.assert_array_equal(found["numbers"][0], [np.nan, np.inf, -np.inf, 1])


@pytest.mark.parametrize(
    "line",
    [
        b'{"c": "a\\u0062"}', b'{"c": 1.5}', b'{"c": -0}', b'{"c": -0.0}', b'{"c": 00.0}',
        b'{"c": 1.0e1}', b'{"c": 1.}', b'{"c": .0}', b'{"c": 1.0.0}', b'{"c": 1234567890123456.0}',
        b'{"c": 1e5}', b'{"c": []}',
        b'{"c": 1234567890123456789}', b'{"s": "unknown"}', b'{"s": 2}', b'{"c": "\xff"}', b'{"c": "a\x01"}',
        b'{"x": "1"}', b'{"x": true}', b'{"x": -NaN}', b'{"x": -Infinit}', b'{"x": 01}', b'{"x": 1.}', b'{"x": .5}',
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
    found = scan_body(body, padded(body))
    assert found["given_up"]
    assert len(found["left"]) < 100


@pytest.mark.parametrize("blank", [b"", b" ", b"\n", b"\r\n\t  ", b" " * 100])
def test_rows_of_a_list(blank: bytes) -> None:
    rows = [b'{"x": %d, "c": "green", "z": [{}]}' % i for i in range(50)]
    rows[7] = b'{ "x"\n:7\n,\n"time":\nnull,"z"\n:\n[\n1\n,{"a"\n:\n1\n,\n"b":[\n]\n}\n]\n,"c":"green"\n}'
    body = blank + (blank + b"," + blank).join(rows) + blank + b"]"
    found = scanned_list(body + b" {}")
    assert not len(found["left"])
    assert found["end"] == len(body)
    assert found["counts"].tolist() == [50]
    assert found["numbers"][0].tolist() == list(range(50))
    assert found["codes"][2].tolist() == [0] * 50


@pytest.mark.parametrize(
    "row",
    [b'{"x": "1"}', b'{"x": 1, "x": 2}', b'{"c": "a\\u0062"}', b"1", b'"},{"', b"[]", b"[{}, {}]", b"null", b"-1.5e3",
     b'{"x":\n[1,\n{"a":\n1}]}', b'{"x": 12345678901234567890}'],
)  # fmt: skip
@pytest.mark.parametrize("blank", [b"", b"\n  "])
def test_a_row_of_a_list_that_is_not_plain_is_left_with_what_ends_it(row: bytes, blank: bytes) -> None:
    plain = b'{"x": 3}'
    for place in range(3):
        rows = [plain, plain]
        rows.insert(place, row)
        body = (b"," + blank).join(rows) + b"]"
        found = scanned_list(body)
        start = place * len(plain + b"," + blank)
        ended = len(row) + (1 if place == 2 else len(b"," + blank))
        assert found["left"].tolist() == [[place, start, start + ended]]
        assert found["numbers"][0].tolist() == [3, 3]
        assert found["end"] == len(body)


@pytest.mark.parametrize(
    "row",
    [b"", b"{", b'{"x": 1', b'{"x": NaNs}', b'{"z": "\n"}', b'{"z": "\xff"}', b'{"x": 1}{}', b'{"x": 1}}', b'{"x": 1,}',
     b'{"x": 1};', b'{"x": 01}', b'{"z": ' + b"[" * 70 + b"]" * 70 + b"}", b"tru", b'"a', b'{"x": 1}\x0b'],
)  # fmt: skip
def test_a_list_is_read_as_far_as_it_is_json(row: bytes) -> None:
    before = b'{"x": 1}, [], {"x": 2},'
    found = scanned_list(before + row + b', {"x": 3}]')
    assert found["counts"].tolist() == [3]
    assert found["end"] == len(before)
    assert found["numbers"][0].tolist() == [1, 2]


def test_a_list_of_more_rows_than_there_is_room_for_is_given_up() -> None:
    out = scan_scenario.empty_output(40, 1000)
    buffer = padded(b"{}," * 41 + b"{}]", in_list=True)
    learned = gaps.nothing_learned(scan_scenario.FIELDS, in_list=True)
    json_rows.scan_rows(buffer, 0, 125, scan_scenario.FIELDS, learned, out, scan_scenario.NOT_COUNTED)
    assert out.state[output.GIVEN_UP]


def test_the_instant_of_a_time() -> None:
    times = {
        "1970-01-01T00:00:00Z": 0,
        "2000-02-29T23:59:59.999Z": 951868799999,
        "2100-02-28 12:00:00": 4107499200000,
        "2024-12-31T23:59:59.1-02:30": 1735698599100,
        "2261-12-31T23:59:59.999999999999Z": 9214646399999,
    }
    assert scanned(*[json.dumps({"time": time}).encode() for time in times])["times"].tolist() == [*times.values()]


@given(st.binary(max_size=5000), st.sampled_from(b"\n{\x00\x7f\x80\xff"))
def test_bytes_are_counted(data: bytes, byte: int) -> None:
    assert json_rows.count_byte(np.frombuffer(data, dtype=np.uint8), byte) == data.count(byte)


def test_many_newlines_are_counted() -> None:
    data = np.frombuffer(b"\n" * 100_001 + b"\x8a\x0b" * 3, dtype=np.uint8)
    assert json_rows.count_newlines(data) == 100_001
