"""Content negotiation: Accept and Accept-Encoding with their weights (RFC 9110, section 12)."""

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


def _weighted(header: str) -> list[tuple[str, dict[str, str], float]]:
    """Yield (lower-case value, parameters, weight) for each element of a list header."""
    elements = []
    for element in header.split(","):
        value, *rest = element.split(";")
        parameters = {
            key.strip().lower(): text.strip().strip('"') for key, _, text in (part.partition("=") for part in rest)
        }
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        elements.append((value.strip().lower(), parameters, weight if 0 <= weight <= 1 else 0.0))
    return elements


def wants_openmetrics(accept: str) -> bool:
    """Return whether OpenMetrics is named, in a version that 1.0.0 satisfies, and weighs at least as much as text."""
    openmetrics = text = 0.0
    for value, parameters, weight in _weighted(accept):
        if value == "application/openmetrics-text" and parameters.get("version", "1.0.0") in ("0.0.1", "1.0.0"):
            openmetrics = max(openmetrics, weight)
        elif value == "text/plain":
            text = max(text, weight)
    return openmetrics > 0 and openmetrics >= text


def prefers_html(accept: str) -> bool:
    """Return whether HTML is named and weighs at least as much as JSON: browsers name it, curl does not."""
    weights = {value: weight for value, _, weight in _weighted(accept)}
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= weights.get("application/json", 0.0)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether gzip, by name or by ``*``, has a weight above 0."""
    weights = {value: weight for value, _, weight in _weighted(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0
