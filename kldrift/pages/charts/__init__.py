"""Charts as inline SVG: pure functions of numbers, for the daemon's pages and for reports.

They carry classes only, no style and no script; the colours are those of ``static/charts.css``. Text keeps its size at
any width: the drawing stretches, in an inner SVG, below texts whose places are percentages.
"""

from kldrift.pages.charts.histogram import Cell, histogram, legend, thumbnail
from kldrift.pages.charts.sparkline import sparkline
from kldrift.pages.charts.timeline import timeline

__all__ = ["Cell", "histogram", "legend", "sparkline", "thumbnail", "timeline"]
