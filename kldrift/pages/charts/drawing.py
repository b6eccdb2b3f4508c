"""What all charts share: short numbers, ticks, paths, positioned texts."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

#: Ticks are multiples of these, times a power of ten.
_STEPS = (1, 2, 5, 10)

#: Maximum number of digits used to tell neighbouring edges apart.
_MOST_DIGITS = 10


def short(value: float) -> str:
    """Format a coordinate, rounded to 0.1: ``12``, ``3.5``, ``.5``, ``-.5``."""
    text = f"{value:.1f}".removesuffix(".0")
    if text == "-0":
        return "0"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def percent(value: float) -> str:
    """Format a horizontal position, 0 to 100 % of the width of a chart: ``12.5%``."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def number(value: float, digits: int = 3) -> str:
    """Format a number for display: ``0.0123``, ``1200000``, ``1.2e-7``, ``∞``."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{value:.0f}" if 0 < int(exponent) < 7 else f"{mantissa}e{int(exponent)}"


def share(value: float) -> str:
    """Format a share as a percentage: ``12.3 %``."""
    return f"{number(100 * value)} %"


def numbers(values: Sequence[float]) -> list[str]:
    """Format numbers with enough digits to tell them apart; the edges of a point bin count as equal."""
    distinct = len({number(value, _MOST_DIGITS) for value in values})
    for digits in range(3, _MOST_DIGITS):
        texts = [number(value, digits) for value in values]
        if len(set(texts)) == distinct:
            return texts
    return texts


def ticks(maximum: float, count: int) -> list[float]:
    """Return 0 and at most `count` multiples of a round number; the last is `maximum` or more."""
    if not 0 < maximum < math.inf:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(maximum / count))
    # Allow for rounding: 0.3 / 3 is slightly less than 0.1.
    step = next(step * magnitude for step in _STEPS if step * magnitude * count >= maximum * (1 - 1e-9))
    return [i * step for i in range(min(count, math.ceil(maximum / step * (1 - 1e-9))) + 1)]


def finite(value: float, otherwise: float = 0.0) -> float:
    """Return the value, or `otherwise` if it is NaN or infinite."""
    return value if math.isfinite(value) else otherwise


def text(words: str, x: float, y: float, *classes: str) -> Markup:
    """Place a text at x per cent of the width and y px; classes as in ``charts.css`` (`chart-end`, `chart-minor` …)."""
    names = Markup(' class="{}"').format(" ".join(classes)) if classes else Markup("")
    return Markup('<text x="{}" y="{}"{}>{}</text>').format(percent(x), short(y), names, words)


def line(y: float, class_name: str) -> Markup:
    """Draw a horizontal line across the chart."""
    return Markup('<line class="{}" x2="100%" y1="{}" y2="{}"/>').format(class_name, short(y), short(y))


def path(data: str, class_name: str) -> Markup:
    """Draw a path; nothing if it has no data."""
    return Markup('<path class="{}" d="{}"/>').format(class_name, data) if data else Markup("")


def stretched(content: Iterable[Markup], width: float, top: float, height: float) -> Markup:
    """Put paths into a box `width` units wide that stretches to the width of the chart; its height is in px."""
    return Markup(
        '<svg y="{0}" height="{1}" width="100%" viewBox="0 0 {2} {1}" preserveAspectRatio="none">{3}</svg>'
    ).format(short(top), short(height), short(width), Markup("").join(content))


def chart(label: str, height: float, class_name: str, content: Iterable[Markup]) -> Markup:
    """Make the outer SVG: as wide as its container, `height` px high, labelled for screen readers."""
    return Markup('<svg class="{}" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        class_name, short(height), escape(label), Markup("").join(content)
    )
