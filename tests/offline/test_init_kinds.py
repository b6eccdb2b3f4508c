"""What a column is taken for, on tables made by hand."""

import json
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.datafiles.sample import read_sample
from kldrift.offline.init.document import feature_keys
from kldrift.offline.init.kinds import Guess, guess_feature

N = 4000
RNG = np.random.default_rng(5)


def guessed(folder: Path, values: object, name: str = "x", kind: str = "parquet", scale: float = 1.0) -> Guess:
    """The guess for a table of one column, and one beside it so that blank lines are rows."""
    table = pl.DataFrame({name: values, "beside": range(len(values))}, strict=False)  # type: ignore[arg-type]
    path = folder / f"t.{kind}"
    {"parquet": table.write_parquet, "csv": table.write_csv, "ndjson": table.write_ndjson}[kind](path)
    return guess_feature(read_sample(path).columns[0], scale)


def keys(guess: Guess) -> str:
    """The keys of the feature behind its kind."""
    return "" if guess.feature is None else feature_keys(guess.feature).partition(", ")[2]


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
@pytest.mark.parametrize(
    ("values", "expected", "options", "why"),
    [
        (RNG.normal(size=N).tolist(), "numeric", "", "bins at the quantiles"),
        (RNG.integers(0, 7, N).tolist(), "categorical", "", "7 whole numbers (0 to 6): taken for codes"),
        (RNG.integers(0, 2, N).tolist(), "categorical", "", "2 whole numbers (0, 1): taken for codes"),
        (RNG.integers(10, 45, N).tolist(), "numeric", "bins: {method: discrete}", "35 whole numbers, 10 to 44"),
        (RNG.integers(0, 3000, N).tolist(), "numeric", "", "distinct whole numbers"),
        (RNG.choice([0.0, 0.5, 1.0], N).tolist(), "numeric", "bins: {edges: [-.inf, 0.2, 0.8, .inf]}", "edges between"),
        (RNG.choice(["de", "fr"], N).tolist(), "categorical", "", "2 values: de, fr"),
        ([f"{z:03d}" for z in RNG.integers(0, 30, N)], "categorical", "", "30 values"),
        ([f"c{int(z)}" for z in RNG.pareto(1, N) * 9], "categorical", "", "(max_categories), the rest is `other`"),
        ([None if i % 4 else 5 for i in range(N)], "numeric", "", "75 % missing"),
        (list(range(N)), None, "", "only grow, each once"),
        ([f"u{i}" for i in range(N)], None, "", "comes once: an identifier"),
        ([f"the order {i // 2} came too late" for i in range(N)], None, "", "free text"),
        ([2015] * N, None, "", "constant: always 2015"),
        (["k"] * N, None, "", "constant: always k"),
        ([None] * N, None, "", "no value in it"),
        ([2**60 + i % 100 for i in range(N)], None, "", "float64 keeps only one in 256: all of them, from "),
        ([-(2**60) - i for i in range(N)], None, "", "fall on 17 values; make the feature categorical, or subtract"),
        ([2**53 + 1] * N, None, "", "float64 keeps only one in 2: all of them, from 9007199254740992 to"),
        ([2**62 + i * 10**12 for i in range(N)], "numeric", "", "bins at the quantiles"),
    ],
    ids=[
        "floats", "codes", "flags", "counts", "quantities", "levels", "text", "zip", "tail", "one value or missing",
        "row numbers", "identifiers", "free text", "constant number", "constant text", "all null",
        "large integers", "large negative integers", "one large integer", "spread large integers",
    ],
)  # fmt: skip
def test_the_same_guess_from_every_format(
    values: list[object], expected: str | None, options: str, why: str, kind: str, tmp_path: Path
) -> None:
    guess = guessed(tmp_path, values, kind=kind)
    assert (guess.kind, keys(guess)) == (expected, options)
    assert why in guess.why


@pytest.mark.parametrize("kind", ["parquet", "ndjson"])
def test_lists_of_one_length_are_vectors(kind: str, tmp_path: Path) -> None:
    guess = guessed(tmp_path, RNG.normal(size=(N, 6)).tolist(), kind=kind)
    assert (guess.kind, keys(guess)) == ("vector", "dimensions: 6")
    assert guessed(tmp_path, [[1.0] * (1 + i % 3) for i in range(N)], kind=kind).kind is None
    assert "always the same" in guessed(tmp_path, [[1.0, 2.0]] * N, kind=kind).why


def test_lists_in_cells_of_csv_are_vectors(tmp_path: Path) -> None:
    guess = guessed(tmp_path, [f"[{i}, {i * i % 7}]" for i in range(N)], kind="csv")
    assert (guess.kind, keys(guess)) == ("vector", "dimensions: 2")
    assert guessed(tmp_path, [f"[{i}" for i in range(N)], kind="csv").kind is None


