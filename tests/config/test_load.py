"""The strict loader: what a scalar means, ``${NAME}``, unreadable files, and no way to crash it."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.config.document import SHOWN
from kldrift.config.load import MAX_BYTES, load_config, parse_config, read_document, resolve_plain
from kldrift.config.records import Config
from kldrift.errors import ConfigError

HERE = Path("kldrift.yaml")
MINIMAL = "monitors: {loans: {reference: {data: a.csv}, features: {x: {kind: numeric}}}}\n"


def problems(text: str, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        parse_config(text, HERE, environment or {})
    return refused.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (text, text)
            for text in (
                "no",
                "yes",
                "on",
                "off",
                "y",
                "n",
                "True",
                "FALSE",
                "Null",
                "012",
                "0x1f",
                "0o17",
                "0b1",
                "1_000",
                "1:30",
                "2024-01-02",
                ".nan",
                ".Inf",
                "1e",
                "+-1",
                "-",
                ".",
            )
        ],
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("1e-4", 1e-4),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("+.inf", math.inf),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: bool | float | str | None) -> None:
    resolved = resolve_plain(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_quotes_make_text() -> None:
    document = read_document("{a: '1', b: \"true\", c: 'null'}", HERE, {})
    assert document.root.value == {"a": "1", "b": "true", "c": "null"}
    assert document.messages() == []


def test_keys_are_text_as_written() -> None:
    config = parse_config(
        "monitors: {m: {features: {f: {kind: categorical, reference: "
        "{counts: {1: 10, true: 20, no: 30, 012: 40, a: 50}}}}}}",
        HERE,
    )
    reference = config.monitors[0].features[0].reference
    assert reference.categories == ("1", "true", "no", "012", "a")
    assert reference.counts == (10, 20, 30, 40, 50)


def test_lines_are_those_of_the_keys() -> None:
    document = read_document("a:\n  b:\n\n    - 1\n    - c: 2\n", HERE, {})
    assert [document.line(path) for path in [("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c"), ("a", "x")]] == [
        1,
        2,
        4,
        5,
        1,
    ]


def test_variables_are_expanded_inside_text_only() -> None:
    environment = {"DIR": "/data", "PORT": "9900", "EMPTY": ""}
    document = read_document(
        'a: "${DIR}/x-${EMPTY}${PORT}"\nb: ${PORT}\nc: $$5 $${DIR} $x\n${DIR}: 1\n', HERE, environment
    )
    assert document.root.value == {"a": "/data/x-9900", "b": "9900", "c": "$5 ${DIR} $x", "${DIR}": 1}
    assert document.messages() == []


def test_an_expanded_value_never_shows_in_a_message() -> None:
    secret = "hunter2-correct-horse"
    wrong = {
        "server": {"listen": "${S}", "insecure": "${S}", "max_body": "${S}"},
        "state": "${S}",
        "engine": {"tick": "${S}", "threads": "${S}"},
        "log": {"format": "${S}", "level": "x${S}"},
        "sources": {"a": "${S}", "b": {"type": "${S}"}, "c": {"type": "file", "path": "${S}"}},
        "monitors": {
            "m": {
                "sources": ["${S}", "${S}"],
                "timestamp": "${S}",
                "windows": ["${S}"],
                "smoothing": "${S}",
                "divergences": ["${S}"],
                "drift": {"warning": "${S}"},
                "reference": "${S}",
                "features": {"f": {"kind": "${S}", "bins": {"method": "${S}", "edges": ["${S}"]}}},
            }
        },
    }
    found = problems(json.dumps(wrong, indent=1), {"S": secret})
    assert len(found) >= 19
    assert not any(secret in line or "hunter" in line for line in found)
    assert sum("${S}" in line for line in found) >= 19


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLDRIFT_TEST_PORT", "9901")
    config = parse_config('server: {listen: "127.0.0.1:${KLDRIFT_TEST_PORT}"}\n' + MINIMAL, HERE)
    assert config.server.listen.port == 9901


def test_a_long_value_is_cut() -> None:
    (line,) = problems(MINIMAL.replace("a.csv", json.dumps([0] * 1000)))
    shown = line.split("got ")[1].split(";")[0]
    assert len(shown) == SHOWN
    assert shown.endswith("…")


def test_a_message_is_one_printable_line() -> None:
    (line,) = problems(f'"a\\nb\\e\\u2028{"x" * 200}": 1\n' + MINIMAL)
    assert line.isprintable()
    assert len(line) < 400


def test_a_byte_order_mark_is_passed_over() -> None:
    assert isinstance(parse_config("\ufeff" + MINIMAL, HERE), Config)


def test_windows_line_ends() -> None:
    text = "log:\r\n  level: info\r\n" + MINIMAL
    assert parse_config(text, HERE).log.level == "info"
    assert problems(text.replace("info", "loud"))[0].startswith("kldrift.yaml:2: log.level: ")


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert refused.value.problems == (
        f'{path}: expected a readable file, got "No such file or directory"; check the path and its permissions',
    )


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='got "Is a directory"'):
        load_config(tmp_path)


def test_a_path_with_nul() -> None:
    with pytest.raises(ConfigError, match="expected a readable file"):
        load_config(Path("a\0b"))


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"log: {}\n# caf\xe9\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert refused.value.problems == (f"{path}:2: expected UTF-8, got the byte 0xe9; save the file as UTF-8",)


def test_a_file_of_one_mebibyte_is_read_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(MINIMAL + "#" * (MAX_BYTES - len(MINIMAL)))
    assert isinstance(load_config(path), Config)
    with path.open("a") as file:
        file.write("#")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert refused.value.problems == (
        f"{path}: expected at most 1 MiB, got more than 1048576 bytes; split it across several daemons",
    )


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="at most 1 MiB"):
        load_config(Path("/dev/zero"))


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "a:\n - "])
def test_deep_nesting_is_refused_soon(opening: str) -> None:
    assert problems(opening * 10_000)


def test_a_hundred_levels_are_still_read() -> None:
    document = read_document("[" * 100 + "]" * 100, HERE, {})
    assert document.messages() == []


@pytest.mark.parametrize(
    "text",
    [
        '"\\UFFFFFFFF"',
        "%YAML 1." + "9" * 5000 + "\n---\n",
        "%TAG ! tag:x,2000:\n---\na: 1\n",
        "a: |99999\n x",
        "\ud800",
        "a: \0",
        "*a",
        "&a",
        "!!python/object/apply:os.system [ls]",
        "1" * 5000,
        "{1: 1, '1': 2}",
        "--- >\n x\n...\n--- a",
    ],
)
def test_odd_texts_are_refused_in_words(text: str) -> None:
    assert all(line.startswith("kldrift.yaml:") for line in problems(text))


def refused_or_read(text: str) -> None:
    try:
        found = () if isinstance(parse_config(text, HERE, {}), Config) else None
    except ConfigError as error:
        found = error.problems or None
    assert found is not None
    for line in found:
        assert line.startswith("kldrift.yaml:")
        assert line.isprintable()
        assert ": expected " in line
        assert ", got " in line


@given(st.text())
def test_no_text_crashes_the_loader(text) -> None:
    refused_or_read(text)


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@#,\n\t $~01.e\\<u", max_size=60))
@settings(max_examples=300)
def test_no_yaml_like_text_crashes_the_loader(text) -> None:
    refused_or_read(text)


FULL = {
    "server": {"listen": "127.0.0.1:9867", "insecure": False, "max_body": "1MB"},
    "state": "none",
    "engine": {"tick": "10s", "threads": "auto", "queue": "256MB"},
    "log": {"format": "json", "level": "info"},
    "sources": {
        "files": {"type": "file", "path": "*.csv", "format": "csv", "follow": True},
        "made": {
            "type": "synthetic",
            "rate": 10,
            "features": {
                "x": {"distribution": "uniform", "low": 0, "high": 1, "missing": 0.1},
                "c": {"distribution": "categorical", "probabilities": {"a": 0.5, "b": 0.5}},
            },
            "drift": {"after": "1m", "features": {"x": {"low": 0.5}}},
        },
    },
    "monitors": {
        "loans": {
            "sources": ["files", "made"],
            "timestamp": {"field": "ts", "unit": "ms"},
            "allowed_lateness": "1m",
            "windows": ["5m", "1h"],
            "reference": {"data": "a.csv"},
            "smoothing": {"epsilon": 0.1},
            "divergences": ["psi"],
            "segments": {"by": "country", "limit": 5},
            "estimator": "boxkite",
            "drift": {"confidence": 0.99, "correction": "by", "warning": 0.01, "critical": 0.1},
            "features": {
                "x": {"kind": "numeric", "bins": {"method": "logarithmic", "count": 3, "range": [1, 9]}},
                "e": {"kind": "numeric", "bins": {"edges": [0, 1]}, "drift": {"critical": 1}},
                "g": {"kind": "numeric", "reference": {"edges": [0, 1, 2], "counts": [1, 2]}},
                "c": {"kind": "categorical", "max_categories": 5, "reference": {"probabilities": {"a": 1.0}}},
                "n": {"kind": "numeric", "reference": {"family": "uniform", "low": 0, "high": 1}},
                "t": {"kind": "categorical", "reference": {"family": "bernoulli", "fit": "a.csv"}},
                "v": {"kind": "vector", "dimensions": 3, "covariance": "full", "reference": {"learn": 100}},
                "z": {"kind": "posterior", "dimensions": 3, "per_dimension": True},
                "w": {"kind": "numeric", "reference": {"previous": "1d", "data": "a.csv"}},
            },
        },
        "orders": {"reference": {"previous": "1d", "learn": 500}, "features": {"x": {"kind": "numeric"}}},
    },
}


def paths_of(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


KEYS = st.sampled_from(sorted({str(key) for path in paths_of(FULL) for key in path})) | st.text(max_size=5)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["5m", "1h", "none", "file", "numeric", "categorical", "vector", "posterior", "psi", "uniform"])
    | st.sampled_from(["edges", "normal", "0"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


def test_the_full_configuration_is_valid() -> None:
    assert parse_config(json.dumps(FULL), HERE).warnings == ()


@given(st.sampled_from(list(paths_of(FULL))), VALUES)
@settings(max_examples=200, deadline=None)
def test_no_value_in_any_place_crashes_the_loader(path, value) -> None:
    # JSON with ASCII only is YAML, but for floats: 1e16 is read alike, Infinity is text
    refused_or_read(json.dumps(replaced(FULL, path, value)))


def test_a_relative_configuration_path_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kldrift.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("kldrift.yaml"))
    assert config.monitors[0].reference.path == Path(os.getcwd()) / "a.csv"  # noqa: PTH109
