"""Lists of JSON by the kernel: the same rows, rejects, reasons and positions as the general way, for any bytes."""

import json as text_of
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import gaps, json_rows
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, Vocabulary
from kldrift.wire import json, json_scan, ndjson, targets
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import finish
from tests.faults.payloads import SEEDS, changed
from tests.wire.counting import assert_counted, bins_of
from tests.wire.test_json_scan import SCHEMAS, TIMELESS, TWICE, plain_rows
from tests.wire.test_ndjson import SCHEMA, TIMED, C, X, assert_same, line

BLANKS = ["", "", "", " ", "\n", "\r\n\t", "\n    "]
SEVERAL = [SCHEMA, TIMELESS, TIMED, TWICE]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """However small a body is; with what the kernel took."""
    taken: list[bool] = []
    by_kernel = json_scan.read_list

    def told(*arguments: Any) -> Any:
        target = by_kernel(*arguments)
        taken.append(target is not None)
        return target

    monkeypatch.setattr(json_scan, "read_list", told)
    monkeypatch.setattr(json, "SCAN_BYTES", 0)
    return taken


def decoded_by(bodies: list[bytes], schema: BatchSchema, kernel: bool, bins: BinTable | None = None) -> Decoded:
    plan = plan_for(schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "SCAN_BYTES", 0 if kernel else 1 << 60)
        return finish(json.decode(bodies, plan, bins=bins), plan)


def assert_agree(bodies: list[bytes], schema: BatchSchema) -> None:
    found, expected = decoded_by(bodies, schema, True), decoded_by(bodies, schema, False)
    assert_same(found, expected)
    for one, other in zip(found.bodies, expected.bodies, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    assert [(f, rows.tolist()) for f, rows in found.batch.invalid] == [
        (f, rows.tolist()) for f, rows in expected.batch.invalid
    ]
    assert found.batch.n_bytes == expected.batch.n_bytes
    bins = bins_of(schema)
    counted = decoded_by(bodies, schema, True, bins)
    if counted.batch.counts is None:
        assert_same(counted, expected)
    else:
        assert schema.timestamp is None
        assert_counted(counted, expected, bins)


def list_of(rows: list[bytes], blank: bytes = b"") -> bytes:
    return b"[" + blank + (b"," + blank).join(rows) + blank + b"]"


@st.composite
def list_body(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(line() | st.sampled_from([b"1", b"[]", b'"a"', b"null", b"", b"NaN"]), max_size=6))
    blanks = st.sampled_from(BLANKS).map(str.encode)
    parts = [draw(blanks) + row + draw(blanks) for row in rows]
    edges = st.sampled_from([b"", b"", b"", b" ", b"\n", b"x", b"]", b"\xef\xbb\xbf"])
    return draw(edges) + b"[" + b",".join(parts) + b"]" + draw(edges)


@settings(max_examples=400, deadline=None)
@given(st.lists(list_body(), min_size=1, max_size=3), st.sampled_from(SCHEMAS))
def test_kernel_and_general_way_agree(bodies: list[bytes], schema: BatchSchema) -> None:
    assert_agree(bodies, schema)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}:,"x1 \\\n', max_size=20).map(str.encode), st.sampled_from(SEVERAL))
