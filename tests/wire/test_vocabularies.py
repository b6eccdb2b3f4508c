"""Categories that are not known beforehand, and one field read as two columns, in every format."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.samples import BatchSchema, FeatureSchema, RowRange, SampleBatch, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode, decode_rows, ndjson
from kldrift.wire.plan import plan_for

COUNTRY = FeatureSchema("c", "categorical", ("no", "se"))


def segmented(limit: int = 20, *others: FeatureSchema, texts: tuple[str, ...] = ()) -> tuple[BatchSchema, Vocabulary]:
    """A schema whose last column has a vocabulary, and reads field c."""
    vocabulary = Vocabulary(limit, texts)
    return BatchSchema((*others, FeatureSchema("c", "categorical", vocabulary=vocabulary))), vocabulary


def lines_of(values: list[Any]) -> bytes:
    return "\n".join(json.dumps({"c": value}) for value in values).encode()


def by_ndjson(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    """Row by row."""
    assert len(lines_of(values)) < ndjson.BULK_BYTES
    return decode("ndjson", [lines_of(values)], schema).batch


def by_ndjson_bulk(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    """Blown up, so that bulk decoding is worth it."""
    pad = b"p" * (ndjson.BULK_BYTES // len(values))
    body = b"\n".join(json.dumps({"c": value}).encode()[:-1] + b', "pad": "%s"}' % pad for value in values)
    assert plan_for(schema).bulk
    return decode("ndjson", [body], schema).batch


def by_json(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    return decode("json", [json.dumps([{"c": value} for value in values]).encode()], schema).batch


def by_json_columns(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    return decode("json", [json.dumps({"c": values}).encode()], schema).batch


def by_csv(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    body = "z,c\n" + "".join(f'0,"{value}"\n' if value is not None else "0,\n" for value in values)
    return decode("csv", [body.encode()], schema).batch


def by_arrow(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    return _by_arrow(pl.Series(values), schema)


def by_arrow_dictionary(values: list[Any], schema: BatchSchema, _: Path) -> SampleBatch:
    """With a dictionary in another order, and of more than the rows have."""
    distinct = sorted({str(value) for value in values if value is not None}, reverse=True)
    return _by_arrow(pl.Series(values, dtype=pl.Enum(["absent", *distinct, "also absent"])), schema)


def _by_arrow(values: pl.Series, schema: BatchSchema) -> SampleBatch:
    buffer = BytesIO()
    pl.DataFrame({"c": values}).write_ipc_stream(buffer, compat_level=pl.CompatLevel.newest())
    return decode("arrow", [buffer.getvalue()], schema).batch


def by_parquet(values: list[Any], schema: BatchSchema, folder: Path) -> SampleBatch:
    pl.DataFrame({"c": values}).write_parquet(folder / "c.parquet")
    return decode_rows("parquet", RowRange(folder / "c.parquet", 0, len(values)), schema).batch


Way = Callable[[list[Any], BatchSchema, Path], SampleBatch]
JSON_WAYS = [by_ndjson, by_ndjson_bulk, by_json, by_json_columns]
ways = pytest.mark.parametrize("way", [*JSON_WAYS, by_csv, by_arrow, by_arrow_dictionary, by_parquet])


@ways
def test_codes_are_given_in_order_of_appearance(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented()
    batch = way(["se", "no", None, "se", "dk", "no", "at"], schema, tmp_path)
    (column,) = batch.columns
    assert column.dtype == np.int32
    assert column.flags.c_contiguous
    assert column.tolist() == [0, 1, 21, 0, 2, 1, 3]
    assert vocabulary.texts == ("se", "no", "dk", "at")
    assert batch.n_bytes == 7 * 4


@ways
def test_a_later_batch_goes_on_with_the_codes(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented(3, texts=("dk",))
    assert way(["se", "dk"], schema, tmp_path).columns[0].tolist() == [1, 0]
    assert way(["no", "se", "at", None, "dk"], schema, tmp_path).columns[0].tolist() == [2, 1, 3, 4, 0]
    assert vocabulary.texts == ("dk", "se", "no")
    assert vocabulary.code("by someone else") == 3


@ways
def test_what_another_thread_learned_meanwhile_is_known(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented()
    way(["se"], schema, tmp_path)
    vocabulary.code("no")
    assert way(["dk", "no", "se"], schema, tmp_path).columns[0].tolist() == [2, 1, 0]


@ways
def test_many_distinct_values_share_the_code_beyond_the_limit(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented(20)
    n = 10_000 if way is not by_ndjson else 2000
    values = [f"v{i}" for i in range(n)]
    (column,) = way(values, schema, tmp_path).columns
    assert column.tolist() == [*range(20), *[20] * (n - 20)]
    assert vocabulary.texts == tuple(values[:20])


@ways
def test_a_full_vocabulary_is_asked_for_nothing(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema, _ = segmented(2)
    asked: list[str] = []
    code = Vocabulary.code

    def told(vocabulary: Vocabulary, text: str) -> int:
        asked.append(text)
        return code(vocabulary, text)

    monkeypatch.setattr(Vocabulary, "code", told)
    way([f"v{i}" for i in range(500)], schema, tmp_path)
    assert asked == ["v0", "v1", "v2"][: len(asked)]
    asked.clear()
    assert way(["x", "v1", None], schema, tmp_path).columns[0].tolist() == [2, 1, 3]
    assert asked == []


def test_no_room_at_all() -> None:
    schema, vocabulary = segmented(0)
    assert decode("ndjson", [lines_of(["a", None, "b"])], schema).batch.columns[0].tolist() == [0, 1, 0]
    assert vocabulary.texts == ()


@pytest.mark.parametrize("way", JSON_WAYS)
def test_values_that_are_no_strings(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented()
    batch = way([1, "1", 1.0, True, "", [1], {"a": 1}, 1.5, 2**70], schema, tmp_path)
    assert batch.columns[0].tolist() == [0, 0, 0, 1, 21, 21, 21, 2, 3]
    assert vocabulary.texts == ("1", "true", "1.5", str(2**70))
    assert [(feature, rows.tolist()) for feature, rows in batch.invalid] == [(0, [5, 6])]


@pytest.mark.parametrize("way", JSON_WAYS)
def test_a_lone_surrogate_gets_no_code(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented()
    assert way(["\ud800", "a", "x\udfff"], schema, tmp_path).columns[0].tolist() == [20, 0, 20]
    assert vocabulary.texts == ("a",)


@pytest.mark.parametrize("way", JSON_WAYS)
def test_a_text_that_reads_like_a_list_is_told_from_one(way: Way, tmp_path: Path) -> None:
    """Before and after the vocabulary has it: what polars makes of a list must not be taken for that text."""
    schema, vocabulary = segmented()
    for _ in range(2):
        batch = way(["a", [1], "[1]", "b"], schema, tmp_path)
        assert batch.columns[0].tolist() == [0, 21, 1, 2]
        assert [rows.tolist() for _, rows in batch.invalid] == [[1]]
    assert vocabulary.texts == ("a", "[1]", "b")


@pytest.mark.parametrize(
    ("values", "codes", "texts"),
    [
        (pl.Series([3, None, 1, 3, 2]), [0, 21, 1, 0, 2], ("3", "1", "2")),
        (pl.Series([2.5, None, 1.0, float("nan"), 2.5]), [0, 21, 1, 21, 0], ("2.5", "1")),
        (pl.Series([False, None, True]), [0, 21, 1], ("false", "true")),
        (pl.Series([None, None]), [21, 21], ()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", [by_arrow, by_parquet])
def test_typed_columns(way: Way, values: pl.Series, codes: list[int], texts: tuple[str, ...], tmp_path: Path) -> None:
    schema, vocabulary = segmented()
    if way is by_arrow:
        (column,) = _by_arrow(values, schema).columns
    else:
        pl.DataFrame({"c": values}).write_parquet(tmp_path / "c.parquet")
        (column,) = decode_rows("parquet", RowRange(tmp_path / "c.parquet", 0, len(values)), schema).batch.columns
    assert column.tolist() == codes
    assert vocabulary.texts == texts


def test_bytes_that_are_no_utf8_get_no_code() -> None:
    schema, vocabulary = segmented()
    buffer = BytesIO()
    pl.DataFrame({"c": ["good", "b@@d"]}).write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    (column,) = decode("arrow", [buffer.getvalue().replace(b"b@@d", b"b\xff\xffd")], schema).batch.columns
    assert column.tolist() == [0, 20]
    assert vocabulary.texts == ("good",)


def test_a_body_that_bulk_decoding_refuses_teaches_nothing_out_of_order() -> None:
    """The second vocabulary's list sends all to the row-wise pass, after the first one had been looked at."""
    first, second = Vocabulary(9), Vocabulary(9)
    schema = BatchSchema(
        (FeatureSchema("a", "categorical", vocabulary=first), FeatureSchema("b", "categorical", vocabulary=second))
    )
    data = b'{"a": "x", "b": "u"}\n{"a": "y", "b": ["v"]}'
    assert ndjson.decode_bulk(data, plan_for(schema)) is None
    assert (first.texts, second.texts) == ((), ())


