"""CSV by the kernel: the same rows, rejects, reasons and positions as record by record, for any bytes."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import csv_records
from kldrift.records.formats import FORMATS
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import csv, csv_scan, decode
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import Decoding, Table, concatenate, finish
from tests.faults.payloads import SEEDS, changed
from tests.wire.counting import assert_counted, bins_of
from tests.wire.test_ndjson import assert_same

X, Y = FeatureSchema("x", "numeric"), FeatureSchema("y", "numeric")
C = FeatureSchema("c", "categorical", ("red", "1", "a,b\nc", " ", "grün", "a text of more than eight", "-0"))
AGAIN = FeatureSchema("c", "categorical", ("green", "red"))
S = FeatureSchema("s", "categorical", ("a", "ä", "b"))
SCHEMA = BatchSchema((X, C, Y))
TIMED = BatchSchema((C, X, AGAIN), TimestampSpec("ts", "iso8601"))
NUMBERED = BatchSchema((S, Y), TimestampSpec("x", "s"))
SCHEMAS = [SCHEMA, TIMED, NUMBERED]
MARKERS = FORMATS["csv"].missing_values
NAMES = ["ts", "x", "c", "s", "x", "other"]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def by_kernel(
    bodies: Sequence[bytes], schema: BatchSchema, names: Sequence[str] = NAMES, bins: BinTable | None = None
) -> Decoded | None:
    plan = plan_for(schema, MARKERS)

    def recordwise(data: bytes) -> Table:
        return csv._decode_recordwise(data, names, plan)

    found = csv_scan.decode([memoryview(body) for body in bodies], names, plan, recordwise, bins)
    return None if found is None else finish(Decoding(*found), plan)


def by_records(bodies: Sequence[bytes], schema: BatchSchema, names: Sequence[str] = NAMES) -> Decoded:
    plan = plan_for(schema, MARKERS)
    tables = [csv._decode_recordwise(body, names, plan) for body in bodies]
    return finish(Decoding(concatenate(tables, plan), [table.n_records for table in tables]), plan)


def assert_agree(bodies: Sequence[bytes], schema: BatchSchema, names: Sequence[str] = NAMES) -> bool:
    """The same by the kernel, if it takes them, in columns and in counts."""
    found = by_kernel(bodies, schema, names)
    bins = bins_of(schema)
    counted = by_kernel(bodies, schema, names, bins)
    if found is None:
        assert counted is None
        return False
    expected = by_records(bodies, schema, names)
    assert_same(found, expected)
    for one, other in zip(found.bodies, expected.bodies, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    invalid = [(feature, rows.tolist()) for feature, rows in expected.batch.invalid]
    assert [(feature, rows.tolist()) for feature, rows in found.batch.invalid] == invalid
    assert found.batch.n_bytes == expected.batch.n_bytes
    assert counted is not None
    if schema.timestamp is None:
        assert_counted(counted, expected, bins)
    else:
        assert_same(counted, expected)
    return True


def plain_records(n: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    records = []
    for _ in range(n):
        cells = [
            rng.choice([f"2024-02-29T12:{rng.randint(10, 59)}:00.{rng.randint(0, 999)}Z", "2024-02-29 12:00:00", ""]),
            rng.choice([repr(rng.gauss(0, 1)), str(rng.randint(-9, 9)), "", "-0", f" {rng.gauss(0, 9):.4f}\t"]),
            rng.choice(
                ["red", "1", "", '"a,b\nc"', " ", "grün", "a text of more than eight", "unseen", "ünseen", "-0"]
            ),
            rng.choice(["a", "ä", "b", "a", "c"]),
            "x" * rng.randint(0, 30),
            rng.choice(["", "ü€𝄞", '"with ""quotes"", and\nnewlines"', "1", "a\x00b\x1f", '""']),
        ]
        cells = [cell if '"' in cell or rng.random() < 0.7 else f'"{cell}"' for cell in cells]
        records.append(",".join(cells).encode())
    return records


CELLS = st.one_of(
    st.sampled_from(
        ["", '""', " ", '" "', "1", "-2.5", " 3", "4\t", '" 5 "', "nan", "inf", "x", '"5"', "red", '"a ""b"""',
         '"a,b\nc"', "grün", "ü", "\x00", "-0", "-0.0", "+1", "1.", ".5", "01", "1e5", "1e400", "1" * 30, '"1', 'a"b',
         "a\r", "\r", '"x"y', "2024-02-29T12:34:56Z", '"2024-02-29 12:34:56.5+01:00"', "2024-02-30", "2024-01-01",
         "1700000000", "null", "'1'", "1.0", '"1.00"', "01.0", "-1.0", "True", "FALSE", "x1.0", "1.10",
         *sorted(MARKERS), '" NA\t"', " N/A", "NA x"]
    ),
    st.floats().map(repr),
    st.text(max_size=12),
)  # fmt: skip
RECORDS = st.lists(CELLS, min_size=len(NAMES), max_size=len(NAMES)) | st.lists(CELLS, max_size=8)
BODIES = st.lists(RECORDS, max_size=4).flatmap(
    lambda records: st.sampled_from(["\n", "\r\n", "\n\n"]).map(
        lambda end: end.join(",".join(cells) for cells in records).encode("utf-8", "surrogatepass")
    )
)


