"""What the kernel says of a line is what the parser says; and a body of bad lines costs what its bytes cost."""

import json
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.parsing import json_lines
from kldrift.kernels.parsing.json_syntax import MAX_DEPTH
from kldrift.records.samples import BatchSchema, FeatureSchema
from kldrift.wire import json as json_bodies
from kldrift.wire import json_columns, json_scan, ndjson, rows
from kldrift.wire.json_columns import Columns
from kldrift.wire.json_lines import MALFORMED, NOT_AN_OBJECT, SLICE_BYTES, parse_row, take_out
from kldrift.wire.plan import plan_for
from kldrift.wire.rows import parse
from kldrift.wire.tables import finish
from tests.faults.payloads import mutant
from tests.wire.test_ndjson import NUMBERED, SCHEMA, TIMED, assert_same, line

KINDS = {
    MALFORMED: {json_lines.MALFORMED, json_lines.UNSURE},
    NOT_AN_OBJECT: {json_lines.OTHER, json_lines.UNSURE},
    "": {json_lines.OBJECT, json_lines.UNSURE},
}


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def assert_sorted(body: bytes) -> None:
    starts, stops, kinds = json_lines.sort_lines(body, body.count(b"\n") + 1)
    lines = [text for text in body.split(b"\n") if text.strip(b" \t\r")]
    assert [body[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)] == lines
    for text, kind in zip(lines, kinds.tolist(), strict=True):
        row = parse_row(text)
        assert kind in KINDS["" if isinstance(row, dict) else row[0]], text


@given(st.binary(max_size=60))
@example(b"x")
@example(b"NaN\n-Infinity\n-NaN\n{}x\nInfinit")
@example(b'"\\u12g4"\n"\\ud800"\n"\\x"\n"\x1f"\n"\x7f"')
@example(b"01\n-\n1.\n.5\n1e\n1e+\n-0\n1E-7\n+1")
@example(b'{"a":1,}\n[1,]\n{"a"}\n{,}\n{"a":1 "b":2}\n{1:2}')
@example(b'"\xff"\n"\xc0\x80"\n"\xed\xa0\x80"\n"\xf4\x90\x80\x80"\n\xc3\xa4\n"\xc3\xa4"')
def test_any_bytes(body: bytes) -> None:
    assert_sorted(body)


@given(st.lists(line(), max_size=6).map(b"\n".join))
def test_rows_as_they_come(body: bytes) -> None:
    assert_sorted(body)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES, st.booleans(), st.data())
def test_json_with_a_byte_changed(value: object, ascii_only: bool, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    assert_sorted(bytes(text))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.sampled_from(b'\x00\x1f "\\{}[],:0123456789.-+eEnaNIutf\x80\xff'))
    assert_sorted(bytes(text))


def test_damaged_bodies() -> None:
    rng = random.Random(5)
    for _ in range(300):
        assert_sorted(mutant(rng, "ndjson"))


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 2_000])
def test_what_is_nested_deeply_is_left_to_the_parser(depth: int) -> None:
    assert_sorted(b'{"a":' + b"[" * depth + b"]" * depth + b"}\n" + b"[" * depth + b"\n" + b"{" * depth)


