import io
from pathlib import Path

import polars as pl
import pytest

from kldrift.records.formats import Format
from kldrift.records.samples import RowRange
from kldrift.wire import field_names

TABLE = pl.DataFrame({"a": [1], "b c": ["x"], "ü": [None]})
NAMES = {"a", "b c", "ü"}


def written(how: str) -> bytes:
    buffer = io.BytesIO()
    getattr(TABLE, how)(buffer)
    return buffer.getvalue()


def test_the_first_records_fields_are_told_in_every_format(tmp_path: Path) -> None:
    rows = written("write_ndjson")
    assert field_names("ndjson", rows) == NAMES
    assert field_names("json", rows) == NAMES
    assert field_names("json", b"[" + rows.strip() + b"]") == NAMES
    assert field_names("csv", written("write_csv")) == NAMES
    assert field_names("csv", b"1,2,3\n", header=b"\xef\xbb\xbfa,b c,\xc3\xbc\r\n") == NAMES
    assert field_names("arrow", written("write_ipc_stream")) == NAMES
    TABLE.write_parquet(tmp_path / "t.parquet")
    assert field_names("parquet", RowRange(tmp_path / "t.parquet", 0, 1)) == NAMES


@pytest.mark.parametrize("body_format", ["ndjson", "json", "csv", "arrow"])
@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"5", b"\xff\xfe", b"\xff\xff\xff\xff\xff"])
def test_a_bad_body_has_none(body_format: Format, body: bytes) -> None:
    assert field_names(body_format, body) <= {"[", "[]", "5"}  # CSV headers, all of them


def test_a_file_that_is_no_parquet_has_none(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"PAR1")
    assert field_names("parquet", RowRange(tmp_path / "t", 0, 1)) == frozenset()
