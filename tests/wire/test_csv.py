"""CSV: cells, bad records, gathering, and that the bulk and the record-wise pass agree."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.wire import csv, decode
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import Decoding, Table, finish

SCHEMA = BatchSchema((FeatureSchema("x", "numeric"), FeatureSchema("c", "categorical", ("red", "1", 'a "b"\nc', " "))))
TIMED = BatchSchema((FeatureSchema("x", "numeric"),), TimestampSpec("ts", "s"))


def column(decoded: Decoded, i: int = 0) -> list[float | None]:
    return [None if v != v else v for v in decoded.batch.columns[i].tolist()]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1", 1.0), ("+1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("", None), ('""', None), (" ", None), (" 1.5 ", 1.5),
        ('"1.5"', 1.5), ("nan", None), ("NaN", None), ("inf", np.inf), ("-Infinity", -np.inf), ("1e400", np.inf),
        ("1" * 400, np.inf),
    ],
)  # fmt: skip
@pytest.mark.parametrize("other", ["1", "bad"])
def test_numeric_cells(cell: str, number: float | None, other: str) -> None:
    """The cell `bad` sends all to the pass that reads text."""
    decoded = decode("csv", [f"x,c\n{cell},red\n{other},red\n".encode()], SCHEMA)
    assert column(decoded)[0] == number
    assert [rows.tolist() for _, rows in decoded.batch.invalid] == ([[1]] if other == "bad" else [])


@pytest.mark.parametrize("cell", ["abc", "1_000", "0x10", "true", "-", "?", "1e", "--1", "٣", "1 2", "NAN A"])
def test_text_that_is_no_number_costs_itself(cell: str) -> None:
    decoded = decode("csv", [f"c,x\nred,1\nred,{cell}\nred,3\n".encode()], SCHEMA)
    assert column(decoded) == [1, None, 3]
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (0, [1])
    assert decoded.bodies[0].accepted == 3
    (error,) = decoded.bodies[0].errors
    assert (error.row, error.feature, error.reason) == (1, "x", "expected a number, got text that is no number")


def test_categories_are_text() -> None:
    decoded = decode("csv", [b'x,c\n1,red\n2,1\n3,1.0\n4,\n5,""\n6,"a ""b""\nc"\n7, \n8,blue\n'], SCHEMA)
    assert column(decoded, 1) == [0, 1, 1, 5, 5, 2, 3, 4]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (b"1", "expected 3 fields as in the header, got 1"), (b"1,2,3,4", "expected 3 fields as in the header, got 4"),
        (b"1,\xff,", "expected UTF-8, got other bytes"), (b'1,"red,', "a quote is opened and not closed"),
        (b"   ", "expected 3 fields as in the header, got 1"),
    ],
)  # fmt: skip
def test_a_bad_record_costs_itself(record: bytes, fault: str) -> None:
    body = b"x,c,z\n1,red,\n" + record + b"\n3,red,5\n"
    decoded = decode("csv", [body, b"x,c,z\n4,red,\n"], SCHEMA)
    assert column(decoded) == [1, 3, 4]
    assert [b.accepted for b in decoded.bodies] == [2, 1]
    assert dict(decoded.bodies[0].rejected) == {"malformed": 1}
    (error,) = decoded.bodies[0].errors
    assert (error.row, error.feature, error.reason) == (1, None, f"malformed: {fault}")


def test_a_quote_within_a_field_swallows_no_other_record() -> None:
    (body,) = decode("csv", [b'c,x\nred,1\n5" pipe,2\n6" pipe,3\nred,4\na "b" c,5\n'], SCHEMA).bodies
    assert body.accepted == 3
    assert dict(body.rejected) == {"malformed": 2}
    assert [(error.row, error.reason) for error in body.errors] == [
        (1, "malformed: a quote in a field that does not begin with one"),
        (2, "malformed: a quote is opened and not closed"),
    ]


def test_missing_and_extra_columns() -> None:
    decoded = decode("csv", [b"z,x\nq,1\nq,2\n"], SCHEMA)
    assert column(decoded) == [1, 2]
    assert column(decoded, 1) == [5, 5]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_line_ends_blank_lines_and_a_byte_order_mark(end: bytes) -> None:
    decoded = decode("csv", [b"\xef\xbb\xbfx,c\r\n1,red\r\n\r\n2,red" + end], SCHEMA)
    assert column(decoded) == [1, 2]
    assert column(decoded, 1) == [0, 0]
    assert decoded.bodies[0].rejected == {}


def test_a_single_column() -> None:
    schema = BatchSchema((FeatureSchema("x", "numeric"),))
    assert column(decode("csv", [b"x\n1\n\n2\n"], schema)) == [1, 2]


def test_of_a_repeated_column_the_first_counts() -> None:
    assert column(decode("csv", [b"x,x,c\n1,2,red\n"], SCHEMA)) == [1]
    assert column(decode("csv", [b"x,x,c\n1,2,red\n9\n"], SCHEMA)) == [1]


def test_chunks_of_a_file_take_its_header() -> None:
    decoded = decode("csv", [b"1,red\n2,red\n", b"3,blue"], SCHEMA, header=b"x,c\n")
    assert column(decoded) == [1, 2, 3]
    assert [b.accepted for b in decoded.bodies] == [2, 1]


def test_gathered_bodies_keep_their_counts() -> None:
    bodies = [
        b"x,c\n1,red\n2,red",
        b"x,c\n",
        b'x,c\n3,"a ""b""\nc"\n',
        b"c,x\nred,4\n",
        b"x,c\n5,red\n",
        b"x,c\n6,red\n",
    ]
    decoded = decode("csv", bodies, SCHEMA)
    assert [b.accepted for b in decoded.bodies] == [2, 0, 1, 1, 1, 1]
    assert column(decoded) == [1, 2, 3, 4, 5, 6]
    assert all(b.unreadable is None for b in decoded.bodies)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty body: expected a header line"),
        (b"\n\n", "empty body: expected a header line"),
        (
            b"1.5,red\n2,red\n",
            "no column of the header is a feature: expected some of x, c separated by commas, got 1.5, red;",
        ),
        (b"x;c\n1;red\n", "no column of the header is a feature"),
        (b"\xff\n1\n", "unreadable header line"),
        (b'"x,c\n1,red\n', "unreadable header line"),
        (b"a," * 30_000 + b"x\n", "expected at most 20000 columns, got 30001"),
    ],
)
def test_unreadable(body: bytes, message: str) -> None:
    decoded = decode("csv", [body, b"x,c\n1,red\n"], SCHEMA)
    assert (decoded.bodies[0].unreadable or "").startswith(message)
    assert [b.accepted for b in decoded.bodies] == [0, 1]
    assert column(decoded) == [1]


def test_short_records_cost_no_memory() -> None:
    """4,000 columns of 200,000 blank lines would be 13 GB of nulls."""
    head = b",".join(b"a%d" % i for i in range(4000)) + b",x\n"
    (body,) = decode("csv", [head + b"1\n" * 200_000], SCHEMA).bodies
    assert dict(body.rejected) == {"malformed": 200_000}
    assert body.unreadable is not None


def test_quotes_that_never_close_cost_linear_time() -> None:
    (body,) = decode("csv", [b"x,c\n1,red\n" + b'1,"red\n2,a\n' * 100_000], SCHEMA).bodies
    assert body.accepted >= 100_000
    assert body.rejected == {"malformed": 100_000}


def test_times() -> None:
    decoded = decode("csv", [b"x,ts\n1,1700000000.5\n2,\n3,soon\n4, 1700000001\n"], TIMED)
    assert column(decoded) == [1, 4]
    assert decoded.batch.event_ms is not None
    assert decoded.batch.event_ms.tolist() == [1700000000500, 1700000001000]
    assert dict(decoded.bodies[0].rejected) == {"timestamp": 2}


CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            '""',
            " ",
            "1",
            "-2.5",
            " 3",
            "4 ",
            "nan",
            "inf",
            "x",
            '"5"',
            "red",
            '"a ""b""\nc"',
            '"q,r"',
            "ü",
            "\x00",
            'a"b',
            '5" pipe',
            '"a"b',
            "a\rb",
            '"a\rb"',
            '""""',
            '"a""',
            '"a\r\n"',
        ]
    ),
    st.floats().map(repr),
)