@settings(max_examples=500, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=3), st.sampled_from(SCHEMAS))
def test_kernel_and_recordwise_agree(bodies: list[bytes], schema: BatchSchema) -> None:
    assert_agree(bodies, schema)


@settings(max_examples=300, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=5), st.sampled_from(SCHEMAS), st.sampled_from(NAMES))
def test_one_column(cells: list[str], schema: BatchSchema, name: str) -> None:
    assert_agree(["\n".join(cells).encode("utf-8", "surrogatepass")], schema, [name])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(SCHEMAS))
def test_any_bytes_among_plain_records(data: bytes, schema: BatchSchema) -> None:
    records = plain_records(3)
    assert_agree([b"\n".join([*records, data, *records])], schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_damaged_records_agree(schema: BatchSchema) -> None:
    rng = random.Random(7)
    seeds = plain_records(60)
    taken = 0
    for _ in range(250):
        bodies = []
        for _ in range(rng.choice((1, 1, 3))):
            lines = [
                changed(rng, record) if rng.random() < 0.1 else record
                for record in rng.choices(seeds, k=rng.randint(1, 40))
            ]
            bodies.append(b"\n".join(lines) + rng.choice((b"", b"\n", b"\r\n\n")))
        taken += assert_agree(bodies, schema)
    assert taken > 50


def test_damaged_bodies_agree() -> None:
    rng = random.Random(3)
    names = SEEDS["csv"][0].split(b"\n")[0].decode().split(",")
    taken = 0
    for _ in range(600):
        body = changed(rng, rng.choice(SEEDS["csv"]).split(b"\n", 1)[1])
        taken += assert_agree([body], rng.choice(SCHEMAS), names)
    assert taken > 300


def test_most_records_are_plain() -> None:
    records = plain_records(500)
    left: list[bytes] = []
    plan = plan_for(TIMED)

    def recordwise(data: bytes) -> Table:
        left.append(data)
        return csv._decode_recordwise(data, NAMES, plan)

    body = b"\n".join([*records, b"1", b',+1,"r""ed",a,,'])
    assert csv_scan.decode([memoryview(body)], NAMES, plan, recordwise) is not None
    assert left == [b'1\n,+1,"r""ed",a,,']
    assert_agree([body], TIMED)


def test_positions_and_reasons_of_what_is_wrong() -> None:
    good = b",1,red,a,2,"
    bodies = [
        b"\n".join([good] * 50 + [b"1,2", b"\r", b",bad,\xff,a,,", b",x,red,a,,", b"", b",5,red,a,,"] + [good] * 50),
        b"\n".join([good] * 20 + [b",NaN,red,,,", b"a,,,,,,,"] * 3 + [good]) + b"\n",
    ]
    decoded = by_kernel(bodies, SCHEMA)
    assert decoded is not None
    assert [body.accepted for body in decoded.bodies] == [102, 24]
    assert [(e.row, e.feature, e.reason) for e in decoded.bodies[0].errors] == [
        (50, None, "malformed: expected 6 fields as in the header, got 2"),
        (51, None, "malformed: expected UTF-8, got other bytes"),
        (52, "x", "expected a number, got text that is no number"),
    ]
    assert [e.row for e in decoded.bodies[1].errors] == [21, 23, 25]
    assert decoded.batch.columns[0].tolist()[49:53] == pytest.approx([1, np.nan, 5, 1], nan_ok=True)
    assert_agree(bodies, SCHEMA)


def test_large_bodies_agree_at_their_ends() -> None:
    records = plain_records(800)
    whole = b'"' + b"q\n" * 200 + b'"'
    for tail in (b"", b"\n", b"\r\n", b"\n\n" * 40, b" " * 100, b"\n" + b"x" * 70, b"\n,1,red", b"\n,1,red,,," + whole):
        body = b"\n".join(records) + tail
        assert len(body) > 1 << 15
        assert assert_agree([body], TIMED)
        assert assert_agree([body, body[:200].rpartition(b"\n")[0], b"", body], SCHEMA)


@pytest.mark.parametrize("bad", [b",+2,red,a,,", b",+2", b',+2,re"d",a,,', b",+2,r\red,a,,"])
def test_what_is_left_is_decoded_in_bulk_or_one_by_one(bad: bytes) -> None:
    left = [b",+1,red,a,," + b"x" * 200] * 100
    lines = plain_records(1000)
    lines[300:300] = [*left, bad]
    head = ",".join(NAMES).encode() + b"\n"
    for schema in SCHEMAS:
        found = decode("csv", [b"\n".join(lines)] * 2, schema, header=head)
        assert_same(found, by_records([b"\n".join(lines)] * 2, schema))


def test_records_over_many_lines() -> None:
    plain = plain_records(50)
    for n_lines, taken in ((900, True), (999, True), (1000, False), (5000, False)):
        long = b",1,red,a,," + b'"' + b"\n" * n_lines + b'"'
        assert assert_agree([b"\n".join([*plain, long, *plain])], SCHEMA) == taken


def test_a_quote_that_is_not_closed_gives_all_up() -> None:
    plain = plain_records(50)
    for line in (b',1,"red,a,,', b',1,red,a,,"x', b',1,r"ed,a,,', b',"1\n",red,a,,'):
        for records in ([line], [*plain, line], [*plain, line, *plain]):
            assert not assert_agree([b"\n".join(records)], SCHEMA)
            assert not assert_agree([b"\n".join(records), b',"\n'], SCHEMA)


def test_no_record_goes_on_in_the_next_body() -> None:
    bodies = [b"\n".join([*plain_records(20), b',1,red,a,,"x']), b'y"\n' + b"\n".join(plain_records(20))]
    assert not assert_agree(bodies, SCHEMA)


def test_a_cell_of_any_length() -> None:
    plain = plain_records(20)
    for n in (131_000, 131_072, 131_073, 400_000):
        for cell in (b"x" * n, b'"' + b"x" * n + b'"'):
            assert assert_agree([b"\n".join([*plain, b",1,red,a,," + cell, *plain])], SCHEMA)


def test_a_body_without_enough_plain_records_is_not_taken() -> None:
    assert not assert_agree([b"\n".join([b",+1,red,a,,"] * 100)], SCHEMA)
    assert not assert_agree([b"\n".join([*plain_records(100), *[b"1"] * 100])], SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        BatchSchema((X, FeatureSchema("v", "vector", dimensions=2))),
        BatchSchema((X, FeatureSchema("x", "categorical", ("1",)))),
        BatchSchema((X,), TimestampSpec("x", "iso8601")),
    ],
)
def test_schemas_that_the_kernel_does_not_know(schema: BatchSchema) -> None:
    assert by_kernel([b",1,,,,\n" * 100], schema) is None


