"""The templates, and how they format figures."""

from dataclasses import Field, fields
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from math import isfinite, isinf, isnan
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from kldrift.pages.charts.drawing import number

_SECONDS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Page(Protocol):
    """A frozen dataclass whose fields are the variables of a template."""

    template: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def render(page: Page, **surroundings: Any) -> str:
    """Render a page; `surroundings` are the variables that all pages of a kind share."""
    values = {field.name: getattr(page, field.name) for field in fields(page)}
    return _environment().get_template(page.template).render(**surroundings, **values)


@cache
def _environment() -> Environment:
    """Make the environment of all templates: everything is escaped, and an unknown name is an error."""
    templates = files("kldrift.pages") / "templates"
    made = Environment(
        loader=FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (nats, fixed, share, count, instant, lasting, encoded):
        made.filters[each.__name__] = each
    return made


def static(name: str) -> str:
    """Return a file of ``static/``."""
    return (files("kldrift.pages") / "static" / name).read_text(encoding="utf-8")


def report_css() -> Markup:
    """Return the style sheets of a report, which stands in a file of its own."""
    return Markup(static("charts.css") + static("report.css"))  # noqa: S704 (our own files)


def nats(value: float) -> str:
    """Format a divergence: ``0.0123``, ``8.7200``, ``0.00034``, ``1.2e-5``, ``0``; a dash for NaN."""
    return f"{value:.4f}" if 0.001 <= abs(value) < 10 else number(value, 3 if abs(value) >= 10 else 2)


def fixed(value: float) -> str:
    """Format nats for a column of a report, with four decimals in every row; a dash for NaN."""
    return "–" if isnan(value) else "∞" if isinf(value) else f"{value:.4f}"


def share(value: float) -> str:
    """Format a share: ``1.2 %``; a dash for NaN."""
    return "–" if isnan(value) else "0" if value == 0 else f"{100 * value:.3g} %"


def count(value: float) -> str:
    """Format a count: ``12,345``; ``∞`` for the size of a reference that is known exactly."""
    return f"{value:,.0f}" if isfinite(value) else "∞" if isinf(value) else "–"


def instant(at_ms: int) -> str:
    """Format an instant: ``2026-01-31 08:15:00``, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def lasting(ms: int) -> str:
    """Format a duration in whole units: ``45 s``, ``12 min``, ``3 h``, ``2 d``."""
    seconds = max(0, ms // 1000)
    size, unit = next(((size, unit) for size, unit in _SECONDS if seconds >= size), _SECONDS[-1])
    return f"{seconds // size} {unit}"


def encoded(name: str) -> str:
    """Encode a name for a path or query; names that are not valid Unicode cannot be requested."""
    return quote(name, safe="", errors="replace")
