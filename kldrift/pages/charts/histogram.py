"""The live distribution against the reference, and the contribution of each cell to the divergence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from kldrift.pages.charts.drawing import (
    chart,
    finite,
    line,
    number,
    numbers,
    path,
    percent,
    share,
    short,
    stretched,
    text,
    ticks,
)

#: Maximum number of bins drawn; with more, neighbours are merged.
MOST_BINS = 64

#: Maximum number of categories drawn; the rest are merged into one row.
MOST_CATEGORIES = 24

#: Maximum number of labelled edges; on narrow screens every second label is hidden.
_EDGE_LABELS = 8

_TOP, _SHARES, _CONTRIBUTIONS = 22, 132, 44
_ROW = 20
#: Start and length of the bars of shares and of contributions, in per cent of the width.
_SHARE_LEFT, _SHARE_WIDTH, _NATS_LEFT, _NATS_WIDTH = 34, 36, 75, 25
#: Maximum length of a label; what does not fit the column is clipped.
_LABEL_LETTERS = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a histogram.

    Parameters
    ----------
    name : as people know it
    live, reference : share of the rows
    contribution : what it adds to the divergence, nats
    kind : a bin of a numeric feature, a category, or what has no bin of its own (below, above, unseen, missing)
    left, right : the edges of a bin
    """

    name: str
    live: float
    reference: float
    contribution: float
    kind: Literal["bin", "category", "special"]
    left: float | None = None
    right: float | None = None


def legend() -> Markup:
    """Explain the colours of a histogram."""
    return Markup(
        '<p class="chart-legend"><span class="chart-key chart-key-live"></span> live'
        ' <span class="chart-key chart-key-reference"></span> reference'
        ' <span class="chart-key chart-key-contribution"></span> contribution to the divergence</p>'
    )


def histogram(cells: Sequence[Cell], label: str) -> Markup:
    """Draw bins as columns of equal width, categories and special cells as rows, each with its contribution.

    Quantile bins are equally full, not equally wide: the share of each is what the divergence is computed from, and a
    reference that is flat shows where the live data is not. What has no bin and no rows is not drawn.

    Parameters
    ----------
    cells : in their order
    label : what it is, for screen readers
    """
    bins = _merged([cell for cell in cells if cell.kind == "bin"])
    categories = _largest([cell for cell in cells if cell.kind == "category"])
    special = [cell for cell in cells if cell.kind == "special" and _is_drawn(cell)]
    drawn = Markup("")
    if bins:
        drawn += _columns(bins, label)
    rows = categories + special
    if rows:
        drawn += _rows(rows, f"{label}: values without a bin" if bins else label, cells)
    return drawn


def thumbnail(cells: Sequence[Cell], label: str) -> Markup:
    """Draw a histogram the size of a word: live shares filled, the reference as a line."""
    merged = _merged([cell for cell in cells if _is_drawn(cell)])
    largest = _largest_share(merged)
    return Markup(
        '<svg class="chart-thumbnail" viewBox="0 0 {} 24" preserveAspectRatio="none" role="img" aria-label="{}">{}{}'
        "</svg>"
    ).format(
        max(1, len(merged)),
        label,
        path(_bars([24 * finite(cell.live) / largest for cell in merged], 24), "chart-live"),
        path(_steps([24 * finite(cell.reference) / largest for cell in merged], 24), "chart-reference"),
    )


def _is_drawn(cell: Cell) -> bool:
    """Return whether a cell is drawn: special cells without rows are not."""
    return cell.kind != "special" or cell.live > 0 or cell.reference > 0