def test_what_no_column_is_for_is_missing() -> None:
    schema = BatchSchema((X, FeatureSchema("gone", "numeric"), FeatureSchema("lost", "categorical", ("1",))))
    assert assert_agree([b"\n".join(plain_records(100))], schema)
    for unit in ("s", "iso8601"):
        assert assert_agree([b"\n".join(plain_records(100))], BatchSchema((X, S), TimestampSpec("when", unit)))


def test_a_vocabulary_learns_in_order_of_appearance() -> None:
    vocabulary = Vocabulary(5)
    schema = BatchSchema((FeatureSchema("c", "categorical", vocabulary=vocabulary), X))
    body = "\n".join(["a"] * 50 + ["b", "ü", "a", '"d"'] + ["a"] * 50 + ["e", "f", "g"]).encode()
    vocabulary.code("a")
    decoded = by_kernel([body], schema, ["c"])
    assert decoded is not None
    assert vocabulary.texts == ("a", "b", "ü", "d", "e")
    assert decoded.batch.columns[0].tolist() == [0] * 50 + [1, 2, 0, 3] + [0] * 50 + [4, 5, 5]


def test_gathering_changes_nothing() -> None:
    head = ",".join(NAMES).encode()
    bodies = [head + b"\r\n" + b"\n".join(plain_records(n, seed=n)) + b"\n" * (n % 3) for n in (1, 40, 2, 7, 100)]
    alone = [decode("csv", [body], TIMED) for body in bodies]
    others = [b"\xef\xbb\xbf" + body for body in bodies] + [b"", head, b"x\n1\n"]
    for gathered in (decode("csv", others, TIMED), decode("csv", others[::-1], TIMED)):
        assert sorted(body.accepted for body in gathered.bodies) == sorted(
            [0, 0, 0, *(one.batch.n_rows for one in alone)]
        )
    gathered = decode("csv", bodies, TIMED)
    for i, column in enumerate(gathered.batch.columns):
        np.testing.assert_array_equal(column, np.concatenate([one.batch.columns[i] for one in alone]))
    rests = [body.split(b"\n", 1)[1] for body in bodies]
    later = decode("csv", rests, TIMED, header=head + b"\n")
    assert_same(later, gathered)


