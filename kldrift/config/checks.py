"""What concerns several keys at once.

The checks look at the plain data of the file, not at validated models: they run whatever else is wrong, so that all
problems come in one run. A value of the wrong type is passed over here; its own key has an error already.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from math import gcd
from typing import Any

from kldrift.config.choices import BIN_METHODS, DISTRIBUTIONS, REFERENCES, Choice
from kldrift.config.document import Document, Path, Problem, dotted, suggestion
from kldrift.config.values import SLICES, is_loopback, listen_address, milliseconds
from kldrift.records import Format

_MIN_PANE_MS = 50
#: The label of pushed samples, among those of the sources.
_PUSH = "http"
_TOLERANCES = {"warning": 0.01, "critical": 0.1}

#: Suffixes that tell the format of a file, without .gz and .zst.
FORMATS: Mapping[str, Format] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet"}


def check(document: Document) -> None:
    """Add the problems between keys to the document."""
    root = _mapping(document.root.value)
    sources, monitors = _mapping(root.get("sources")), _mapping(root.get("monitors"))
    for problem in _server(_mapping(root.get("server"))):
        document.add(problem)
    for name, source in sources.items():
        for problem in _source(("sources", name), _mapping(source)):
            document.add(problem)
    for name, monitor in monitors.items():
        for problem in _monitor(("monitors", name), _mapping(monitor), list(sources)):
            document.add(problem)


def warnings(document: Document) -> tuple[str, ...]:
    """Give what is worth a line in the log: sources that nobody reads."""
    root = _mapping(document.root.value)
    used = {name for monitor in _mapping(root.get("monitors")).values() for name in _list(monitor.get("sources"))}
    return tuple(
        f"{document.place(('sources', name))}: no monitor uses this source; "
        "name it in the sources of a monitor, or remove it"
        for name in _mapping(root.get("sources"))
        if name not in used
    )


def format_of(path: str) -> Format | None:
    """Tell the format of a file by its suffix."""
    bare = path.removesuffix(".gz").removesuffix(".zst")
    return next((name for suffix, name in FORMATS.items() if bare.endswith(suffix)), None)


def merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """A synthetic feature's distribution after the drift: another one, or its own with some parameters changed."""
    if override.get("distribution", base.get("distribution")) == base.get("distribution"):
        return {**base, **override}
    return {"missing": base.get("missing"), **override}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _server(server: dict[str, Any]) -> Iterable[Problem]:
    address = listen_address(server.get("listen", "127.0.0.1:9867"))
    if address is not None and not is_loopback(address[0]) and server.get("insecure") is not True:
        yield Problem(
            ("server", "listen"),
            "a loopback address such as 127.0.0.1:9867, because there is no authentication in this version",
            "listen on 127.0.0.1, or say insecure: true if something else guards the port",
        )


def _source(path: Path, source: dict[str, Any]) -> Iterable[Problem]:
    if path[-1] == _PUSH:
        yield Problem(path, f"a name other than {_PUSH}, which stands for what is pushed", "rename it", _PUSH)
    file_path = source.get("path")
    unknown = isinstance(file_path, str) and format_of(file_path) is None
    if source.get("type") == "file" and "format" not in source and unknown:
        expected = "ndjson, csv or parquet where the suffix of the path does not tell"
        yield Problem((*path, "format"), expected, "add the key")
    if source.get("type") == "synthetic":
        features = _mapping(source.get("features"))
        drift = _mapping(_mapping(source.get("drift")).get("features"))
        if source.get("rate") in (0, 0.0) and "drift" in source:
            yield Problem((*path, "rate"), "a rate above 0 beside a drift, which comes after a time", "raise it")
        for name, drawn in features.items():
            yield from _distribution((*path, "features", name), _mapping(drawn))
        for name, override in drift.items():
            place = (*path, "drift", "features", name)
            if name not in features:
                remedy = suggestion(name, list(features), "features of the source")
                yield Problem(place, "a feature of this source", remedy, dotted((name,)))
            elif isinstance(features[name], dict) and isinstance(override, dict):
                yield from _distribution(place, merged(features[name], override), override)