def _finish(table: Table, schema: BatchSchema) -> Decoded:
    return finish(Decoding(table, [table.n_records]), plan_for(schema))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6), st.sampled_from([SCHEMA, TIMED]))
def test_bulk_and_recordwise_agree(rows: list[list[str]], schema: BatchSchema) -> None:
    names = ["ts", "x", "c"]
    data = "".join(",".join(row) + "\n" for row in rows).encode()
    plan = plan_for(schema)
    fast = csv._decode_bulk(data, names, plan)
    if fast is None:
        return
    a, b = _finish(fast, schema), _finish(csv._decode_recordwise(data, names, plan), schema)
    assert a.bodies == b.bodies
    for left, right in zip(a.batch.columns, b.batch.columns, strict=True):
        np.testing.assert_array_equal(left, right)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text('x,c"\n\r 1', max_size=40).map(str.encode)))
def test_any_bytes_are_survived(data: bytes) -> None:
    decoded = decode("csv", [data, b"x,c\n" + data], SCHEMA)
    assert decoded.batch.n_rows == sum(body.accepted for body in decoded.bodies)


def _assert_same(found: Decoded, expected: Decoded) -> None:
    assert found.bodies == expected.bodies
    for one, other in zip(found.batch.columns, expected.batch.columns, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_header_line_that_comes_again_is_passed_over(newline: str) -> None:
    lines = ["x,y,c", "1,2,red", "x,y,c", "3,4,blue", "x,y,c", "x,y,c", "5,6,red", "x,y,c"]
    rows = [lines[0], *(line for line in lines[1:] if line != "x,y,c")]
    expected = decode("csv", [newline.join(rows).encode()], SCHEMA)
    for end in ("", newline):
        _assert_same(decode("csv", [(newline.join(lines) + end).encode()], SCHEMA), expected)
    chunk = newline.join([*lines[1:], ""]).encode()
    _assert_same(decode("csv", [chunk], SCHEMA, header=f"x,y,c{newline}".encode()), expected)
    again = newline.join(["x,y,c", *lines[1:], ""]).encode()
    _assert_same(decode("csv", [again], SCHEMA, header=f"x,y,c{newline}".encode()), expected)


@pytest.mark.parametrize(("lines", "rows"), [(b"x,c\n", 0), (b'1,"\nx,c\n"\n', 100_000)])
def test_many_header_lines_cost_no_more_than_their_bytes(lines: bytes, rows: int) -> None:
    """Counting the quotes from the start for each of them took minutes for a body of a megabyte."""
    began = time.monotonic()
    assert decode("csv", [b"x,c\n" + lines * 100_000], SCHEMA).batch.n_rows == rows
    assert time.monotonic() - began < 5


def test_what_only_looks_like_the_header_is_a_record() -> None:
    inside = b'x,y,c\n1,2,"a\nx,y,c\nb"\n'
    assert decode("csv", [inside], SCHEMA).bodies[0].accepted == 1
    longer = decode("csv", [b"x,y,c\nx,y,cc\nx,y,c,d\n1,2,red\n"], SCHEMA)
    assert longer.bodies[0].accepted == 2  # x and y are no numbers
    assert longer.bodies[0].rejected == {"malformed": 1}
    assert decode("csv", [b"x\nx\n1\n"], SCHEMA).bodies[0].accepted == 1


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("general", [False, True])
def test_a_header_line_that_comes_again_may_have_a_bom(newline: str, general: bool) -> None:
    """Spreadsheets write one, and files of theirs are joined."""
    quoted = '1,2,"re""d"' if general else "1,2,red"
    body = newline.join(["\ufeffx,y,c", quoted, "\ufeffx,y,c", "3,4,blue", "\ufeffx,y,c"])
    expected = decode("csv", [newline.join(["x,y,c", quoted, "3,4,blue"]).encode()], SCHEMA)
    _assert_same(decode("csv", [body.encode()], SCHEMA), expected)
    _assert_same(decode("csv", [(body + newline).encode()], SCHEMA), expected)
