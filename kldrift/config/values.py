"""Values of single keys: what is allowed, the wording of the error otherwise, and the parsed result."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import fsum, isfinite
from typing import Annotated, Any, LiteralString

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from kldrift.config.document import nearest
from kldrift.config.records import Address
from kldrift.records.addresses import ip_address, plain_host
from kldrift.records.categories import category_text
from kldrift.records.specs import WindowSpec
from kldrift.records.texts import UNIT_MS, either

_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in UNIT_MS))
_DURATION_JSON = r"^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$"
_LONGEST_MS = 10 * UNIT_MS["y"]

_UNIT_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(rf"([0-9]{{1,12}}) ?({'|'.join(_UNIT_BYTES)})")

NAME = r"^[a-zA-Z_][a-zA-Z0-9_.-]{0,63}$"
#: A window is divided into this many slices and moves on by one at a time.
SLICES = 12
MIN_WINDOW_MS = 1000
DEFAULT_WINDOWS = ("5m", "1h", "24h")
DEFAULT_LISTEN = Address("127.0.0.1", 9867)


def wanted(expected: str, remedy: str, kind: LiteralString = "kldrift") -> PydanticCustomError:
    """Make an error that carries its own wording."""
    return PydanticCustomError(kind, "{expected}", {"expected": expected, "remedy": remedy})


def wanted_word(
    word: Any, known: Sequence[str], plural: str, later: Mapping[str, str] | None = None
) -> PydanticCustomError:
    """Make the error for a word that is not among the `known`; `later` explains why certain other words are not."""
    if isinstance(word, str) and later and word in later:
        return wanted(
            f"{either(known)}, since {later[word]}", f"use one of these {plural}" if len(known) > 1 else "use it"
        )
    near = nearest(word, list(known)) if isinstance(word, str) else None
    remedy = f"use one of these {plural}" if near is None else f"did you mean {near}?"
    return wanted(either(known), remedy)


def one_of(known: Sequence[str], plural: str, later: Mapping[str, str] | None = None) -> tuple[Any, ...]:
    """Return annotations for text that must be one of the `known` words."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise wanted_word(value, known, plural, later)

    return PlainValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})


def milliseconds(text: Any) -> int | None:
    """Parse a Prometheus duration such as ``1h30m`` into milliseconds; None if the text is not one."""
    if text in ("0", 0) and not isinstance(text, bool):
        return 0
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        return None
    return sum(
        int(number) * factor
        for number, factor in zip(match.groups(), UNIT_MS.values(), strict=True)
        if number is not None
    )


def size_text(n_bytes: int) -> str:
    """Write a number of bytes as a size, such as ``16MiB``."""
    factor, unit = max((factor, unit) for unit, factor in _UNIT_BYTES.items() if n_bytes % factor == 0)
    return f"{n_bytes // factor}{unit}"


def duration(low_ms: int, low: str, high_ms: int = _LONGEST_MS, high: str = "10y") -> tuple[Any, ...]:
    """Return annotations for a duration in milliseconds, within bounds."""

    def check(value: Any) -> int:
        length = milliseconds(value)
        if length is None:
            raise wanted("a duration such as 250ms, 5m or 1h30m", "write a number with a unit")
        if not low_ms <= length <= high_ms:
            raise wanted(f"a duration from {low} to {high}", "choose one within these bounds")
        return length

    return PlainValidator(check), WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": _DURATION_JSON}, {"const": 0}]}
    )


def size(low: int, low_text: str, high: int = 2**40, high_text: str = "1024GiB") -> tuple[Any, ...]:
    """Return annotations for a size in bytes, within bounds."""

    def check(value: Any) -> int:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise wanted("a size such as 256MB or 64MiB", "write a whole number with a unit")
        n_bytes = int(match[1]) * _UNIT_BYTES[match[2]]
        if not low <= n_bytes <= high:
            raise wanted(f"a size from {low_text} to {high_text}", "choose one within these bounds")
        return n_bytes

    return PlainValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"})


def listen_address(value: Any) -> Address | None:
    """Parse ``127.0.0.1:9867``, ``[::1]:9867`` or ``:9867`` (every address); None if it is none of these."""
    if not isinstance(value, str):
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        return Address(host, int(port)) if ip_address(host) is not None and ":" in host else None
    if host and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", host):
        return None
    if re.fullmatch(r"[0-9.]+", host) and ip_address(host) is None:
        return None
    return Address(host or "0.0.0.0", int(port))  # noqa: S104 # refused elsewhere unless `insecure` allows it


def _listen(value: Any) -> Address:
    address = listen_address(value)
    if address is None:
        raise wanted("an address and a port such as 127.0.0.1:9867", 'write both, an IPv6 address as "[::1]:9867"')
    return address


def _host(value: Any) -> str:
    host = plain_host(value) if isinstance(value, str) else None
    if host is None:
        raise wanted("the name or address of a host, such as drift.example.com", "leave out scheme, port and path")
    return host