def _distribution(path: Path, drawn: dict[str, Any], written: dict[str, Any] | None = None) -> Iterable[Problem]:
    choice = _chosen(DISTRIBUTIONS, drawn.get("distribution"))
    if choice is None:
        return
    written = drawn if written is None else written
    known = {key for other in DISTRIBUTIONS for key in other.required}
    yield from _fits(path, {key for key in written if key in known}, choice, f"the {choice.name} distribution")
    for key in choice.required:
        # what a changed distribution takes over from before the drift has its error there
        if key not in drawn and "distribution" in written:
            yield Problem((*path, key), f"the {key} of the {choice.name} distribution", "add the key")
    low, high = drawn.get("low"), drawn.get("high")
    if choice.name == "uniform" and isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
        place = (*path, "high") if "high" in written else (*path, "low")
        yield Problem(place, "low below high", "exchange them")


def _fits(path: Path, keys: Iterable[str], choice: Choice, subject: str) -> Iterable[Problem]:
    for key in sorted(keys):
        if key not in choice.required and key not in choice.optional:
            yield Problem((*path, key), f"no {key} with {subject}", "remove the key")


def _chosen(choices: tuple[Choice, ...], name: Any) -> Choice | None:
    return next((choice for choice in choices if choice.name == name), None)


def _monitor(path: Path, monitor: dict[str, Any], sources: list[str]) -> Iterable[Problem]:
    for i, name in enumerate(_list(monitor.get("sources"))):
        if isinstance(name, str) and name not in sources:
            remedy = suggestion(name, sources, "sources") if sources else "add it to the sources, or remove it here"
            yield Problem((*path, "sources", i), "the name of a source", remedy)
    yield from _distinct((*path, "sources"), _list(monitor.get("sources")))
    yield from _distinct((*path, "divergences"), _list(monitor.get("divergences")))
    yield from _windows((*path, "windows"), _list(monitor.get("windows")))
    reference = _mapping(monitor.get("reference"))
    if "reference" in monitor:
        yield from _reference((*path, "reference"), reference, REFERENCES[:2])
    drift = _mapping(monitor.get("drift"))
    yield from _tolerances((*path, "drift"), drift, _TOLERANCES)
    for name, feature in _mapping(monitor.get("features")).items():
        place = (*path, "features", name)
        yield from _feature(place, _mapping(feature))
        if isinstance(feature, dict):
            if "reference" not in monitor and "reference" not in feature:
                yield Problem(
                    (*place, "reference"),
                    "a reference, of the feature or of its monitor",
                    "add reference: {data: FILE} to the monitor or to the feature",
                )
            yield from _tolerances((*place, "drift"), _mapping(feature.get("drift")), {**_TOLERANCES, **drift})


def _distinct(path: Path, values: list[Any]) -> Iterable[Problem]:
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if isinstance(value, str | int) and first.setdefault(value, i) != i:
            yield Problem((*path, i), "each of them once", f"it is the same as [{first[value]}]; remove one of them")


