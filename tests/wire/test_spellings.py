"""One spelling of a category, and one rule for missing values, in every format and whichever way it is read."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kldrift.records.categories import CategoryCodes, canonical, category_text
from kldrift.records.samples import BatchSchema, FeatureSchema, RowRange, Vocabulary
from kldrift.wire import decode, decode_rows, rows
from tests.wire.test_vocabularies import (
    JSON_WAYS,
    Way,
    by_arrow,
    by_arrow_dictionary,
    by_csv,
    by_json_columns,
    by_parquet,
)

CODES = ("1", "0", "20", "007", "1.10", "1e3", "-5", "red", "true", "false")
C = FeatureSchema("c", "categorical", CODES)
UNSEEN, MISSING = C.unseen_code, C.missing_code

#: Texts, and the category that they are.
TEXTS: dict[str, str | None] = {
    "1": "1", "1.0": "1", "1.00": "1", "1.000000000000000000000000": "1", "0.0": "0", "-0": "0", "-0.0": "0",
    "20.0": "20", "-5.0": "-5", "-5": "-5", "True": "true", "TRUE": "true", "true": "true", "False": "false",
    "FALSE": "false", "007": "007", "1.10": "1.10", "1e3": "1e3", "red": "red",
    # none of these is another spelling
    "007.0": None, "01": None, "+1": None, "1.": None, ".0": None, "1.1": None, "1.01": None, "1e3.0": None,
    "red.0": None, "Red": None, "tRUE": None, "1,0": None, "1.0 ": None, " 1.0": None, "--1.0": None, "1..0": None,
    "1000": None, "7": None, "x1.0": None, "2.0": None, "-": None, "-.0": None, "0.00x": None,
}  # fmt: skip
TEXT_WAYS = [*JSON_WAYS, by_csv, by_arrow, by_arrow_dictionary, by_parquet]


def code(text: str | None) -> int:
    return UNSEEN if text is None else CODES.index(text)


@pytest.mark.parametrize("way", TEXT_WAYS)
@pytest.mark.parametrize("n_times", [1, 30])
def test_texts(way: Way, n_times: int, tmp_path: Path) -> None:
    values = [*TEXTS, None, *TEXTS] * n_times
    expected = [code(text) for text in TEXTS.values()]
    batch = way(values, BatchSchema((C,)), tmp_path)
    assert batch.columns[0].tolist() == [*expected, MISSING, *expected] * n_times
    assert batch.invalid == ()


@pytest.mark.parametrize("way", TEXT_WAYS)
def test_a_vocabulary_learns_one_spelling(way: Way, tmp_path: Path) -> None:
    vocabulary = Vocabulary(20)
    schema = BatchSchema((FeatureSchema("c", "categorical", vocabulary=vocabulary),))
    batch = way(["2.0", "True", "2", "2.00", "true", "x", "-0.0", "0", "1", "0.0"], schema, tmp_path)
    assert batch.columns[0].tolist() == [0, 1, 0, 0, 1, 2, 3, 3, 4, 3]
    assert vocabulary.texts == ("2", "true", "x", "0", "1")  # 1 is no boolean: there may be more of them later


@pytest.mark.parametrize("way", TEXT_WAYS)
def test_what_was_stored_in_another_spelling_is_found(way: Way, tmp_path: Path) -> None:
    old = FeatureSchema("c", "categorical", ("1.0", "True", "2"))
    values = ["1", "1.0", "1.00", "true", "True", "2.0", "3"]
    assert way(values, BatchSchema((old,)), tmp_path).columns[0].tolist() == [0, 0, 0, 1, 1, 2, 3]
    vocabulary = Vocabulary(9, ("1.0", "True", "2"))
    schema = BatchSchema((FeatureSchema("c", "categorical", vocabulary=vocabulary),))
    assert way(values, schema, tmp_path).columns[0].tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert vocabulary.texts == ("1.0", "True", "2", "3")


@pytest.mark.parametrize("way", TEXT_WAYS)
def test_booleans_are_zero_and_one_either_way(way: Way, tmp_path: Path) -> None:
    values = ["1", "0", "true", "False", "1.0", "2", "TRUE", "0.00"]
    for categories, first in ((("true", "false"), 0), (("0", "1"), 1), (("False", "True"), 1)):
        schema = BatchSchema((FeatureSchema("c", "categorical", categories),))
        second = 1 - first
        expected = [first, second, first, second, first, 2, first, second]
        assert way(values, schema, tmp_path).columns[0].tolist() == expected, categories
    more = BatchSchema((FeatureSchema("c", "categorical", ("true", "false", "unknown")),))
    assert way(["1", "0", "True"], more, tmp_path).columns[0].tolist() == [3, 3, 0]


TYPED: list[tuple[list[Any], list[str | None]]] = [
    ([1, 0, 20, -5, None], ["1", "0", "20", "-5", None]),
    ([1.0, -0.0, 20.0, -5.0, 1.5, None], ["1", "0", "20", "-5", "unseen", None]),
    ([True, False, None], ["true", "false", None]),
]


@pytest.mark.parametrize("way", [*JSON_WAYS, by_arrow, by_parquet])
@pytest.mark.parametrize(("values", "texts"), TYPED)
def test_numbers_and_booleans(way: Way, values: list[Any], texts: list[str | None], tmp_path: Path) -> None:
    expected = [MISSING if text is None else code(None if text == "unseen" else text) for text in texts]
    assert way(values, BatchSchema((C,)), tmp_path).columns[0].tolist() == expected


def test_a_number_that_comes_often_is_made_a_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def note(value: object) -> str | None:
        made.append(value)
        return category_text(value)

    monkeypatch.setattr(rows, "category_text", note)
    body = json.dumps({"c": [1, 20, None, 7, "red"] * 1000}).encode()
    batch = decode("json", [body], BatchSchema((C,))).batch
    assert batch.columns[0].tolist() == [code("1"), code("20"), MISSING, UNSEEN, code("red")] * 1000
    assert made == [1, 20, None, 7, "red"]


def test_numbers_that_are_equal_but_of_two_types_keep_their_texts() -> None:
    schema = BatchSchema((FeatureSchema("c", "categorical", (str(2**60), "1152921504606847000", "true", "1")),))
    for values, codes in (([2**60, 2.0**60], [0, 1]), ([2.0**60, 2**60], [1, 0]), ([True, 1, 1.0], [2, 3, 3])):
        body = json.dumps({"c": values}).encode()
        assert decode("json", [body], schema).batch.columns[0].tolist() == codes


@pytest.mark.parametrize("way", [*JSON_WAYS, by_arrow, by_parquet])
def test_numbers_for_booleans_and_the_other_way_round(way: Way, tmp_path: Path) -> None:
    booleans = BatchSchema((FeatureSchema("c", "categorical", ("false", "true")),))
    for values in ([1, 0, None, 2], [1.0, -0.0, None, 2.0]):
        assert way(values, booleans, tmp_path).columns[0].tolist() == [1, 0, 3, 2]
    digits = BatchSchema((FeatureSchema("c", "categorical", ("0", "1")),))
    assert way([True, False, None], digits, tmp_path).columns[0].tolist() == [1, 0, 3]


@pytest.mark.parametrize("literal", ["1", "1.0", "1.00", "1.000", "10e-1", "1e0", '"1.00"', '"1"'])
def test_literals_of_json(literal: str) -> None:
    rows = [f'{{"c": {literal}, "pad": "{"p" * 30}"}}' for _ in range(100)]
    schema = BatchSchema((C,))
    for body_format, body in (("ndjson", "\n".join(rows)), ("json", f"[{','.join(rows)}]")):
        batch = decode(body_format, [body.encode()], schema).batch  # type: ignore[arg-type]
        assert batch.columns[0].tolist() == [0] * 100


def test_every_text_that_is_the_same_number_is_the_same_category() -> None:
    for number in (0, 1, -1, 20, 12345678901234567890123, -(2**53)):
        spellings = [str(number), f"{number}.0", f"{number}.000", *([] if number else ["-0", "-0.0"])]
        assert {canonical(text) for text in spellings} == {str(number)}
        assert category_text(number) == str(number)
    assert category_text(1e22) == canonical("10000000000000000000000.0")
    assert [category_text(value) for value in (-0.0, 1.10, True, "True", None, [1], float("nan"))] == [
        "0", "1.1", "true", "true", None, None, None,
    ]  # fmt: skip
    assert CategoryCodes(("b", "a"), 7, 8, ("", "a"))["a"] == 1, "a category is never a missing value"


# --- the empty text -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", TEXT_WAYS)
def test_the_empty_text_is_missing_everywhere(way: Way, tmp_path: Path) -> None:
    batch = way(["", "red", None, " ", ""], BatchSchema((C,)), tmp_path)
    assert batch.columns[0].tolist() == [MISSING, code("red"), MISSING, UNSEEN, MISSING]
    batch = way(["", None, "\t ", "x"], BatchSchema((FeatureSchema("c", "numeric"),)), tmp_path)
    assert np.isnan(batch.columns[0]).all()
    assert [(feature, rows.tolist()) for feature, rows in batch.invalid] == [(0, [3])]
    if way is by_json_columns:  # where no element is a list, these are columns of something else
        return
    batch = way(["", None, " ", "x"], BatchSchema((FeatureSchema("c", "vector", dimensions=2),)), tmp_path)
    assert np.isnan(batch.columns[0]).all()
    assert [(feature, rows.tolist()) for feature, rows in batch.invalid] == [(0, [3])]


def test_the_empty_text_beside_numbers() -> None:
    rows = [{"c": ""}, {"c": 1.5}, {"c": " "}, {"c": "x"}] * 300
    schema = BatchSchema((FeatureSchema("c", "numeric"),))
    for body_format, body in (
        ("ndjson", "\n".join(map(json.dumps, rows))),
        ("json", json.dumps(rows)),
        ("json", json.dumps({"c": [row["c"] for row in rows]})),
    ):
        batch = decode(body_format, [body.encode()], schema).batch  # type: ignore[arg-type]
        np.testing.assert_array_equal(batch.columns[0], [np.nan, 1.5, np.nan, np.nan] * 300)
        assert [(feature, rows.tolist()) for feature, rows in batch.invalid] == [(0, list(range(3, 1200, 4)))]


def test_dictionaries_of_parquet_and_arrow(tmp_path: Path) -> None:
    """Texts as a dictionary, whose entries are canonicalised once."""
    frame = pl.DataFrame({"c": pl.Series(["1.0", "True", None, "", "red", "1.0"], dtype=pl.Categorical)})
    expected = [0, code("true"), MISSING, MISSING, code("red"), 0]
    frame.write_parquet(tmp_path / "c.parquet")
    batch = decode_rows("parquet", RowRange(tmp_path / "c.parquet", 0, 6), BatchSchema((C,))).batch
    assert batch.columns[0].tolist() == expected
    buffer = BytesIO()
    frame.write_ipc_stream(buffer)
    assert decode("arrow", [buffer.getvalue()], BatchSchema((C,))).batch.columns[0].tolist() == expected
