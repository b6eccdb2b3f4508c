"""Texts that the configuration, generated files and messages have in common."""

from collections.abc import Iterable, Sequence

#: Units of a Prometheus duration in milliseconds, longest first.
UNIT_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}


def duration_text(length_ms: int) -> str:
    """Write a length as a Prometheus duration, such as ``1h30m``."""
    text = ""
    for unit, factor in UNIT_MS.items():
        number, length_ms = divmod(length_ms, factor)
        text += f"{number}{unit}" if number else ""
    return text or "0"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Join names for a message: the first `most` of them, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def either(names: Sequence[str], word: str = "or") -> str:
    """Join names as in ``a, b or c``."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)
