"""Texts that stand for a missing value: those of the format or of the configuration, whichever way a format is read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.kernels.parsing import csv_records, json_rows
from kldrift.records.formats import FORMATS
from kldrift.records.samples import BatchSchema, FeatureSchema, SampleBatch, Vocabulary
from kldrift.wire import csv_scan, decode, json_scan
from kldrift.wire.plan import plan_for
from tests.wire.counting import bins_of
from tests.wire.test_vocabularies import JSON_WAYS, Way, by_arrow, by_arrow_dictionary, by_csv, by_parquet

TYPED_WAYS = [*JSON_WAYS, by_arrow, by_arrow_dictionary, by_parquet]
#: What pandas takes, and `\\N`, which databases write.
TEXTS = [
    "NA", "N/A", "n/a", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "<NA>", "#N/A", "#NA", "#N/A N/A",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "\\N", "",
]  # fmt: skip
C = FeatureSchema("c", "categorical", ("red", "1"))
X = FeatureSchema("c", "numeric")
V = FeatureSchema("c", "vector", dimensions=2)


def schema_of(feature: FeatureSchema, missing_values: Sequence[str] | None = None) -> BatchSchema:
    return BatchSchema((feature,), None, None if missing_values is None else frozenset(missing_values))


def assert_missing(batch: SampleBatch, invalid: Sequence[int] = ()) -> None:
    (column,) = batch.columns
    assert np.isnan(column).all() if column.dtype == np.float64 else (column == C.missing_code).all()
    assert [rows.tolist() for _, rows in batch.invalid] == ([list(invalid)] if invalid else [])


def test_the_list_of_csv() -> None:
    assert FORMATS["csv"].missing_values == set(TEXTS) - {""}
    assert not any(info.missing_values for name, info in FORMATS.items() if name != "csv")


@pytest.mark.parametrize("feature", [C, X, V])
@pytest.mark.parametrize("n_times", [1, 200])
def test_in_csv(feature: FeatureSchema, n_times: int, tmp_path: Path) -> None:
    assert_missing(by_csv(TEXTS * n_times, schema_of(feature), tmp_path))
    plain = "\n".join(["c,z", *(f"{text},0" for text in TEXTS * n_times)]).encode()
    assert_missing(decode("csv", [plain], schema_of(feature)).batch)


def test_blanks_around_are_those_of_numbers_only() -> None:
    body = b'c\n NA\n"NA\t"\n" N/A "\nNA x\nN A\n'
    assert_missing(decode("csv", [body], schema_of(X)).batch, invalid=[3, 4])
    assert decode("csv", [body], schema_of(C)).batch.columns[0].tolist() == [2] * 5


def test_dashes_and_question_marks_only_if_asked_for(tmp_path: Path) -> None:
    for way in (by_csv, *TYPED_WAYS):
        values = ["-", "?", "-"]
        assert way(values, schema_of(C), tmp_path).columns[0].tolist() == [2, 2, 2]
        assert [rows.tolist() for _, rows in way(values, schema_of(X), tmp_path).invalid] == [[0, 1, 2]]
        assert_missing(way(values, schema_of(C, ["-", "?"]), tmp_path))
        assert_missing(way(values, schema_of(X, ["-", "?"]), tmp_path))


@pytest.mark.parametrize("way", TYPED_WAYS)
def test_in_other_formats_only_what_is_configured(way: Way, tmp_path: Path) -> None:
    values = ["NA", "", "-", None]
    missing = C.missing_code
    assert way(values, schema_of(C), tmp_path).columns[0].tolist() == [2, missing, 2, missing]
    assert way(values, schema_of(C, ["NA"]), tmp_path).columns[0].tolist() == [missing, missing, 2, missing]
    assert_missing(way(values, schema_of(X), tmp_path), invalid=[0, 2])
    assert_missing(way(values, schema_of(X, ["NA"]), tmp_path), invalid=[2])
    assert_missing(way(values, schema_of(X, ["NA", "-"]), tmp_path))


def test_the_configuration_replaces_the_list_of_csv(tmp_path: Path) -> None:
    namibia = schema_of(FeatureSchema("c", "categorical", ("NA", "DE")), [])
    assert by_csv(["NA", "DE", "", "null"], namibia, tmp_path).columns[0].tolist() == [0, 1, 3, 2]
    assert_missing(by_csv(["NA", "-", ""], schema_of(X, ["-"]), tmp_path), invalid=[0])


@pytest.mark.parametrize("way", [by_csv, *TYPED_WAYS])
def test_a_category_of_the_reference_is_one(way: Way, tmp_path: Path) -> None:
    known = FeatureSchema("c", "categorical", ("NA", "DE"))
    assert way(["NA", "DE", "N/A"], schema_of(known, ["NA", "N/A"]), tmp_path).columns[0].tolist() == [0, 1, 3]


@pytest.mark.parametrize("way", [by_csv, *TYPED_WAYS])
def test_a_vocabulary_does_not_learn_them(way: Way, tmp_path: Path) -> None:
    vocabulary = Vocabulary(5)
    schema = schema_of(FeatureSchema("c", "categorical", vocabulary=vocabulary), ["NA", "9"])
    assert way(["NA", "a", "9.0", "b", "9"], schema, tmp_path).columns[0].tolist() == [6, 0, 6, 1, 6]
    assert vocabulary.texts == ("a", "b")


@pytest.mark.parametrize("body_format", ["csv", "ndjson", "json"])
def test_numbers_may_stand_for_missing_ones(body_format: Any) -> None:
    values = [1.5, -999, -999.0, 0, None] * 300
    rows = [{"c": value, "z": 0} for value in values]
    body = {
        "csv": "c,z\n" + "".join(f"{'' if value is None else value},0\n" for value in values),
        "ndjson": "\n".join(map(json.dumps, rows)),
        "json": json.dumps(rows),
    }[body_format].encode()
    schema = schema_of(X, ["-999", "NA"])
    for bins in (None, bins_of(schema)):
        batch = decode(body_format, [body], schema, bins=bins).batch
        np.testing.assert_array_equal(batch.columns[0], [1.5, np.nan, np.nan, 0, np.nan] * 300)
        assert batch.invalid == ()


@pytest.mark.parametrize("way", [by_arrow, by_parquet])
def test_numbers_in_columns(way: Way, tmp_path: Path) -> None:
    for values in ([1.5, -999.0, None], [1, -999, None]):
        batch = way(values, schema_of(X, ["-999"]), tmp_path)
        np.testing.assert_array_equal(batch.columns[0], [values[0], np.nan, np.nan])
    assert way([1, -999], schema_of(C, ["-999"]), tmp_path).columns[0].tolist() == [1, C.missing_code]


def test_the_kernels_leave_none_of_them_to_the_general_way(decoded_by: str) -> None:
    if decoded_by != "kernel":
        pytest.skip("without the kernels")
    assert csv_records.is_ready()
    assert json_rows.is_ready()

    def generally(_: Any, *__: Any) -> Any:
        raise AssertionError("a row was left")

    features = (X, FeatureSchema("d", "categorical", ("red",)))
    plan = plan_for(BatchSchema(features), FORMATS["csv"].missing_values)
    # a number to begin with is read as one
    texts = [text for text in TEXTS if "#IND" not in text and "#QNAN" not in text]
    lines = "".join(f'{text},{text}\n" {text}\t","{text}"\n1.5,red\n' for text in texts).encode()
    found = csv_scan.decode([memoryview(lines)], ["c", "d"], plan, generally)
    assert found is not None
    np.testing.assert_array_equal(found[0].columns[0], [np.nan, np.nan, 1.5] * len(texts))
    assert found[0].columns[1].tolist() == [2, 2, 0] * len(texts)
    rows = [{"c": value, "d": value} for value in (*TEXTS, None)]
    decoding = json_scan.decode(["\n".join(map(json.dumps, rows)).replace("\\\\N", "NA").encode()], plan, generally)
    assert decoding is not None
    assert np.isnan(decoding.table.columns[0]).all()
    assert decoding.table.columns[1].tolist() == [2] * len(rows)