def window(value: Any) -> WindowSpec:
    """Parse a window such as ``5m``."""
    length = milliseconds(value)
    if length is None:
        raise wanted("a duration such as 250ms, 5m or 1h30m", "write a number with a unit")
    if not MIN_WINDOW_MS <= length <= _LONGEST_MS:
        raise wanted("a window from 1s to 10y", "choose one within these bounds")
    if length % SLICES:
        step = 3000 if length >= 3000 else SLICES
        up = -(-length // step) * step
        near = f"{up // 1000}s" if up % 1000 == 0 else f"{up}ms"
        raise wanted(
            "a window whose twelve slices are whole milliseconds", f"use a multiple of 3s or 12ms such as {near}"
        )
    return WindowSpec(value, length)


def _name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(NAME, value) and not value.endswith("\n"):
        return value
    raise wanted(
        "a name of at most 64 letters, digits, _, . and -, starting with a letter or _",
        "rename it: it appears in URLs and labels",
        "kldrift_name",
    )


def _feature_name(value: Any) -> str:
    n_bytes = len(value.encode()) if isinstance(value, str) else 0
    if 0 < n_bytes <= 200 and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        return str(value)
    raise wanted("a feature name of at most 200 bytes without control characters", "rename the feature", "kldrift_name")


def _increasing(values: list[float]) -> list[float]:
    for before, after in pairwise(values):
        if after == before:
            raise wanted("strictly increasing numbers", "drop the repeated edge")
        if after < before:
            raise wanted("strictly increasing numbers", "sort them in ascending order")
    return values


def _edges(values: list[float]) -> list[float]:
    if len(values) < 2:
        raise wanted("at least two edges", "add the other end of the bin")
    _increasing(values)
    if not any(map(isfinite, values)) or not all(map(isfinite, values[1:-1])):
        raise wanted("a finite edge", "only the first may be -.inf and the last .inf; add an edge between them")
    return values


def _range(values: list[float]) -> list[float]:
    if len(values) != 2 or not all(map(isfinite, values)) or not values[0] < values[1]:
        raise wanted("two finite numbers, the lower one first", "write [low, high]")
    return values


def _quantiles(values: list[float]) -> list[float]:
    if not values or not all(0 < value < 1 for value in values):
        raise wanted("probabilities above 0 and below 1", "leave out 0 and 1; the outer bins are open")
    return _increasing(values)


def cells(values: Any) -> list[Any]:
    """Return the numbers of a list or a mapping."""
    return list(values.values()) if isinstance(values, dict) else list(values)


def _counts(values: Any) -> Any:
    total = sum(cells(values))
    if not 0 < total < 2**63:
        raise wanted("counts with a sum above 0 and below 2^63", "give the counts of a real sample")
    return values


def _probabilities(values: Any) -> Any:
    total = fsum(cells(values))
    if abs(total - 1) > 1e-6:
        raise wanted("probabilities that sum to 1", f"divide each by their sum, {total:.9g}")
    return values


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    remedy = "put it in quotes if it is text" if value is not None and not isinstance(value, str) else "fill it in"
    raise wanted("text", remedy)


def _missing_value(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and (text := category_text(value)) is not None:
        return text
    raise wanted("a text that stands for a missing value", "write it in quotes; the empty text always does")


def by_shape(choices: Mapping[type, Callable[[Any], Any]], expected: str, remedy: str) -> Callable[[Any], Any]:
    """Validate by the type of the value if a key allows several; errors of a union cannot be placed."""

    def check(value: Any) -> Any:
        choice = choices.get(type(value))
        if choice is None:
            raise wanted(expected, remedy)
        return choice(value)

    return check


def _threads(value: Any) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise wanted("auto or a whole number from 1 to 1024", "write auto for one thread per core")


Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME})]
FeatureName = Annotated[
    str, PlainValidator(_feature_name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})
]
Listen = Annotated[Address, PlainValidator(_listen), WithJsonSchema({"type": "string", "pattern": ":[0-9]{1,5}$"})]
Host = Annotated[str, PlainValidator(_host), WithJsonSchema({"type": "string", "pattern": r"^[^/@\s]+$"})]
Threads = Annotated[
    int | None,
    PlainValidator(_threads),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
]
Window = Annotated[
    WindowSpec, PlainValidator(window), WithJsonSchema({"type": "string", "pattern": _DURATION_JSON, "minLength": 2})
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Edges = Annotated[list[float], AfterValidator(_edges), Field(json_schema_extra={"minItems": 2})]
Range = Annotated[list[float], AfterValidator(_range), Field(json_schema_extra={"minItems": 2, "maxItems": 2})]
Quantiles = Annotated[list[float], AfterValidator(_quantiles), Field(json_schema_extra={"minItems": 1})]
Count = Annotated[int, Field(ge=0)]
MissingValues = list[
    Annotated[
        str,
        PlainValidator(_missing_value),
        WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}]}),
    ]
]
Counts = AfterValidator(_counts)
Probabilities = AfterValidator(_probabilities)