@pytest.mark.parametrize("schema", [SCHEMA, TIMED, NUMBERED])
def test_rows_among_lines_that_are_none(schema: BatchSchema) -> None:
    rng = random.Random(7)
    good = [b'{"x": 1.5, "c": "red", "ts": "2026-01-02T03:04:05Z"}', b'{"y": "\\u00e4", "x": 2}', b'{"x": "text"}']
    bad = [b"x", b"{", b"[]", b"7", b'{"x":1e}', b"\xff", b" ", b"", b'{"x":1}}', b"null"]
    bodies = [b"\n".join(rng.choices(good + bad, k=k)) for k in (0, 1, 30, 400, 2_000)]
    plan = plan_for(schema)
    found, expected = (
        finish(decode(bodies, plan), plan) for decode in (ndjson.decode_rowwise, ndjson.decode_one_by_one)
    )
    assert_same(found, expected)
    for one, other in zip(found.bodies, expected.bodies, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def test_no_line_that_is_no_row_is_parsed_but_for_those_that_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def told(text: bytes) -> object:
        parsed.append(text)
        return parse_row(text)

    monkeypatch.setattr("kldrift.wire.json_lines.parse_row", told)
    monkeypatch.setattr("kldrift.wire.ndjson.parse_row", told)
    decoding = ndjson.decode([b"x\n" * 100_000, b"[]\n" * 50_000 + b'{"x": 1}\n'], plan_for(SCHEMA))
    assert decoding.counts == [100_000, 50_001]
    assert {reason: len(at) for reason, at in decoding.table.rejected.items()} == {
        MALFORMED: 100_000,
        NOT_AN_OBJECT: 50_000,
    }
    assert len(parsed) < 100
    assert take_out([b'{"x": 1}\n']) is None


# --- lists ----------------------------------------------------------------------------------------------


def assert_elements(body: bytes) -> None:
    """The elements of a list are those that the parser finds; what is no list has none."""
    found = json_lines.sort_elements(body, body.index(b"[") + 1)
    try:
        value = parse(body)
    except ValueError:
        assert found is None
        return
    if found is None:
        assert not isinstance(value, list) or (body.count(b"[") + body.count(b"{") > MAX_DEPTH)
        return
    starts, stops, kinds = found
    texts = [body[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    assert json.dumps([parse(text) for text in texts]) == json.dumps(value)
    assert [kind == json_lines.OBJECT for kind in kinds.tolist()] == [isinstance(item, dict) for item in value]


@given(st.binary(max_size=40), st.sampled_from([b"", b" ", b"\n\t "]))
@example(b"]x", b"")
@example(b"{},]", b"")
@example(b"1] ]", b" ")
def test_any_bytes_of_a_list(body: bytes, blank: bytes) -> None:
    for text in (body, body + b"]", b"{}," + body + b"]"):
        assert_elements(blank + b"[" + blank + text)


@given(st.lists(_VALUES, max_size=6), st.sampled_from([None, 1]), st.data())
def test_lists_with_a_byte_changed(values: list[object], indent: int | None, data: st.DataObject) -> None:
    text = bytearray(json.dumps(values, indent=indent).encode())
    assert_elements(bytes(text))
    at = data.draw(st.integers(1, len(text) - 1))
    text[at] = data.draw(st.sampled_from(b'\x00 "\\{}[],:01.-eN\xff'))
    assert_elements(bytes(text))


@pytest.mark.parametrize("schema", [SCHEMA, TIMED, NUMBERED])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_large_lists_are_parsed_in_slices(schema: BatchSchema, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    rows = [b'{"x": 1.5, "c": "red", "ts": "2026-01-02T03:04:05Z"}', b'{"y": "\\u00e4", "x": 2, "c": 7}', b"{}"]
    others = [b"[]", b"7", b"null", b'"a"', b"[{}, {}]"]
    items = [rng.choice(others if rng.random() < share else rows) for _ in range(3_000)]
    body = b"[" + b",\n".join(items) + b"]"
    plan = plan_for(schema)
    expected = finish(json_bodies.decode([body], plan), plan)
    sizes: list[int] = []

    def told(text: bytes) -> object:
        sizes.append(len(text))
        return parse(text)

    monkeypatch.setattr(json_bodies, "SLICE_BYTES", 1)
    monkeypatch.setattr("kldrift.wire.json_lines.SLICE_BYTES", 5_000)
    monkeypatch.setattr(json_bodies, "parse", told)
    monkeypatch.setattr(json_scan, "read_list", lambda *_: None)
    assert_same(finish(json_bodies.decode([body], plan), plan), expected)
    assert max(sizes, default=0) <= 5_002


# --- columns --------------------------------------------------------------------------------------------

_COLUMNS = [
    b'{"x": [1, 2.5, null, "a", [], true], "c": ["red", 7, null, {}, "\\u00e4", false]}',
    b' { "x" : [ 1 , 2 ] , "\\u0063" : [ "red" , "b" ] , "other" : [ [1, [2]], {} ] } ',
    b'{"x": [1], "x": [2], "ts": ["2026-01-02T03:04:05Z"]}',
    b'{"x": [], "c": []}',
    b'{"ts": ["2026-01-02T03:04:05Z", null, "soon"], "y": [1, 2, 3]}',
    b'{"x": [1, 2], "c": ["red"]}',
    b'{"x": [1, 2], "c": 1}',
    b'{"other": [1, 2]}',
    b'{"x": [1, 2}',
    b'{"x": [1, 2]} {}',
    b"{}",
    b'{"x": ["NA", " NA\\t", "\\u004eA", "Nb", "b", "", " ", "\\"", "\xc3\xa9", "\xc3\xaa"]}',
    b'{"x": ["b", {}, 1, false, "NA", [2], 3, NaN, "Nb", true, null]}',
    b'{"c": ["red", [1], "NA", {"a": []}, true, "", null, ["red"], "\xc3\xa9"]}',
    b'{"when": ["2026-01-02T03:04:05Z", [], true, {}, "soon", "NA", false, null], "x": [1, 2, 3, 4, 5, 6, 7, 8]}',
    b'{"v": [1, 2, 3]}',
    b'{"v": [[1, 2, 3], [4, 5, 6]], "x": [1, 2]}',
    b'{"x": [' + b"[" * 70 + b"]" * 70 + b"]}",
]


_VECTORS = BatchSchema((*SCHEMA.features, FeatureSchema("v", "vector", dimensions=3)))


_ASPECTS = BatchSchema((FeatureSchema("when", "numeric", of="hour", unit="iso8601"), *SCHEMA.features))


@pytest.mark.parametrize("schema", [SCHEMA, TIMED, NUMBERED, _VECTORS, _ASPECTS])
@pytest.mark.parametrize("slice_bytes", [1, 7, 1000])
def test_large_columns_are_parsed_in_slices(
    schema: BatchSchema, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(schema, frozenset({"NA", "\u00e9"}))
    expected = [finish(json_bodies.decode([body], plan), plan) for body in _COLUMNS]
    monkeypatch.setattr(json_bodies, "SLICE_BYTES", 1)
    monkeypatch.setattr("kldrift.wire.json_lines.SLICE_BYTES", slice_bytes)
    monkeypatch.setattr(json_scan, "read_list", lambda *_: None)
    for body, of_whole in zip(_COLUMNS, expected, strict=True):
        assert_same(finish(json_bodies.decode([body], plan), plan), of_whole)
    found = [json_bodies._slice(body, plan) for body in _COLUMNS]
    assert sum(isinstance(item, Columns) for item in found) >= 5


@pytest.mark.parametrize("value", [b"[]", b"{}", b"[[1]]", b"true", b'"a"'])
def test_values_of_the_wrong_type_in_large_columns_are_not_parsed(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = SLICE_BYTES // len(value)
    body = b'{"x": [' + (value + b",") * n + b"2.5]}"
    parsed: list[int] = []

    def parse_and_note(text: bytes) -> object:
        parsed.append(len(text))
        return rows.parse(text)

    monkeypatch.setattr(json_columns, "parse", parse_and_note)
    decoding = json_bodies.decode([body], plan_for(BatchSchema((FeatureSchema("x", "numeric"),))))
    (invalid,) = decoding.table.invalid
    assert invalid.rows.tolist() == list(range(n))
    assert set(invalid.got) == {rows.kind_of(rows.parse(value))}
    np.testing.assert_array_equal(decoding.table.columns[0], [*[np.nan] * n, 2.5])
    assert sum(parsed) < 20