def _windows(path: Path, windows: list[Any]) -> Iterable[Problem]:
    lengths = [milliseconds(window) for window in windows]
    yield from _distinct(path, lengths)
    slices = [length // SLICES for length in lengths if length and length % SLICES == 0]
    if len(slices) == len(windows) > 0 and (pane := reduce(gcd, slices)) < _MIN_PANE_MS:
        yield Problem(
            path,
            f"windows whose twelfths have a common divisor of at least {_MIN_PANE_MS}ms",
            f"theirs is {pane}ms; take multiples of one another, such as [5m, 1h]",
        )


def _tolerances(path: Path, given: dict[str, Any], defaults: Mapping[str, Any]) -> Iterable[Problem]:
    both = {**defaults, **given}
    warning, critical = both["warning"], both["critical"]
    if not given or not _number(warning) or not _number(critical) or warning <= 0 or critical <= 0:
        return
    if warning >= critical:
        key = "warning" if "warning" in given else "critical"
        other = "critical" if key == "warning" else "warning"
        order = "below" if key == "warning" else "above"
        value = f" ({both[other]:g}, not given here)" if other not in given else ""
        yield Problem((*path, key), f"{key} {order} {other}{value}", f"{'lower' if key == 'warning' else 'raise'} it")


def _feature(path: Path, feature: dict[str, Any]) -> Iterable[Problem]:
    kind = feature.get("kind")
    bins, reference = feature.get("bins"), _mapping(feature.get("reference"))
    if kind == "categorical" and "bins" in feature:
        yield Problem((*path, "bins"), "no bins with a categorical feature", "remove the key")
    elif isinstance(bins, dict):
        yield from _bins((*path, "bins"), bins)
        if "edges" in reference:
            remedy = "remove the key; the edges of the reference are the bins"
            yield Problem((*path, "bins"), "no bins beside a reference with edges of its own", remedy)
    if kind == "numeric" and "max_categories" in feature:
        yield Problem((*path, "max_categories"), "no max_categories with a numeric feature", "remove the key")
    if "reference" in feature:
        yield from _reference((*path, "reference"), reference, REFERENCES, kind)


def _bins(path: Path, bins: dict[str, Any]) -> Iterable[Problem]:
    method = bins.get("method", "edges" if "edges" in bins else "quantile")
    choice = _chosen(BIN_METHODS, method)
    if choice is None:
        return
    known = {key for other in BIN_METHODS for key in (*other.required, *other.optional)}
    yield from _fits(path, known & bins.keys(), choice, f"{method} bins" if method != "edges" else "edges")
    limits = _list(bins.get("range"))
    if method == "logarithmic" and limits and _number(limits[0]) and limits[0] <= 0:
        yield Problem((*path, "range"), "a range above 0 for logarithmic bins", "raise its lower end")


def _reference(
    path: Path, reference: dict[str, Any], choices: tuple[Choice, ...], kind: Any = None
) -> Iterable[Problem]:
    names = [choice.name for choice in choices]
    given = [name for name in names if name in reference]
    if not given and reference.keys() - ({"edges"} if choices is REFERENCES else set()):
        return  # the unknown key has its own error
    if len(given) != 1:
        remedy = "keep one of them" if given else "add one of them"
        yield Problem(path, f"exactly one of {', '.join(names[:-1])} and {names[-1]}", remedy)
    elif given[0] in ("counts", "probabilities"):
        yield from _inline(path, reference, given[0], kind)
    elif "edges" in reference and choices is REFERENCES:
        yield Problem((*path, "edges"), f"no edges beside {given[0]}", "give them as bins: {edges: […]} of the feature")


def _inline(path: Path, reference: dict[str, Any], key: str, kind: Any) -> Iterable[Problem]:
    cells, edges = reference[key], reference.get("edges")
    if kind == "categorical":
        if "edges" in reference:
            yield Problem((*path, "edges"), "no edges with a categorical feature", "remove the key")
        if isinstance(cells, list):
            yield Problem((*path, key), f"a mapping of categories to {key}", "write {category: value, …}")
    elif kind == "numeric":
        if isinstance(cells, dict):
            yield Problem((*path, key), f"a list of {key}, one a bin", "write [value, …], with edges")
        if "edges" not in reference:
            yield Problem((*path, "edges"), f"the edges that the {key} belong to", "add the key")
        elif isinstance(cells, list) and isinstance(edges, list) and len(edges) >= 2 and len(cells) != len(edges) - 1:
            yield Problem(
                (*path, key),
                f"{len(edges) - 1} {key}, one for each bin between the {len(edges)} edges",
                f"there are {len(cells)}; add or remove some",
            )