def test_any_bytes_among_plain_rows(data: bytes, schema: BatchSchema) -> None:
    rows = plain_rows(3)
    whole = list_of(rows)
    assert_agree([list_of([*rows, data, *rows]), whole, whole + data, data + whole, whole[:-1] + data], schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_damaged_bodies_agree(schema: BatchSchema) -> None:
    rng = random.Random(7)
    seeds = [*plain_rows(30), *SEEDS["ndjson"][0].split(b"\n")[:-1]]
    for _ in range(120):
        bodies = []
        for _ in range(rng.choice((1, 1, 3))):
            body = list_of(rng.choices(seeds, k=rng.randint(1, 40)), rng.choice(BLANKS).encode())
            bodies.append(changed(rng, body) if rng.random() < 0.5 else body)
            if rng.random() < 0.3:
                bodies.append(changed(rng, rng.choice(SEEDS["json"])))
        assert_agree(bodies, schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_damaged_rows_agree(schema: BatchSchema) -> None:
    """Rows of one's own choosing are damaged so that most of them are JSON still."""
    rng = random.Random(8)
    values = ["1.0", "1e400", "123456789012345678901", "18446744073709551616", "[]", "{}", '"\\u0031"', '"\\ud800"',
              '"1"', "true", "null", '{"x": 1, "x": 2}', "-0", "1.5", "1e5", '"a\\nb"', "9" * 400]  # fmt: skip
    for _ in range(150):
        rows = []
        for row in plain_rows(rng.randint(20, 60), seed=rng.randrange(1000)):
            if rng.random() < 0.1:
                pairs = [f'"{rng.choice("xcyz")}": {rng.choice(values)}' for _ in range(rng.randint(0, 4))]
                rows.append("{" + ", ".join(pairs) + "}")
            elif rng.random() < 0.03:
                rows.append(rng.choice(values))
            else:
                rows.append(row.decode())
        assert_agree([list_of([row.encode() for row in rows], rng.choice(BLANKS).encode())] * 2, schema)


@pytest.mark.parametrize("blank", ["", " ", "\n", "\r\n\t", "\n" * 100])
def test_lists_however_they_are_spaced(blank: str, taken: list[bool]) -> None:
    rows = [text_of.loads(row) for row in plain_rows(50)]
    separators = blank + "," + blank, blank + ":" + blank
    body = text_of.dumps(rows, ensure_ascii=False, indent=blank, separators=separators).encode()
    assert_agree([body, b"\xef\xbb\xbf" + blank.encode() + body + blank.encode()], SCHEMA)
    assert taken == [True] * 4


def test_only_the_rows_that_are_not_plain_are_left() -> None:
    rows = plain_rows(500)
    odd = [b'{"c": "\\n"}', b'{"x": 12345678901234567890}', b'{"x": 1, "x": 2}', b"5", b'{"x": "1"}', b'[{"x": 1}]']
    for at, row in enumerate(odd):
        rows.insert(50 * at + 3, row)
    for blank in (b"", b" ", b"\n "):
        body = list_of(rows, blank)
        target = json_scan.read_list(body, 0, plan_for(TIMELESS))
        assert target is not None
        assert target.left[:, 0].tolist() == [50 * at + 3 for at in range(6)]
        assert text_of.loads(json_scan.left_in_list(body, target.left)) == [text_of.loads(row) for row in odd]
        assert_agree([body], TIMELESS)


@pytest.mark.parametrize("edge", [0, 1, -1])
def test_a_row_that_is_left_at_either_end(edge: int) -> None:
    rows = plain_rows(30)
    rows.insert(edge, b'{"c": "\\n"}')
    for blank in (b"", b" \n"):
        body = list_of(rows, blank) + blank
        target = json_scan.read_list(body, 0, plan_for(TIMELESS))
        assert target is not None
        assert len(target.left) == 1
        assert_agree([body], TIMELESS)


@pytest.mark.parametrize(
    "tail",
    [b"", b" \n", b",", b"]", b"x", b"{}", b"\x00", b"\xef\xbb\xbf", b"\xa0", b"\x0b", b"[]", b"\n[]", b"//", b"0"],
)
def test_what_stands_behind_the_list(tail: bytes) -> None:
    rows = plain_rows(20)
    for end in (b"]", b"", b",]", b",", b" , ]", b"}", b",,]", b"\n]"):
        assert_agree([b"[" + b",".join(rows) + end + tail], SCHEMA)


@pytest.mark.parametrize(
    "row",
    [
        b'{"x": NaN}', b'{"x": -Infinity, "c": "red"}', b'{"x": 1e400}', b'{"z": 1e400}', b'{"x": nan}', b'{"x": 01}',
        b'{"z": "\xff"}', b'{"c": "\xff"}', b'{"\xff": 1}', b'{"z": "\\ud800"}', b'{"c": "\\ud800"}', b'{"z": "\n"}',
        b'{"x": 1,}', b'{,}', b"{", b"}", b"", b"{} {}", b"{}]", b"],", b'{"x" 1}', b"{'x': 1}", b'{"x": 1\x00}',
        b'{"z": ' + b"[" * 70 + b"]" * 70 + b"}", b'{"z": ' + b"[" * 1100 + b"]" * 1100 + b"}",
        b'{"z": ' + b"[" * 1000 + b"]" * 1000 + b"}", b'{"z": ' + b"9" * 5000 + b"}", b'{"c": ' + b"9" * 5000 + b"}",
        b'{"c": 18446744073709551616}', b'{"c": -9223372036854775809}', b'{"c": 1e300}', b'{"c": 18446744073709551615}',
        b'{"c": 18446744073709551616, "z": {"a": 1}}', b'{"x": 18446744073709551616, "x": 1}', b'{"x" : 1, "x" : 2}',
        b'{"z": 1, "z": 2, "x": 3}', b'{"c": "a", "\\u0063": "red"}', b'{"c": 1.0}', b'{"c": 1e5}', b'{"c": 0.1}',
        b'{"z": "\\\\\\""}', b'{"z": "\\"\\\\"}', b"[1]", b"[[]]", b"null", b'"{}"', b"-0", b"1e400", b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_a_row_that_decides_how_others_are_read(row: bytes) -> None:
    rows = plain_rows(20)
    for others in ([], [b'{"c": 18446744073709551616}'], [b'{"c": "red", "c": "1"}'], [b'{"z": {"x": 1}}']):
        body = list_of([*rows, row, *others, *rows])
        for schema in (TIMELESS, TIMED):
            assert_agree([body], schema)
            assert_agree([body[:40] + body[-40:], body], schema)


def test_bodies_of_every_shape_keep_their_order(taken: list[bool]) -> None:
    large = list_of(plain_rows(30))
    bodies = [
        b'{"x": 1}', large, b'{"x": [2, 3], "c": ["red", {}]}', b'[{"x": 4}, 5, {"x": "6"}]', b'{"x": 7', large[:-3],
        list_of([*plain_rows(30, seed=2), b"5", b'{"x": "6"}']), b"[]", b" [ ]", b'{"x": 8}', b'{"x": [], "c": []}',
    ]  # fmt: skip
    for schema in SEVERAL:
        for together in (bodies, bodies[:1], bodies[:2], bodies[1:2], bodies[4:6], bodies[1:2] * 3, bodies[::-1]):
            assert_agree(together, schema)
    assert any(taken)
    counted = decoded_by(bodies, SCHEMA, True, bins_of(SCHEMA))
    assert counted.batch.counts is not None


def test_reasons_and_positions_of_what_is_wrong() -> None:
    good = b'{"x": 1, "c": "red"}'
    odd = [b"17", b'{"x": "1", "c": []}', b"[]"]
    body = list_of([good] * 50 + odd + [good] * 50 + [b"0"] * 12 + [good] * 40, b"\n")
    decoded = decoded_by([body], SCHEMA, True)
    assert decoded.bodies[0].accepted == 141
    assert [(e.row, e.feature) for e in decoded.bodies[0].errors[:5]] == [
        (50, None), (51, "x"), (51, "c"), (52, None), (103, None),
    ]  # fmt: skip
    assert decoded.bodies[0].errors[3].reason == "not_an_object: expected a JSON object, got a list"
    assert_agree([body], SCHEMA)


@pytest.mark.parametrize("window", [400, 1000, 5000])
def test_windows_change_nothing(window: int, monkeypatch: pytest.MonkeyPatch, taken: list[bool]) -> None:
    monkeypatch.setattr(json_scan, "_WINDOW_BYTES", window)
    rng = random.Random(window)
    fits = window - 40
    long = [b'{"z": "%s", "x": 3}' % (b"z" * fits), b'{"c": "\\n", "z": [%s1]}' % (b"1," * (fits // 2 - 20))]
    too_long = b'{"z": "%s", "x": 3}' % (b"z" * window)
    for blank in (b"", b" " * 150, b" " * window, b"\n"):
        rows = [*plain_rows(40), b'{"x": 1, "x": 2}', b"5", *long]
        rng.shuffle(rows)
        body = b"[" + blank + (b"," + blank).join([*rows, *rows]) + b"]"
        assert json_scan.read_list(body, 0, plan_for(TIMELESS)) is not None
        assert json_scan.read_list(list_of([*rows, too_long], blank), 0, plan_for(TIMELESS)) is None
        assert_agree([body, body[:-1], body[: rng.randrange(len(body))], body + blank], TIMELESS)
    assert any(taken)


def test_a_large_row_that_is_not_plain_is_not_read_twice() -> None:
    rows = plain_rows(20)
    for n, is_taken in ((60_000, True), (70_000, False)):
        body = list_of([*rows, b'{"z": "' + b"z" * n + b'", "x": "3"}', *rows])
        assert (json_scan.read_list(body, 0, plan_for(SCHEMA)) is not None) == is_taken
        assert_agree([body], SCHEMA)


def test_a_list_of_little_more_than_values_that_are_no_objects(taken: list[bool]) -> None:
    """There is room for no more rows than the kernel may leave."""
    for n in range(1, 60):
        rows = [b"1"] * n
        for at in (0, n // 2, n):
            assert_agree([list_of([*rows[:at], b'{"x": 1}', *rows[at:]])], SCHEMA)
    assert not all(taken)
    most = list_of([b"1"] * 17 + [b'{"x": 1}', b"{}", b"2"])
    assert json_scan.read_list(most, 0, plan_for(SCHEMA)) is not None


def test_lists_of_few_plain_rows_are_not_taken() -> None:
    for rows in ([b'{"x": "1"}'] * 100, [*plain_rows(100), *[b"{}", b"0"] * 200]):
        assert json_scan.read_list(list_of(rows), 0, plan_for(SCHEMA)) is None
        assert_agree([list_of(rows)], SCHEMA)


def test_more_rows_than_a_batch_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary(100)
    schema = BatchSchema((X, FeatureSchema("c", "categorical", vocabulary=vocabulary)))
    plan = plan_for(schema)
    monkeypatch.setattr(type(plan), "max_rows", 60)
    texts = [f'{{"c": "{i}"}}'.encode() for i in range(3)]
    bodies = [list_of([b'{"x": 1}'] * n + texts[i : i + 1]) for i, n in enumerate((40, 30, 15, 5))]
    decoded = finish(json.decode(bodies, plan), plan)
    assert [body.accepted for body in decoded.bodies] == [41, 0, 16, 0]
    assert decoded.bodies[1].unreadable is not None
    assert decoded.bodies[1].unreadable.startswith("31 rows of 2 values are too many")
    assert vocabulary.texts == ("0", "2")


def test_a_vocabulary_learns_in_order_of_appearance() -> None:
    texts = [["b"], ["a"] * 50 + ["ü", "a", "d", "\ud800"] + ["a"] * 50, ["e", "b", "f"], ["a"] * 50 + ["g", "b"] * 2]
    bodies = [text_of.dumps([{"c": text} for text in body]).encode() for body in texts]
    found = []
    for kernel in (True, False):
        vocabulary = Vocabulary(6)
        schema = BatchSchema((X, FeatureSchema("c", "categorical", vocabulary=vocabulary)))
        decoded = decoded_by(bodies, schema, kernel)
        again = decoded_by(bodies, schema, kernel)
        assert_same(decoded, again)
        found.append((vocabulary.texts, decoded.batch.columns[1].tolist()))
    assert found[0] == found[1]
    assert found[0][0] == ("b", "a", "ü", "d", "e", "f")


def test_lists_and_lines_do_not_share_what_was_learned() -> None:
    rows = plain_rows(40)
    plan = plan_for(TIMELESS)
    for _ in range(2):
        assert_agree([list_of(rows, b"\n")], TIMELESS)
        for body in (b"\n".join(rows), b"\n".join([*rows, b'{"x": 1},', b'{"x": 1}]', b'{"x":\n1}'])):
            lines = json_scan.decode([body], plan, ndjson.decode_rowwise)
            assert lines is not None
            assert [len(at) for at in lines.table.rejected.values()] == ([4] if b"}," in body else [])
    layout = targets.layout_of(plan)
    assert len(layout.idle) == len(layout.idle_lists) == 1


def test_a_sender_of_many_keys_does_not_harm_those_that_come_later() -> None:
    many = list_of([b'{"key %d": 1, "x": %d}' % (i, i) for i in range(2000)])
    for body in (many, list_of(plain_rows(100)), many, list_of(plain_rows(100, seed=2))):
        assert_agree([body], TIMELESS)
    assert all(learned.state[gaps.GAPS] < 100 for learned in targets.layout_of(plan_for(TIMELESS)).idle_lists)


def test_the_kernel_is_used_for_what_is_worth_it(monkeypatch: pytest.MonkeyPatch, taken: list[bool]) -> None:
    monkeypatch.undo()
    calls: list[int] = []
    whole = json_rows.scan_rows
    monkeypatch.setattr(json_rows, "scan_rows", lambda *arguments: calls.append(1) or whole(*arguments))
    monkeypatch.setattr(json_rows, "is_ready", lambda: True)
    plan = plan_for(SCHEMA)
    json.decode([list_of(plain_rows(2))], plan)
    json.decode([b'{"x": [' + b"1," * 1000 + b"1]}"], plan)
    assert not calls
    json.decode([list_of(plain_rows(200))], plan)
    assert calls
    assert not taken


@pytest.mark.parametrize("feature", [FeatureSchema("v", "vector", dimensions=2), FeatureSchema("c", "numeric")])
def test_schemas_that_the_kernel_does_not_know(feature: FeatureSchema) -> None:
    schema = BatchSchema((X, C, feature))
    assert not plan_for(schema).scan
    body = list_of(plain_rows(50))
    assert json_scan.read_list(body, 0, plan_for(schema)) is None
    assert_same(decoded_by([body], schema, True), decoded_by([body], schema, False))
