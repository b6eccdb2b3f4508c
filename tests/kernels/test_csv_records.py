"""Records of CSV to columns: what is plain, what is left, and that no byte is read that is not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.kernels import compilation
from kldrift.kernels.parsing import json_rows
from tests.kernels.scan_csv_scenario import scan_body

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def scanned(*records: bytes) -> dict[str, Any]:
    body = b"\n".join(records)
    found = scan_body(body, np.frombuffer(body + b"\n" * json_rows.PADDING, dtype=np.uint8))
    found["numbers"] = found["numbers"].view(np.float64)
    return found


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["", "\r"])
def test_a_record_in_quotes_or_not(quote: str, end: str) -> None:
    cells = ["-1.25", "", "grün", "2024-02-29T12:34:56.789+01:30", "1700000000000", "1"]
    found = scanned(*[(",".join(f"{quote}{cell}{quote}" for cell in cells) + end).encode()] * 3)
    assert not len(found["left"])
    assert not found["given_up"]
    assert found["numbers"].tolist() == [[-1.25] * 3, [1700000000000] * 3]
    assert found["codes"].tolist() == [[1] * 3, [0] * 3, [1] * 3]
    assert found["times"].tolist() == [1709204696789] * 3
    assert found["counts"].tolist() == [3]


def test_what_is_missing() -> None:
    found = scanned(b",,,,,", b'"","","","","",""', b' ,," "," ,\t,"', b'" ",,,," ",')
    assert found["left"][:, 0].tolist() == [2]
    assert np.isnan(found["numbers"]).all()
    assert found["codes"].tolist() == [[4] * 3, [9] * 3, [2] * 3]
    assert found["times"].tolist() == [-1] * 3


@pytest.mark.parametrize("cell", [b"-0", b"-0.0", b"-0e5", b"-0.000"])
def test_a_zero_keeps_its_sign(cell: bytes) -> None:
    found = scanned(cell + b",,,,,", b' "-0" ,,,,,', b'" -0 ",,,,,', b"0,,,,,")
    assert found["left"][:, 0].tolist() == [1]
    assert np.signbit(found["numbers"][0]).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "record",
    [
        b"+1,,,,,", b"1.,,,,,", b".5,,,,,", b"01,,,,,", b"inf,,,,,", b"nan,,,,,", b"null,,,,,", b"1e,,,,,", b"1 2,,,,,",
        b"12345678901234567890,,,,,", b"x,,,,,", b'"1",,,,,,', b'"1" ,,,,,', b' "1",,,,,', b'"1""",,,,,', b"1,,,,",
        b"   ", b"1,,,,,,", b",,r\"\"ed,,,", b',,"re""d",,,', b",,,2024-01-01,,", b",,,2024-02-30T00:00:00Z,,",
        b"1", b",,,now,,",
        b",,, 2024-01-01T00:00:00Z,,", b",,,2024-01-01T00:00:00 Z,,", b'"1"x,"",,,,', b",\xff,,,,",
        b",\xed\xa0\x80,,,,",
        b",\xc3,,,,", b',"\xc3",,,,', b",,\xc3\xbc\x80,,,", b",,,,,unknown", b",,,,,1\rx", b"\r,,,,,", b",\r,,,,",
        b"\r\r",
        b",,r\red,,,", b',a"b"c,,,,',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_and_nothing_else(record: bytes) -> None:
    before, behind = b"1,,red,,,", b"2,,,,,1"
    found = scanned(before, record, behind)
    assert not found["given_up"]
    assert found["left"].tolist() == [[1, len(before) + 1, len(before) + 1 + len(record)]]
    assert found["numbers"][0].tolist() == [1, 2]
    assert found["counts"].tolist() == [3]


@pytest.mark.parametrize(
    "cell",
    [
        b"x" * 300, "ü € 𝄞 and more than eight bytes".encode(), b"\x00\x01\x1f\x7f\t \x0b", b'"a,b,,c"', b'"a\nb\n\n"',
        b'"a ""b"" c"', b'"""a"""', b'""', b'"a\r\n\r"', b"'a'", b"\xef\xbb\xbfa", b"{'a': [1]}", b"\xf4\x8f\xbf\xbf",
    ],
)  # fmt: skip
def test_cells_that_are_not_wanted_are_skipped(cell: bytes) -> None:
    found = scanned(b"1,,,,,", b"2," + cell + b",red,,3,", b"4,,,,,")
    assert not len(found["left"])
    assert found["numbers"][0].tolist() == [1, 2, 4]
    assert found["codes"][0].tolist() == [4, 0, 4]


def test_blank_lines_are_no_records() -> None:
    found = scanned(b"", b"1,,,,,\r", b"\r", b"2,,,,,", b"", b"3,,,,,", b"", b"")
    assert found["counts"].tolist() == [3]
    assert found["numbers"][0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("record", [b'"1,,,,,', b',"a\n"x,,,,', b'"1\n",,,,,', b',,"r""\ned",,,', b',a",,,,'])
def test_a_quote_that_may_go_on_in_the_next_line_gives_all_up(record: bytes) -> None:
    found = scanned(b"1,,,,,", record, b"2,,,,,", b'"1",,,,,"')
    assert found["given_up"]


def test_a_record_that_is_not_whole_is_not_begun() -> None:
    for record in (b'2,"x', b',"a"",,,,', b'2,,"'):
        found = scanned(b"1,,,,,", record, b"y", b",,,,")
        assert not found["given_up"]
        assert found["end"].tolist() == [7]
        assert found["counts"].tolist() == [1]


def test_too_many_records_that_are_not_plain_are_given_up() -> None:
    found = scanned(*[b"1,,,,,"] * 4, *[b"x"] * 1000)
    assert found["given_up"]
    assert len(found["left"]) < 100