def test_threads_share_a_vocabulary() -> None:
    """Whoever is first, a text has one code, in every batch and in the vocabulary."""
    schema, vocabulary = segmented(50)
    n_threads, n_bodies = 4, 12
    ready = threading.Barrier(n_threads)

    def work(thread: int) -> list[tuple[list[str], list[int]]]:
        rng = np.random.default_rng(thread)
        ready.wait()
        out = []
        for i in range(n_bodies):
            values = [f"v{j}" for j in rng.integers(0, 80, size=6000 if i % 2 else 40).tolist()]
            out.append((values, decode("ndjson", [lines_of(values)], schema).batch.columns[0].tolist()))
        return out

    with ThreadPoolExecutor(n_threads) as pool:
        made = [item for part in pool.map(work, range(n_threads)) for item in part]
    assert len(set(vocabulary.texts)) == len(vocabulary.texts) == 50
    final = {text: code for code, text in enumerate(vocabulary.texts)}
    for values, codes in made:
        assert codes == [final.get(value, 50) for value in values]


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", "[1]", "\x00", "{", "\ud800"]),
    st.text(max_size=2), st.lists(st.integers(0, 1), max_size=1),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=6), min_size=1, max_size=3), st.integers(0, 4))
def test_bulk_and_rowwise_agree(bodies: list[list[Any]], limit: int) -> None:
    """Batch after batch, each on its own vocabulary; where bulk decoding refuses, it has learned nothing."""
    fast_schema, fast = segmented(limit)
    slow_schema, slow = segmented(limit)
    for values in bodies:
        data = lines_of(values)
        before = fast.texts
        table = ndjson.decode_bulk(data, plan_for(fast_schema))
        if table is None:
            assert fast.texts == before
            table = ndjson.decode_rowwise([data], plan_for(fast_schema)).table
        expected = ndjson.decode_one_by_one([data], plan_for(slow_schema)).table
        assert table.columns[0].tolist() == expected.columns[0].tolist()
        assert fast.texts == slow.texts


