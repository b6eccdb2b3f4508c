"""One table says what every format is called and where it may come from."""

from pathlib import Path

import pytest

from kldrift import wire
from kldrift.records.formats import (
    EXPECTED_NAME,
    FORMATS,
    MEDIA_TYPES,
    Format,
    format_of,
    formats_from,
    stem_of,
    why_not_from,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.ndjson", "ndjson"),
        ("logs/*.jsonl", "ndjson"),
        ("a.csv", "csv"),
        ("a.CSV.GZ", "csv"),
        ("a.v2.ndjson.zst", "ndjson"),
        ("a.parquet", "parquet"),
        ("data/a.pq", "parquet"),
        ("a.txt", None),
        ("a", None),
        ("a.csv/b", None),
        ("a.gz", None),
        ("a.json", None),
        ("a.parquet.gz", None),
    ],
)
def test_the_name_of_a_file_says_its_format(name: str, expected: Format | None) -> None:
    assert format_of(name) == format_of(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "stem"), [("a/b.csv.gz", "b"), ("b.v2.pq", "b.v2"), ("b.tar.gz", "b.tar"), ("b.1", "b.1"), ("b", "b")]
)
def test_the_stem_is_what_stands_before_format_and_compression(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem


def test_every_transport_has_its_formats() -> None:
    assert formats_from("http") == ("ndjson", "json", "csv", "arrow")
    assert formats_from("file") == ("ndjson", "csv", "parquet")
    assert formats_from("stdin") == ("ndjson", "csv")
    assert formats_from("kafka") == ("ndjson", "json", "arrow")


def test_a_format_that_a_transport_lacks_is_explained() -> None:
    assert why_not_from("kafka") == {
        "csv": "csv can only come from HTTP, files or standard input",
        "parquet": "parquet can only come from files",
    }


def test_a_message_names_every_suffix() -> None:
    assert EXPECTED_NAME == (
        "a file named .ndjson, .jsonl, .csv, .parquet or .pq (.ndjson, .jsonl and .csv also with .gz or .zst)"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_an_entry_is_complete(name: Format) -> None:
    info = FORMATS[name]
    assert ("http" in info.transports) == bool(info.media_types)
    assert ("file" in info.transports) == bool(info.suffixes)
    assert info.framing != "body" or not {"file", "stdin"} & set(info.transports)
    assert info.framing != "rows" or info.transports == ("file",)
    assert all(MEDIA_TYPES[media_type] == name for media_type in info.media_types)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_decoder_of_its_framing(name: Format) -> None:
    by_rows = FORMATS[name].framing == "rows"
    assert (name in wire.FILE_FORMATS, name in wire.BODY_FORMATS) == (by_rows, not by_rows)
    assert (name in wire.TABLES) == (by_rows or FORMATS[name].header)