def test_counts_are_of_one_header_only() -> None:
    plan, bins = plan_for(SCHEMA), bins_of(SCHEMA)
    body = b"x,c\n" + b"1,red\n" * 1000
    counted = csv.decode([body, body], plan, bins=bins).table
    assert counted.counts is not None
    assert counted.n_records == 2000
    assert counted.counts.values.sum() == 6000
    mixed = csv.decode([body, body.replace(b"x,c", b"x,y")], plan, bins=bins).table
    assert mixed.counts is None
    assert mixed.n_records == 2000


def test_threads_share_nothing() -> None:
    shapes = [[b"\n".join(plain_records(50, seed=seed))] for seed in range(4)]
    expected = [by_records(bodies, SCHEMA) for bodies in shapes]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda at: by_kernel(shapes[at % 4], SCHEMA), range(200)))
    for at, decoded in enumerate(found):
        assert decoded is not None
        assert_same(decoded, expected[at % 4])


def test_the_kernel_is_used_unless_it_would_have_to_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = csv_records.scan_records
    monkeypatch.setattr(csv_records, "scan_records", lambda *arguments: calls.append(1) or whole(*arguments))
    for ready in (False, True):
        monkeypatch.setattr(csv_records, "is_ready", lambda ready=ready: ready)
        assert decode("csv", [b"x,c\n1,red\n"], SCHEMA).batch.n_rows == 1
        assert bool(calls) == ready
