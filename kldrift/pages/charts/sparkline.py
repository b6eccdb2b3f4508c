"""A divergence over time, the size of a word. A page may hold a thousand, so every byte counts."""

import numpy as np
from markupsafe import Markup, escape

from kldrift.pages.charts.drawing import short
from kldrift.records.types import FloatArray

#: Maximum number of points; with more, each is the largest of several.
POINTS = 40

#: Its size in ``charts.css``; elsewhere it is scaled.
_WIDTH, _HEIGHT = 120, 24


def sparkline(values: FloatArray, tolerance: float, label: str, width: int = _WIDTH, height: int = _HEIGHT) -> Markup:
    """Draw the trend of a divergence, red above its tolerance, which is a thin line.

    The scale is linear from 0 and its own: to the largest value, or twice the tolerance.

    Parameters
    ----------
    values : (n,) float64, oldest first; NaN is a gap, an infinity is drawn at the top
    tolerance : in the same unit
    label : what it is, for screen readers; empty where figures beside it say the same
    width, height : px
    """
    points = _largest_of_each(np.asarray(values, dtype=np.float64))
    top = max(2 * tolerance, float(points[np.isfinite(points)].max(initial=0.0))) or 1.0
    step = max(1, width // max(1, points.size - 1))
    places = np.rint((height - 2) * (1 - np.clip(points / top, 0, 1))) + 1
    heights = [None if place != place else int(place) for place in places.tolist()]
    level = short((height - 2) * (1 - tolerance / top) + 1)
    within, beyond = _lines(heights, (points > tolerance).tolist(), step)
    named = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    scaled = f' viewBox="0 0 {width} {height}"' if (width, height) != (_WIDTH, _HEIGHT) else ""
    # charts.css relies on the level coming first. All values but the label are numbers, and the label is escaped;
    # Markup's own formatting would take a third of the time of a page.
    return Markup(  # noqa: S704
        f'<svg class="spark"{scaled} {named}><path d="M0 {level}H{width}"/><path d="{within}"/>'
        f'<path class="o" d="{beyond}"/></svg>'
    )


def _largest_of_each(values: FloatArray) -> FloatArray:
    """Return at most `POINTS` values, each the largest of those it stands for; NaN where there are none."""
    if values.size <= POINTS:
        return values
    starts = np.arange(POINTS) * values.size // POINTS
    known = np.where(np.isnan(values), -np.inf, values)
    largest: FloatArray = np.maximum.reduceat(known, starts)
    largest[np.isneginf(largest)] = np.nan
    return largest


def _lines(heights: list[int | None], over: list[bool], step: int) -> tuple[str, str]:
    """Return the pieces of the line within the tolerance, and those that touch a point above it.

    In relative coordinates; stretches of the same slope are one.
    """
    drawn: dict[bool, list[str]] = {False: [], True: []}
    ends = {False: (0, 0), True: (0, 0)}
    before: int | None = None
    of_piece, down, n = None, 0, 0
    for i, y in enumerate(heights):
        if y is None:
            before = of_piece = None
            continue
        if before is None:
            if heights[i + 1 : i + 2] in ([], [None]):  # a point without neighbours: a dot
                drawn[over[i]] += [_move(ends[over[i]], i * step, y), "h0"]
                ends[over[i]] = (i * step, y)
            before = y
            continue
        red = over[i] or over[i - 1]
        data = drawn[red]
        if red != of_piece:
            data.append(_move(ends[red], (i - 1) * step, before))
            of_piece, n = red, 0
        if n and y - before == down:
            data.pop()
        else:
            down, n = y - before, 0
        n += 1
        data.append(
            f" {n * step}{'' if down < 0 else ' '}{n * down}"
        )  # a minus sign separates numbers as well as a space
        ends[red] = (i * step, y)
        before = y
    return "".join(drawn[False]), "".join(drawn[True])


def _move(end: tuple[int, int], x: int, y: int) -> str:
    """Move from the end of the last piece."""
    return f"m{x - end[0]}{'' if y < end[1] else ' '}{y - end[1]}"