def test_whole_numbers_written_as_decimals_are_no_codes_in_csv(tmp_path: Path) -> None:
    """Category 1.0 of the file would be category 1 of a JSON row."""
    values = RNG.integers(1, 6, N).astype(float).tolist()
    guess = guessed(tmp_path, values, kind="csv")
    assert (guess.kind, keys(guess)) == ("numeric", "bins: {method: discrete}")
    assert guessed(tmp_path, values, kind="parquet").kind == "categorical"


def test_some_cells_that_are_no_numbers_do_not_make_text_of_a_column(tmp_path: Path) -> None:
    values = [f"{x:.6f}" for x in RNG.normal(size=N)]
    values[::50] = ["#REF!"] * len(values[::50])
    guess = guessed(tmp_path, values, kind="csv")
    assert guess.kind == "numeric"
    assert guess.why.endswith("; 2 % invalid (values that are not numbers)")


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_column_of_numbers_is_one_in_which_at_least_half_are_numbers(tmp_path: Path, kind: str) -> None:
    numbers = RNG.normal(size=N).round(6).tolist()
    for n_text, expected in ((N // 2, "numeric"), (N // 2 + 1, "categorical")):
        values: list[object] = list(numbers)
        values[:n_text] = [f"text {i % 30}" for i in range(n_text)]
        if kind == "csv":
            path = tmp_path / "t.csv"
            pl.DataFrame({"x": [str(value) for value in values], "beside": range(N)}).write_csv(path)
        else:
            path = tmp_path / "t.ndjson"
            path.write_text("\n".join(json.dumps({"x": value}) for value in values))
        (column, *_) = read_sample(path).columns
        assert (column.holds.kind, column.n_invalid) == (expected, n_text if expected == "numeric" else 0)


def test_lists_among_numbers_or_texts_are_invalid_and_do_not_cost_the_column(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    rows = [{"x": i / 7 if i % 10 else [1], "c": "ab"[i % 2] if i % 10 else {"k": 1}, "v": [i, 1] if i % 4 else ["a"],
             "w": [i] if i % 4 else {}, "o": {} if i % 4 else [i]} for i in range(N)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    x, c, v, w, o = read_sample(path).columns
    assert (x.holds.kind, x.n_invalid) == ("numeric", N // 10)
    assert (c.holds.kind, c.n_invalid) == ("categorical", N // 10)
    assert (v.holds.words, v.n_invalid) == ("lists of 2 numbers", N // 4)
    assert (w.holds.words, w.n_invalid) == ("lists of 1 numbers", N // 4)
    assert o.holds.words == "nested or mixed: a list, an object; make fields of its parts"
    assert guess_feature(c, 1.0).why.endswith("; 10 % invalid (values that are lists or objects)")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([{"a": 1}] * N, "an object, which has no bins"),
        ([time(12)] * N, "of type Time"),
        ([b"x", b"y"] * (N // 2), "of type Binary"),
        ([[["a"]]] * N, "only lists of numbers"),
        ([datetime(2024, 1, 1) if i % 2 else None for i in range(N)], "a time"),
        ([date(2024, 1, 1)] * N, "a time"),
    ],
)
def test_other_types_are_left_out_with_a_reason(values: list[object], why: str, tmp_path: Path) -> None:
    guess = guessed(tmp_path, values)
    assert guess.kind is None
    assert why in guess.why


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 201, "longer than 200 bytes"), ("é" * 101, "longer than 200 bytes"), ("a\nb", "control characters")],
)
def test_names_that_the_configuration_refuses_are_left_out(name: str, why: str, tmp_path: Path) -> None:
    guess = guessed(tmp_path, RNG.normal(size=N), name)
    assert guess.kind is None
    assert why in guess.why


def test_a_number_by_its_name_an_identifier_is_left_out(tmp_path: Path) -> None:
    values = RNG.permutation(N).tolist()
    assert guessed(tmp_path, values, "customer_id").kind is None
    assert guessed(tmp_path, values, "amount").kind == "numeric"


def test_rows_looked_at_stand_for_more_rows_of_the_file(tmp_path: Path) -> None:
    """A value that came twice in a hundredth of the file comes often enough for a cell."""
    values = [f"v{i // 2}" for i in range(60)]
    assert guessed(tmp_path, values).kind is None
    assert guessed(tmp_path, values, scale=100).kind == "categorical"


def test_a_large_file_is_looked_at_in_stretches_from_all_over_it(tmp_path: Path) -> None:
    """The second half differs from the first, as in records that are constant for a year."""
    n = 50_000
    table = pl.DataFrame({"x": [0.0] * (n // 2) + RNG.normal(size=n // 2).tolist(), "i": range(n)})
    for kind in ("parquet", "csv", "ndjson"):
        path = tmp_path / f"t.{kind}"
        {"parquet": table.write_parquet, "csv": table.write_csv, "ndjson": table.write_ndjson}[kind](path)
        sample = read_sample(path, max_rows=1600)
        assert (sample.n_rows, sample.n_looked) == (n, 1600)
        x, i = sample.columns
        assert x.values.n_unique() > 700
        assert i.values.to_list()[:3] == [0, 1, 2]
        assert i.values.max() > n * 0.95  # type: ignore[operator]
