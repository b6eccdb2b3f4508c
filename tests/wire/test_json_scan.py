"""NDJSON by the kernel: the same rows, rejects, reasons and positions as row by row, for any bytes."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import gaps, json_rows
from kldrift.records.categories import category_text
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode, json_scan, ndjson, targets
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import finish
from tests.faults.payloads import SEEDS, changed
from tests.wire.counting import assert_counted, bins_of
from tests.wire.test_ndjson import CATEGORIES, NUMBERED, SCHEMA, TIMED, C, X, Y, assert_same, line

SECONDS = BatchSchema((X, C, Y), TimestampSpec("x", "s"))
TWICE = BatchSchema(
    (X, C, FeatureSchema("c", "categorical", ("1", "ü", "red")), FeatureSchema("z", "categorical", ("a",))),
    TimestampSpec("ts", "iso8601"),
)
TIMELESS = BatchSchema(TWICE.features)
SCHEMAS = [SCHEMA, TIMED, NUMBERED, SECONDS, TWICE, TIMELESS]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


@pytest.fixture
def always_scanned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """However small a body is; with what the kernel took."""
    taken: list[bool] = []
    by_kernel = json_scan.decode

    def told(*arguments: Any) -> Any:
        decoding = by_kernel(*arguments)
        taken.append(decoding is not None)
        return decoding

    monkeypatch.setattr(json_scan, "decode", told)
    monkeypatch.setattr(ndjson, "SCAN_BYTES", 0)
    yield taken
    assert any(taken)


#: What stands for a missing value: some of the texts that the fields below have.
MARKERS = frozenset({"red", "NA", "unseen"})


def by_kernel(bodies: list[bytes], schema: BatchSchema, bins: BinTable | None = None) -> Decoded | None:
    plan = plan_for(schema, MARKERS)
    decoding = json_scan.decode(bodies, plan, ndjson.decode_rowwise, bins)
    return None if decoding is None else finish(decoding, plan)


def by_rows(bodies: list[bytes], schema: BatchSchema) -> Decoded:
    plan = plan_for(schema, MARKERS)
    return finish(ndjson.decode_one_by_one(bodies, plan), plan)


def assert_agree(bodies: list[bytes], schema: BatchSchema) -> None:
    found = by_kernel(bodies, schema)
    if found is not None:
        expected = by_rows(bodies, schema)
        assert_same(found, expected)
        for one, other in zip(found.bodies, expected.bodies, strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
        assert [(f, rows.tolist()) for f, rows in found.batch.invalid] == [
            (f, rows.tolist()) for f, rows in expected.batch.invalid
        ]
        assert found.batch.n_bytes == expected.batch.n_bytes
    if schema.timestamp is None:
        bins = bins_of(schema)
        counted = by_kernel(bodies, schema, bins)
        assert (counted is None) == (found is None)
        if counted is not None:
            assert_counted(counted, by_rows(bodies, schema), bins)


def plain_rows(n: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [
        json.dumps(
            {
                "x": rng.choice([rng.gauss(0, 1), rng.randint(-9, 9), None, 10 ** rng.uniform(-300, 300)]),
                "c": rng.choice(["red", "1", "", "ü", "unseen", None, True, 1000]),
                "y": rng.gauss(0, 1000),
                "ts": f"2024-02-29T12:{rng.randint(10, 59)}:00.{rng.randint(0, 999)}Z",
                "other": {"text": "x" * rng.randint(0, 40), "list": [1, {"x": 2}]},
            },
            ensure_ascii=False,
        ).encode()
        for _ in range(n)
    ]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(line(), max_size=4).map(b"\n".join), min_size=1, max_size=3), st.sampled_from(SCHEMAS))
def test_kernel_and_rowwise_agree(bodies: list[bytes], schema: BatchSchema) -> None:
    assert_agree(bodies, schema)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(SCHEMAS))
def test_any_bytes_among_plain_rows(data: bytes, schema: BatchSchema) -> None:
    rows = plain_rows(3)
    assert_agree([b"\n".join([*rows, data, *rows])], schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_damaged_rows_agree(schema: BatchSchema) -> None:
    rng = random.Random(7)
    seeds = [*plain_rows(30), *(text for body in SEEDS["ndjson"] for text in body.split(b"\n"))]
    for _ in range(150):
        bodies = []
        for _ in range(rng.choice((1, 1, 3))):
            lines = [
                changed(rng, row) if rng.random() < 0.3 else row for row in rng.choices(seeds, k=rng.randint(1, 40))
            ]
            bodies.append(b"\n".join(lines) + rng.choice((b"", b"\n", b"\r\n\n")))
        assert_agree(bodies, schema)


def test_most_rows_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plain_rows(500)
    assert_agree([b"\n".join(rows)], TWICE)
    left: list[int] = []

    def rowwise(bodies: Any, plan: Any) -> Any:
        left.append(sum(body.count(b"\n") + 1 for body in bodies if body))
        return ndjson.decode_rowwise(bodies, plan)

    plan = plan_for(TWICE)
    assert json_scan.decode([b"\n".join([*rows, b"{", b'{"c": "\\n"}'])], plan, rowwise) is not None
    assert left == [2]


def test_positions_and_reasons_of_what_is_wrong() -> None:
    good = b'{"x": 1, "c": "red", "y": 2}'
    bodies = [
        b"\n".join([good] * 50 + [b"{bad", b"\r", b'{"x": "1", "c": [], "y": true}', b"17", b"",
        b'{"x": 5}'] + [good] * 50),
        b"\n".join([good] * 20 + [b'{"y": {}, "x": NaN}', b"[]"] * 3 + [good]) + b"\n",
    ]  # fmt: skip
    decoded = by_kernel(bodies, SCHEMA)
    assert decoded is not None
    assert [body.accepted for body in decoded.bodies] == [102, 24]
    assert [(e.row, e.feature) for e in decoded.bodies[0].errors] == [
        (50, None), (51, "x"), (51, "c"), (51, "y"), (52, None)
    ]  # fmt: skip
    assert decoded.bodies[0].errors[4].reason == "not_an_object: expected a JSON object, got a number"
    assert [(e.row, e.feature) for e in decoded.bodies[1].errors] == [
        (20, "y"), (21, None), (22, "y"), (23, None), (24, "y"), (25, None)
    ]  # fmt: skip
    assert decoded.batch.columns[0].tolist()[50:53] == pytest.approx([np.nan, 5, 1], nan_ok=True)
    assert_agree(bodies, SCHEMA)


def test_large_bodies_agree_at_their_ends() -> None:
    rows = plain_rows(600)
    for tail in (b"", b"\n", b"\r\n", b"\n\n" * 40, b" " * 100, b"\n" + b"x" * 70, b'\n{"x": 1'):
        body = b"\n".join(rows) + tail
        assert len(body) > 1 << 15
        assert_agree([body], TIMED)
        assert_agree([body, body[:200], b"", body], TIMED)


def test_one_line_longer_than_all_others_together() -> None:
    rows = plain_rows(20)
    for long in (b'{"z": "' + b"z" * 100_000 + b'", "x": 3}', b'{"x": 3, "z": [' + b"1," * 30_000 + b"1]}"):
        for lines in ([long], [*rows, long], [long, *rows]):
            assert_agree([b"\n".join(lines)], SCHEMA)
            assert by_kernel([b"\n".join(lines)], SCHEMA) is not None


def test_a_body_without_enough_plain_rows_is_not_taken() -> None:
    assert by_kernel([b"\n".join([b'{"x": "1"}'] * 100)], SCHEMA) is None
    assert by_kernel([b"\n".join([*plain_rows(100), *[b"{"] * 100])], SCHEMA) is None


@pytest.mark.parametrize(
    "schema",
    [
        BatchSchema((X, FeatureSchema("v", "vector", dimensions=2))),
        BatchSchema((X, FeatureSchema("x", "categorical", ("1",)))),
        BatchSchema((X,), TimestampSpec("x", "iso8601")),
        BatchSchema((C,), TimestampSpec("c", "ms")),
    ],
)
def test_schemas_that_the_kernel_does_not_know(schema: BatchSchema) -> None:
    assert not plan_for(schema).scan
    assert by_kernel([b"{}\n" * 100], schema) is None


def test_a_vocabulary_learns_in_order_of_appearance() -> None:
    vocabulary = Vocabulary(5)
    schema = BatchSchema((FeatureSchema("c", "categorical", vocabulary=vocabulary), X))
    texts = ["a"] * 50 + ["b", "ü", "a", "\ud800", "d"] + ["a"] * 50 + ["e", "f", "g"]
    body = "\n".join(json.dumps({"c": text}) for text in texts).encode()
    vocabulary.code("a")
    decoded = by_kernel([body], schema)
    assert decoded is not None
    assert vocabulary.texts == ("a", "b", "ü", "d", "e")
    assert decoded.batch.columns[0].tolist() == [0] * 50 + [1, 2, 0, 5, 3] + [0] * 50 + [4, 5, 5]
    again = by_kernel([body.replace(b"\\u00fc", "ü".encode())], schema)
    assert again is not None
    assert again.batch.columns[0].tolist() == decoded.batch.columns[0].tolist()


def test_gathering_changes_nothing(always_scanned: list[bool]) -> None:
    bodies = [b"\n".join(plain_rows(n, seed=n)) + b"\n" * (n % 3) for n in (1, 40, 2, 7, 100)]
    gathered = decode("ndjson", [b"\xef\xbb\xbf" + body for body in [*bodies, b"", b"\n \n"]], TWICE)
    assert [body.accepted for body in gathered.bodies] == [1, 40, 2, 7, 100, 0, 0]
    assert gathered.bodies[5].unreadable is not None
    alone = [decode("ndjson", [body], TWICE) for body in bodies]
    for i, column in enumerate(gathered.batch.columns):
        np.testing.assert_array_equal(column, np.concatenate([one.batch.columns[i] for one in alone]))
    assert all(always_scanned)


@pytest.mark.parametrize("schema", [SCHEMA, TWICE])
def test_large_bodies_are_gathered_without_being_joined(schema: BatchSchema) -> None:
    rows = plain_rows(400)
    damaged = [b'{"x": "one"}' if i % 50 == 3 else b"{" if i % 50 == 7 else row for i, row in enumerate(rows)]
    bodies = [b"\n".join(damaged), b"", b"\n".join(rows) + b"\n", b"{}", b"\n".join(damaged[::-1]) + b"\r\n"]
    assert sum(map(len, bodies)) > len(bodies) * json_scan._COPIED_BYTES
    assert by_kernel(bodies, schema) is not None
    assert_agree(bodies, schema)


def test_threads_share_what_was_learned_and_nothing_else() -> None:
    shapes = [[b"\n".join(plain_rows(50, seed=seed))] for seed in range(4)]
    shapes += [[json.dumps({f"k{seed}": 1, "c": "red", "x": seed, "y": None}).encode()] for seed in range(4)]
    expected = [by_rows(bodies, TWICE) for bodies in shapes]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda at: by_kernel(shapes[at % 8], TWICE), range(400)))
    for at, decoded in enumerate(found):
        assert decoded is not None
        assert_same(decoded, expected[at % 8])


def test_a_sender_of_many_keys_does_not_harm_those_that_come_later() -> None:
    many = b"\n".join(b'{"key %d": 1, "x": %d}' % (i, i) for i in range(2000))
    for body in (many, b"\n".join(plain_rows(100)), many, b"\n".join(plain_rows(100, seed=2))):
        assert by_kernel([body], TWICE) is not None
        assert_agree([body], TWICE)
    layout = targets.layout_of(plan_for(TWICE, MARKERS))
    assert layout.idle
    assert all(learned.state[gaps.GAPS] < 100 for learned in layout.idle)


def test_columns_are_contiguous_and_their_own(always_scanned: list[bool]) -> None:
    batch = decode("ndjson", [b"\n".join([*plain_rows(200), b"{"])], TWICE).batch
    assert all(column.flags.c_contiguous and len(column) == 200 for column in batch.columns)
    assert batch.event_ms is not None
    assert batch.event_ms.flags.c_contiguous
    assert not np.shares_memory(batch.columns[1], batch.columns[2])


def test_the_kernel_is_used_for_what_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    rows = plain_rows(200)
    whole = json_rows.scan_rows
    monkeypatch.setattr(json_rows, "scan_rows", lambda *arguments: calls.append(1) or whole(*arguments))
    monkeypatch.setattr(json_rows, "is_ready", lambda: True)
    decode("ndjson", rows[:1], SCHEMA)
    assert not calls
    decode("ndjson", [b"\n".join(rows)], SCHEMA)
    assert calls


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-9, 9) | st.integers(-(10**17), 10**17) | st.floats(), min_size=1))
def test_a_category_that_is_a_number_has_one_text(numbers: list[float]) -> None:
    texts = {text for x in [*numbers, *map(float, numbers)] if (text := category_text(x)) is not None}
    schema = BatchSchema((FeatureSchema("c", "categorical", tuple(sorted(texts))),))
    rows = [text for x in numbers for text in (json.dumps(x), json.dumps(float(x)), f"{x:.1f}", f"{x:.2f}")]
    assert_agree([b"\n".join(b'{"c": %s}' % row.encode() for row in rows)], schema)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"c": st.sampled_from([*CATEGORIES, "other", "\u2028", "a\x7f"])}), min_size=1),
    st.booleans(),
)
def test_every_category_is_found(rows: list[dict[str, str]], ascii_only: bool) -> None:
    body = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode()
    assert_agree([body], SCHEMA)
