"""What the kernel says of a record is what the csv module says; a body of bad records costs what its bytes cost."""

import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.parsing import csv_lines as kernel
from kldrift.kernels.parsing.csv_records import MAX_RECORD_BYTES, MAX_RECORD_LINES
from kldrift.records.samples import BatchSchema
from kldrift.wire import csv, csv_lines
from kldrift.wire.csv_lines import fault_of, records_of
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import Decoding, finish
from tests.faults.payloads import mutant
from tests.wire.test_ndjson import SCHEMA, assert_same

NAMES = ["x", "y", "c"]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def assert_sorted(data: bytes, width: int) -> None:
    starts, stops, good, _ = kernel.sort_records(data, width, data.count(b"\n") + 1)
    faults = [record if isinstance(record, str) else fault_of(record, width) for record in records_of(data)]
    assert len(faults) == len(starts)
    for start, stop, may_be_good, fault in zip(starts.tolist(), stops.tolist(), good.tolist(), faults, strict=True):
        text = data[start:stop]
        if fault is None:
            assert may_be_good, text
        elif may_be_good:  # left to the parser
            assert text.strip(b"\r") == b"", text


@given(st.lists(st.sampled_from([b",", b'"', b"\n", b"\r", b"a", b" ", b"\xc3\xa4", b"\xff", b'""', b"\x00"])),
       st.integers(1, 4))  # fmt: skip
@example([b'a,"b\n', b'c",d\n', b'"x\n', b"y,z\n", b"p,q,r\n", b'"m\nn",o,p'], 3)
@example([b'"a"b,c,d\n"a\n"b,c\n,,\n'], 3)
@example([b'a"b,"c,d\n1,2,3'], 3)
@example([b'a\rb,c\n"a\rb",c\na,b\r\r\n\r\r\n'], 2)
@example([b'1,\xff\n"\xff\n",2\n1,2'], 2)
def test_any_records(parts: list[bytes], width: int) -> None:
    assert_sorted(b"".join(parts), width)


def test_damaged_bodies() -> None:
    rng = random.Random(5)
    for _ in range(300):
        body = mutant(rng, "csv")
        for width in (1, 3, 6):
            assert_sorted(body, width)


@pytest.mark.parametrize("size", [MAX_RECORD_BYTES - 1, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1])
def test_the_largest_field(size: int) -> None:
    for cell in (b"a" * size, b'"' + b"a" * size + b'"', b'"' + b'""' * size + b'"', "ä".encode() * size,
                 b'"' + b"a" * (size - 1) + b"\n" + b'"'):  # fmt: skip
        assert_sorted(b"1," + cell + b'\n"a\nb",c\n', 2)


@pytest.mark.parametrize("n_lines", [MAX_RECORD_LINES - 1, MAX_RECORD_LINES, MAX_RECORD_LINES + 1])
def test_a_record_over_many_lines(n_lines: int) -> None:
    assert_sorted(b'1,"' + b"a\n" * (n_lines - 1) + b'"\n"a\nb",c\n', 2)
    assert_sorted(b'1,"' + b"a\n" * (n_lines - 1) + b'x\n"a\nb",c\n', 2)


@pytest.mark.parametrize("schema", [SCHEMA])
def test_records_among_lines_that_are_none(schema: BatchSchema) -> None:
    rng = random.Random(7)
    good = [b"1.5,2,red", b' 7 ,"8","""a"""', b"text,,b", b'1,2,"a\nb"']
    bad = [b"1,2", b"1,2,3,4", b'"a"b,c,d', b"1,2,\xff", b"", b"\r", b'1,2,"a', b"a\rb,c,d"]
    plan = plan_for(schema)
    for k in (30, 400, 2_000):
        for pool in (good + bad, good + bad[:6], bad):
            data = b"\n".join(rng.choices(pool, k=k))
            found = csv._decode_generally(data, NAMES, plan)
            expected = csv._decode_recordwise(data, NAMES, plan)
            assert_same(*(finish(Decoding(table, [table.n_records]), plan) for table in (found, expected)))
            assert found.details == expected.details
            for reason, at in expected.rejected.items():
                np.testing.assert_array_equal(found.rejected[reason], at)


def test_no_line_that_is_no_record_is_parsed_but_for_those_that_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def told(data: bytes, longest: int = MAX_RECORD_LINES) -> object:
        parsed.append(data)
        return records_of(data, longest)

    monkeypatch.setattr(csv_lines, "records_of", told)
    monkeypatch.setattr(csv, "records_of", told)
    for lines in (b"1\n" * 50_000, b'1,"a\n' * 50_000, b'"' + b"a\n" * 50_000, b"1,\xff,2\n" * 50_000):
        parsed.clear()
        decoding = csv.decode([b"x,y,c\n" + lines + b"1,2,red\n"], plan_for(SCHEMA))
        assert decoding.counts == [50_001]
        assert len(decoding.table.rejected["malformed"]) == 50_000
        assert len(parsed) < 15


def test_a_line_of_commas_is_one_bad_record() -> None:
    decoding = csv.decode([b"x,y,c\n" + b"," * 100_000 + b"\n1,2,red\n"], plan_for(SCHEMA))
    assert decoding.counts == [2]
    assert decoding.table.details == {0: "malformed: expected 3 fields as in the header, got 100001"}
