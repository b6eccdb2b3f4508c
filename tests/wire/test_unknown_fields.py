"""Rows that hold none of the features are no samples, in every format; what came and what is watched is told."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.datafiles.reference import read_columns, read_times
from kldrift.kernels.parsing import json_rows
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, RowRange, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode, decode_rows

X, C = FeatureSchema("Amount", "numeric"), FeatureSchema("c", "categorical", ("red",))
SCHEMA = BatchSchema((X, C))
TIMED = BatchSchema((X, C), TimestampSpec("ts", "ms"))
ROWS = [{"Amount": 1.5}, {"amount": 2.5, "ts": 7}, {"c": "red"}, {}, {"Amount": None}, {"ts": 5}]


@pytest.fixture(params=["kernel", "general"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "general":
        monkeypatch.setattr(json_rows, "is_ready", lambda: False)


def decoded(body_format: str, rows: list[dict[str, object]], schema: BatchSchema = SCHEMA) -> Decoded:
    body = json.dumps(rows) if body_format == "json" else "\n".join(map(json.dumps, rows))
    return decode(body_format, [body.encode()] * 2, schema)  # type: ignore[arg-type]


@pytest.mark.parametrize("body_format", ["ndjson", "json"])
@pytest.mark.parametrize("copies", [1, 300, 4_000])
def test_rows_without_a_feature_are_rejected_and_null_is_missing(body_format: str, copies: int) -> None:
    found = decoded(body_format, ROWS * copies)
    amounts = found.batch.columns[0] if found.batch.columns else None
    assert amounts is not None
    np.testing.assert_array_equal(amounts, [1.5, np.nan, np.nan] * 2 * copies)
    for body in found.bodies:
        assert (body.accepted, body.rejected) == (3 * copies, {"no_known_field": 3 * copies})
        assert body.unreadable is None
        assert body.rows is not None
        assert body.rows[:3].tolist() == [0, 2, 4]
        first, second, third = body.errors[:3]
        assert [error.row for error in (first, second, third)] == [1, 3, 5]
        assert first.reason == (
            "no_known_field: expected some of the features Amount, c, got amount, ts; did you mean 'Amount' for"
            " 'amount'?"
        )
        assert second.reason.endswith("Amount, c, got none")
        assert third.reason.endswith("Amount, c, got ts")
        assert len(body.errors) == min(10, 3 * copies)
        assert all("got" in error.reason for error in body.errors)


@pytest.mark.parametrize("body_format", ["ndjson", "json"])
def test_a_time_and_a_segment_are_no_features(body_format: str) -> None:
    rows = [{"Amount": 1, "ts": 5, "where": "a"}, {"ts": 5, "where": "a"}, {"c": "red", "ts": 6}] * 400
    segment = FeatureSchema("where", "categorical", vocabulary=Vocabulary(5))
    schema = BatchSchema((X, C, segment), TimestampSpec("ts", "ms"), segmented=True)
    found = decoded(body_format, rows, schema)
    assert [body.rejected for body in found.bodies] == [{"no_known_field": 400}] * 2
    assert found.batch.event_ms is not None
    assert found.batch.event_ms.tolist() == [5, 6] * 800
    by_itself = decoded(body_format, rows, BatchSchema((X, C, segment), TimestampSpec("ts", "ms")))
    assert [body.rejected for body in by_itself.bodies] == [{}] * 2  # a field that is watched as well


@pytest.mark.parametrize(
    ("body_format", "body"),
    [
        ("json", b'{"instances": [{"amount": 1.5}]}'),
        ("json", b'{"amount": 1.5}'),
        ("json", b'{"instances": ["' + b"x" * 3_000_000 + b'"]}'),
        ("ndjson", b'{"inputs": [1, 2]}\n'),
        ("csv", b"amount,ts\n1.5,3\n"),
    ],
)
def test_a_body_that_says_nothing_is_told_so(body_format: str, body: bytes) -> None:
    found = decode(body_format, [body], TIMED)  # type: ignore[arg-type]
    assert found.batch.n_rows == 0
    assert "Amount, c" in str(found.bodies[0].unreadable)
    assert "got" in str(found.bodies[0].unreadable)


def test_a_table_without_a_feature_is_told_so(tmp_path: Path) -> None:
    frame = pl.DataFrame({"amount": [1.5], "ts": [3]})
    frame.write_parquet(tmp_path / "live.parquet")
    parquet = decode_rows("parquet", RowRange(tmp_path / "live.parquet", 0, 1), TIMED)
    arrow = decode("arrow", [_stream(frame)], TIMED)
    for found in (parquet, arrow):
        assert found.batch.n_rows == 0
        assert "no column is a feature" in str(found.bodies[0].unreadable)
        assert "Amount, c" in str(found.bodies[0].unreadable)


def _stream(frame: pl.DataFrame) -> bytes:
    from io import BytesIO

    out = BytesIO()
    frame.write_ipc_stream(out)
    return out.getvalue()


def test_a_reference_leaves_them_out_as_well(tmp_path: Path) -> None:
    path = tmp_path / "reference.ndjson"
    path.write_text("".join(json.dumps({"ts": i, **row}) + "\n" for i, row in enumerate(ROWS)))
    wanted = [("Amount", "numeric"), ("c", "categorical")]
    found = read_columns(path, wanted, None, ["Amount", "c"])  # type: ignore[arg-type]
    assert (found.n_rows, found.n_rejected) == (3, 3)
    np.testing.assert_array_equal(found.columns[0], [1.5, np.nan, np.nan])
    times = read_times(path, TimestampSpec("ts", "ms"), ["Amount", "c"])
    assert times is not None
    assert times.tolist() == [0, 2, 4]
    alone = read_columns(path, wanted[:1], None, ["Amount", "c"])  # type: ignore[arg-type]
    assert alone.n_rows == 3  # of the monitor's features, not of those that have this reference