def _merged(cells: list[Cell]) -> list[Cell]:
    """Merge neighbours until at most `MOST_BINS` cells are left."""
    size = -(-len(cells) // MOST_BINS)
    return cells if size <= 1 else [_together(cells[i : i + size]) for i in range(0, len(cells), size)]


def _together(cells: Sequence[Cell], name: str | None = None) -> Cell:
    first, last = cells[0], cells[-1]
    return Cell(
        name or f"{first.name} … {last.name}",
        sum(finite(cell.live) for cell in cells),
        sum(finite(cell.reference) for cell in cells),
        sum(cell.contribution for cell in cells),
        first.kind,
        first.left,
        last.right,
    )


def _largest(cells: list[Cell]) -> list[Cell]:
    """Keep at most `MOST_CATEGORIES`, in order: those with the largest contributions and shares, the rest merged."""
    if len(cells) <= MOST_CATEGORIES:
        return cells
    by_contribution = sorted(range(len(cells)), key=lambda i: -finite(cells[i].contribution, math.inf))
    by_share = sorted(range(len(cells)), key=lambda i: -max(finite(cells[i].live), finite(cells[i].reference)))
    kept: dict[int, None] = dict.fromkeys(by_contribution[: MOST_CATEGORIES // 2])
    for i in by_share:
        if len(kept) == MOST_CATEGORIES - 1:
            break
        kept[i] = None
    rest = [cell for i, cell in enumerate(cells) if i not in kept]
    return [cells[i] for i in sorted(kept)] + [_together(rest, f"{len(rest)} more")]


def _words(cell: Cell) -> str:
    """Describe a cell for its tooltip."""
    return (
        f"{cell.name}: live {share(cell.live)}, reference {share(cell.reference)},"
        f" contributes {number(cell.contribution)} nats"
    )


def _largest_share(cells: Sequence[Cell]) -> float:
    return max((finite(value) for cell in cells for value in (cell.live, cell.reference)), default=0.0) or 1.0


def _largest_contribution(cells: Sequence[Cell]) -> float:
    return max((finite(cell.contribution) for cell in cells), default=0.0)


def _columns(bins: list[Cell], label: str) -> Markup:
    """Draw bins as columns: shares on top, contributions below, edges under both."""
    n = len(bins)
    marks = ticks(_largest_share(bins), 4)
    top = marks[-1]
    nats = _largest_contribution(bins)
    nats_top = _TOP + _SHARES + 32
    edges_y = nats_top + _CONTRIBUTIONS
    grid = [
        Markup("{}{}").format(
            line(_TOP + y, "chart-grid"),
            Markup('<text class="chart-tick" x="-6" y="{}">{}</text>').format(short(_TOP + y + 4), share(mark)),
        )
        for mark in marks
        for y in [_SHARES * (1 - mark / top)]
    ]
    shares = stretched(
        (
            path(_bars([_SHARES * finite(cell.live) / top for cell in bins], _SHARES), "chart-live"),
            path(_steps([_SHARES * finite(cell.reference) / top for cell in bins], _SHARES), "chart-reference"),
        ),
        n,
        _TOP,
        _SHARES,
    )
    heights = [_CONTRIBUTIONS * min(1.0, finite(cell.contribution, 1.0 if nats == 0 else nats) / (nats or 1.0))
               for cell in bins]  # fmt: skip
    contributions = stretched((path(_bars(heights, _CONTRIBUTIONS), "chart-contribution"),), n, nats_top,
                              _CONTRIBUTIONS)  # fmt: skip
    content = [
        text("share of rows in each bin", 0, 12, "chart-axis"),
        *grid,
        shares,
        text(f"contribution of each bin, to {number(nats)} nats", 0, nats_top - 8, "chart-axis"),
        line(edges_y, "chart-grid"),
        contributions,
        *_edges(bins, edges_y),
        *_hovers(bins, edges_y - _TOP),
    ]
    return chart(label, edges_y + 38, "chart chart-with-axis", content)


def _bars(heights: Sequence[float], bottom: float) -> str:
    """Draw filled bars, one unit wide each, with gaps; anything above zero stays visible."""
    return "".join(
        f"M{short(i + 0.1)} {short(bottom)}V{short(bottom - max(height, 0.8))}h.8V{short(bottom)}Z"
        for i, height in enumerate(heights)
        if height > 0
    )


def _steps(heights: Sequence[float], bottom: float) -> str:
    """Draw the outline of touching bars."""
    return f"M0 {short(bottom)}" + "".join(f"V{short(bottom - height)}h1" for height in heights) + f"V{short(bottom)}"


def _edges(bins: list[Cell], y: float) -> list[Markup]:
    edges = [bins[0].left, *(cell.right for cell in bins)]
    known = [edge for edge in edges if edge is not None]
    if len(known) != len(edges):
        return [text("bins in their order", 0, y + 30, "chart-axis")]
    step = -(-len(bins) // _EDGE_LABELS)
    labelled = list(range(0, len(edges), step))
    if labelled[-1] != len(bins):  # the last edge is labelled, and replaces the label before it if that is too close
        if len(bins) - labelled[-1] < step / 2 and len(labelled) > 1:
            labelled.pop()
        labelled.append(len(bins))
    drawn = [text("edges; bins are drawn equally wide", 100, y + 32, "chart-axis", "chart-end")]
    texts = numbers([known[i] for i in labelled])
    for place, (i, words) in enumerate(zip(labelled, texts, strict=True)):
        last = i == len(bins)
        anchor = "chart-start" if place == 0 else "chart-end" if last else "chart-middle"
        minor = not last and (place % 2 == 1 or place == len(labelled) - 2)
        drawn.append(text(words, 100 * i / len(bins), y + 15, anchor, *(("chart-minor",) if minor else ())))
    return drawn


def _hovers(bins: list[Cell], height: float) -> list[Markup]:
    """Draw invisible columns whose tooltips give the numbers of a bin."""
    width = 100 / len(bins)
    return [
        Markup('<rect class="chart-hover" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
            percent(i * width), _TOP, percent(width), short(height), _words(cell)
        )
        for i, cell in enumerate(bins)
    ]


def _rows(rows: list[Cell], label: str, scaled_with: Sequence[Cell]) -> Markup:
    """Draw cells as rows: name, live share as a bar, reference share as a mark, contribution; special cells apart."""
    largest, nats = _largest_share(rows), _largest_contribution(scaled_with)
    n_own = sum(cell.kind != "special" for cell in rows)
    apart = 8 if 0 < n_own < len(rows) else 0
    content = [
        text(f"share of rows, to {share(largest)}", _SHARE_LEFT, 12, "chart-axis"),
        text(f"to {number(nats)} nats", _NATS_LEFT, 12, "chart-axis"),
    ]
    for i, cell in enumerate(rows):
        y = _TOP + i * _ROW + (apart if i >= n_own else 0)
        content.append(_row(cell, y, largest, nats))
    if apart:
        content.append(line(_TOP + n_own * _ROW + apart / 2 - 1, "chart-grid"))
    return chart(label, _TOP + len(rows) * _ROW + apart, "chart", content)


def _row(cell: Cell, y: float, largest: float, nats: float) -> Markup:
    name = cell.name if len(cell.name) <= _LABEL_LETTERS else f"{cell.name[: _LABEL_LETTERS - 1]}…"
    reference = percent(_SHARE_LEFT + _SHARE_WIDTH * finite(cell.reference) / largest)
    part = min(1.0, finite(cell.contribution, math.inf) / nats) if nats > 0 else float(math.isinf(cell.contribution))
    content = [
        # A nested SVG clips the name at the end of its column.
        Markup('<svg y="{}" width="{}" height="{}"><text class="chart-name{}" y="13">{}</text></svg>').format(
            short(y), percent(_SHARE_LEFT - 2), _ROW, " chart-special" if cell.kind == "special" else "", name
        ),
        _bar("chart-live", _SHARE_LEFT, y + 4, _SHARE_WIDTH * finite(cell.live) / largest),
        Markup('<line class="chart-reference" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            reference, short(y + 1), short(y + 17)
        ),
        _bar("chart-contribution", _NATS_LEFT, y + 4, _NATS_WIDTH * part),
        Markup('<rect class="chart-hover" y="{}" width="100%" height="{}"><title>{}</title></rect>').format(
            short(y), _ROW, _words(cell)
        ),
    ]
    return Markup("").join(content)


def _bar(class_name: str, left: float, y: float, width: float) -> Markup:
    if width <= 0:
        return Markup("")
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="10"/>').format(
        class_name, percent(left), short(y), percent(max(width, 0.3))
    )