# --- the same field twice -------------------------------------------------------------------------


@ways
def test_a_category_and_its_segment(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented(2, COUNTRY)
    assert plan_for(schema).bulk
    batch = way(["se", "dk", None, "no", "at"], schema, tmp_path)
    assert [column.tolist() for column in batch.columns] == [[1, 2, 3, 0, 2], [0, 1, 3, 2, 2]]
    assert vocabulary.texts == ("se", "dk")


@pytest.mark.parametrize("way", [*JSON_WAYS[:1], by_json, by_json_columns, by_csv, by_arrow, by_parquet])
def test_a_number_and_its_segment(way: Way, tmp_path: Path) -> None:
    schema, vocabulary = segmented(9, FeatureSchema("c", "numeric"))
    assert not plan_for(schema).bulk
    batch = way([7, 5, None, 7], schema, tmp_path)
    np.testing.assert_array_equal(batch.columns[0], [7, 5, np.nan, 7])
    assert batch.columns[1].tolist() == [0, 1, 10, 0]
    assert vocabulary.texts == ("7", "5")


def test_many_rows_of_a_number_and_its_segment() -> None:
    schema, vocabulary = segmented(9, FeatureSchema("c", "numeric"))
    batch = decode("ndjson", [lines_of([7, "x", 5] * 5000)], schema).batch
    np.testing.assert_array_equal(batch.columns[0], [7, np.nan, 5] * 5000)
    assert batch.columns[1].tolist() == [0, 1, 2] * 5000
    assert vocabulary.texts == ("7", "x", "5")
    assert [(feature, len(rows)) for feature, rows in batch.invalid] == [(0, 5000)]


def test_a_category_that_is_the_time_too() -> None:
    """Both are read as text; a number is no time, but a category."""
    schema, vocabulary = segmented(9)
    schema = BatchSchema(schema.features, TimestampSpec("c", "iso8601"))
    assert plan_for(schema).bulk
    values = ["2024-01-01T00:00:00Z", 1704067200, "2024-01-02T00:00:00Z"]
    for n in (1, 4000):
        batch = decode("ndjson", [lines_of(values * n)], schema).batch
        assert batch.event_ms is not None
        assert batch.event_ms.tolist() == [1704067200000, 1704153600000] * n
        assert batch.columns[0].tolist() == [0, 2] * n
    assert vocabulary.texts == ("2024-01-01T00:00:00Z", "1704067200", "2024-01-02T00:00:00Z")
