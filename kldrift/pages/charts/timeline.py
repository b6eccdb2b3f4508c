"""A divergence and its bounds over time, against its tolerances."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from kldrift.pages.charts.drawing import chart, line, number, path, percent, short, stretched, text, ticks
from kldrift.records.types import FloatArray, IntArray

#: The scale is logarithmic if the largest value exceeds the critical tolerance by this factor.
LOGARITHMIC_FROM = 30

#: Maximum number of points of a line; with more, each is the largest of several.
POINTS = 400

_TOP, _HEIGHT, _WIDTH = 8, 168, 1000
_LABEL_HEIGHT = 12

_SECOND = 1000
_MINUTE, _HOUR, _DAY = 60 * _SECOND, 3600 * _SECOND, 86_400 * _SECOND
_TIME_STEPS = (
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 28, 91, 182, 364, 3640)),
)
_TIME_TICKS = 7

#: Ticks at least this far apart show the year.
_YEARLY = 91 * _DAY


def timeline(
    at_ms: IntArray,
    kl: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    warning: float,
    critical: float,
    label: str,
) -> Markup:
    """Draw the KL divergence as a line in the band between its bounds, and the tolerances as labelled lines.

    The scale is linear from 0; logarithmic where the largest value is above 30 times the critical tolerance.

    Parameters
    ----------
    at_ms : (n,) int64, ms since the epoch, not decreasing
    kl, lower, upper : (n,) float64, nats; NaN is a gap, an infinity is drawn at the top
    warning, critical : nats
    label : what it is, for screen readers
    """
    kept = _kept(kl)
    at_ms, kl, lower, upper = at_ms[kept], kl[kept], lower[kept], upper[kept]
    scale = _scale(np.concatenate([kl, upper]), warning, critical)
    start, stop = (int(at_ms[0]), int(at_ms[-1])) if at_ms.size else (0, 0)
    x = _WIDTH * ((at_ms - start) / (stop - start) if stop > start else np.full(at_ms.size, 0.5))
    banded = np.isfinite(kl) & ~np.isnan(lower) & ~np.isnan(upper)
    content = [
        stretched(
            (
                path(_band(x, scale.y(lower), scale.y(upper), banded), "chart-band"),
                path(_line(x, scale.y(kl), ~np.isnan(kl)), "chart-kl"),
            ),
            _WIDTH,
            _TOP,
            _HEIGHT,
        )
    ]
    grid = [
        Markup("{}{}").format(
            line(_TOP + y, "chart-grid"),
            Markup('<text class="chart-tick" x="-6" y="{}">{}</text>').format(y + 12, word),
        )
        for y, word in scale.ticks
    ]
    content = [*grid, *content, *_tolerances(scale, warning, critical), *_times(start, stop)]
    content.append(text(f"time, UTC · nats{', logarithmic' if scale.logarithmic else ''}", 100, _TOP + _HEIGHT + 36,
                        "chart-end", "chart-axis"))  # fmt: skip
    return chart(label, _TOP + _HEIGHT + 42, "chart chart-with-axis", content)


def _kept(kl: FloatArray) -> IntArray:
    """Return the indices of at most `POINTS` values: the largest of each stretch."""
    if kl.size <= POINTS:
        return np.arange(kl.size)
    starts = np.arange(POINTS) * kl.size // POINTS
    stops = np.append(starts[1:], kl.size)
    known = np.where(np.isnan(kl), -np.inf, kl)
    return np.array([start + int(known[start:stop].argmax()) for start, stop in zip(starts, stops, strict=True)])


@dataclass(frozen=True, slots=True)
class _Scale:
    """The vertical scale: nats to px below the top of the plot, rounded to 0.1; `ticks` are (px, text)."""

    y: Callable[[FloatArray], FloatArray]
    ticks: list[tuple[int, str]]
    logarithmic: bool


def _scale(values: FloatArray, warning: float, critical: float) -> _Scale:
    finite = values[np.isfinite(values)]
    largest = max(float(finite.max(initial=0.0)), 1.25 * critical)
    if largest <= LOGARITHMIC_FROM * critical or critical <= 0:
        marks = ticks(largest, 4)
        top = marks[-1]

        def linear(nats: FloatArray) -> FloatArray:
            return np.asarray((_HEIGHT * (1 - np.clip(nats / top, 0, 1))).round(1))

        return _Scale(linear, [(round(float(linear(np.array(m)))), number(m)) for m in marks], False)
    high = math.ceil(math.log10(largest))
    positive = finite[finite > 0]
    low = math.floor(math.log10(min(warning or critical, float(positive.min(initial=critical)))))
    low = max(low, high - 8)

    def logarithmic(nats: FloatArray) -> FloatArray:
        decades = np.log10(np.clip(nats, 10.0**low, 10.0**high))
        return np.asarray((_HEIGHT * (high - decades) / (high - low)).round(1))

    step = -(-(high - low) // 5)
    powers = range(high, low - 1, -step)
    return _Scale(logarithmic, [(round(_HEIGHT * (high - p) / (high - low)), number(10.0**p)) for p in powers], True)


def _stretches(drawn: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of every stretch without a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], drawn, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _points(x: FloatArray, y: FloatArray) -> str:
    return "L".join(f"{short(a)} {short(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _line(x: FloatArray, y: FloatArray, drawn: npt.NDArray[np.bool_]) -> str:
    # A point without neighbours is a dot: a line of zero length with round caps.
    return "".join(
        f"M{_points(x[start:stop], y[start:stop])}{'h0' if stop - start == 1 else ''}"
        for start, stop in _stretches(drawn)
    )


def _band(x: FloatArray, lower: FloatArray, upper: FloatArray, drawn: npt.NDArray[np.bool_]) -> str:
    pieces = []
    for start, stop in _stretches(drawn):
        x_there, low, high = x[start:stop], lower[start:stop], upper[start:stop]
        if stop - start == 1:
            x_there, low, high = x_there + np.array([-2.0, 2.0]), low.repeat(2), high.repeat(2)
        pieces.append(f"M{_points(x_there, high)}L{_points(x_there[::-1], low[::-1])}Z")
    return "".join(pieces)


def _tolerances(scale: _Scale, warning: float, critical: float) -> list[Markup]:
    levels = {name: float(scale.y(np.array(v))) for name, v in (("warning", warning), ("critical", critical))}
    drawn = []
    for name, tolerance in (("warning", warning), ("critical", critical)):
        y = _TOP + levels[name]
        # Above its line, but the warning's below it where the two would touch.
        close = name == "warning" and abs(levels["critical"] - levels["warning"]) < _LABEL_HEIGHT
        below = close and y + _LABEL_HEIGHT < _TOP + _HEIGHT
        words = f"{name} {number(tolerance)}"
        drawn.append(line(y, f"chart-{name}"))
        if not close or below:
            drawn.append(text(words, 100, y + (11 if below else -4), "chart-end", f"chart-{name}-text"))
    return drawn


def _times(start: int, stop: int) -> list[Markup]:
    y = _TOP + _HEIGHT + 16
    if stop <= start:
        return [text(_instant(start, "%Y-%m-%d %H:%M:%S"), 50, y, "chart-middle")] if start else []
    step = next((s for s in _TIME_STEPS if (stop - start) / s <= _TIME_TICKS), _TIME_STEPS[-1])
    marks = range(-(-start // step) * step, stop + 1, step)
    drawn = []
    for i, mark in enumerate(marks):
        x = 100 * (mark - start) / (stop - start)
        place = "chart-end" if x > 95 else "chart-start" if x < 5 else "chart-middle"
        at = percent(x)
        drawn.append(
            Markup('<line class="chart-mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                at, _TOP + _HEIGHT, _TOP + _HEIGHT + 4
            )
        )
        drawn.append(text(_time(mark, step), x, y, place, *(("chart-minor",) if i % 2 else ())))
    first = _instant(start, "%Y-%m-%d")
    last = _instant(stop, "%Y-%m-%d")
    drawn.append(text(first if first == last else f"{first} – {last}", 0, y + 20, "chart-axis"))
    return drawn


def _time(mark: int, step: int) -> str:
    if step >= _YEARLY:
        return _instant(mark, "%b %Y")
    if step >= _DAY or mark % _DAY == 0:
        return _instant(mark, "%b %-d")
    return _instant(mark, "%H:%M" if step >= _MINUTE else "%H:%M:%S")


def _instant(ms: int, pattern: str) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(pattern)
