"""The Prometheus text format and OpenMetrics, as bytes.

References
----------
prometheus.io/docs/instrumenting/exposition_formats; OpenMetrics 1.0 (prometheus.io/docs/specs/om).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
import orjson

from kldrift.records.types import FloatArray, IntArray

# Surrogates cannot be encoded as UTF-8, and control characters break readers and terminals. Both are written as
# escapes, so that different names remain different series.
_UNPRINTABLE = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0xD800, 0xE000))},
}
_LABEL_ESCAPES = {
    **{code: text.replace("\\", "\\\\") for code, text in _UNPRINTABLE.items()},
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("\n"): "\\n",
}

#: Written for the value "", because to Prometheus an empty label is an absent one.
EMPTY = "(empty)"

#: Longer values from the input are truncated; bytes of UTF-8.
MAX_VALUE_BYTES = 200


def printable(text: str) -> str:
    r"""Return text that is valid UTF-8, with control characters other than newline written as ``\x00``."""
    return text.translate(_UNPRINTABLE)


def escape_label_value(text: str) -> str:
    r"""Return the text between the quotes of a label: printable, with ``\``, ``"`` and newline escaped."""
    return text.translate(_LABEL_ESCAPES)


def value_labels(values: Iterable[str]) -> tuple[str, ...]:
    """Turn values from the input into distinct label values: printable, not empty, not too long.

    A value that has to be changed gets a hash of the original, whatever the other values are, so that its series keeps
    its name when others come and go. A repeated value (a segment named like the one for all others) gets a number.
    """
    texts: dict[str, None] = {}
    for value in values:
        text = single = _value_label(value)
        n = 1
        while text in texts:
            n += 1
            text = f"{single} ({n})"
        texts[text] = None
    return tuple(texts)


def _value_label(value: str) -> str:
    if not value:
        return EMPTY
    text = printable(value)
    encoded = text.encode()
    if len(encoded) > MAX_VALUE_BYTES:
        text = encoded[:MAX_VALUE_BYTES].decode(errors="ignore") + "…"
    elif text == value and value != EMPTY:
        return value
    return f"{text} #{sha256(value.encode(errors='surrogatepass')).hexdigest()[:8]}"


def label_set(labels: Iterable[tuple[str, str]]) -> bytes:
    """Return labels as ``{a="1",b="2"}``, followed by the space before the value."""
    return ("{" + ",".join(f'{name}="{escape_label_value(value)}"' for name, value in labels) + "} ").encode()


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family.

    `name` is the name of its samples: with ``_total`` for a counter and ``_info`` for an info.
    """

    name: str
    kind: Literal["gauge", "counter", "info"]
    help: str

    def header(self, openmetrics: bool) -> bytes:
        """Return the HELP and TYPE lines of either format."""
        name, kind = self.name, self.kind
        if openmetrics:
            name = name.removesuffix({"gauge": "", "counter": "_total", "info": "_info"}[kind])
        elif kind == "info":
            kind = "gauge"
        text = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        if openmetrics:
            text = text.replace('"', '\\"')
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n".encode()


def value_texts(values: FloatArray | IntArray) -> list[bytes]:
    """Return the shortest exact text of each value, ``+Inf`` and ``-Inf`` where infinite.

    `values` is one-dimensional and contains no NaN. orjson writes an array 20 times as fast as `repr` writes its
    elements, which matters at 50,000 series per scrape.
    """
    if not len(values):
        return []
    array = np.ascontiguousarray(values)
    texts = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if array.dtype.kind == "f":
        for index in np.flatnonzero(np.isinf(array)):  # null to orjson
            texts[index] = b"+Inf" if array[index] > 0 else b"-Inf"
    return texts


def sample_lines(name: bytes, labels: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """Return one line ``name{labels} value`` for each pair."""
    pieces: list[bytes] = [b"\n"] * (4 * len(values))
    pieces[0::4] = [name] * len(values)
    pieces[1::4] = labels
    pieces[2::4] = values
    return b"".join(pieces)
