"""Rules that involve several keys.

The checks look at the plain data of the file rather than at validated models, so they run whatever else is wrong and
all problems appear in one run. They skip values of the wrong type, which are reported already.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from math import gcd
from typing import Any

from kldrift.config.choices import BESIDE_ANOTHER, BIN_METHODS, DISTRIBUTIONS, KINDS, PROTOCOLS, chosen, misfits
from kldrift.config.document import Document, Path, Problem, dotted, is_number, mapping, sequence, suggestion
from kldrift.config.reference_checks import bin_method, feature_reference, monitor_reference
from kldrift.config.values import DEFAULT_LISTEN, SLICES, listen_address, milliseconds
from kldrift.records.addresses import is_loopback
from kldrift.records.formats import format_of, formats_from
from kldrift.records.sources import PUSH
from kldrift.records.specs import CRITICAL, WARNING
from kldrift.records.texts import either

_MIN_PANE_MS = 50
_TOLERANCES = {"warning": WARNING, "critical": CRITICAL}
_MAX_FULL_DIMENSIONS = 512


def check(document: Document) -> None:
    """Add the problems that involve several keys to the document."""
    root = mapping(document.root.value)
    sources, monitors = mapping(root.get("sources")), mapping(root.get("monitors"))
    for problem in _server(mapping(root.get("server"))):
        document.add(problem)
    for name, source in sources.items():
        for problem in _source(("sources", name), mapping(source)):
            document.add(problem)
    for name, monitor in monitors.items():
        for problem in _monitor(("monitors", name), mapping(monitor), list(sources)):
            document.add(problem)


def warnings(document: Document) -> tuple[str, ...]:
    """Return warnings for the log: sources that no monitor reads, secrets that cross the network unencrypted."""
    root = mapping(document.root.value)
    server = mapping(root.get("server"))
    clear = _is_open(server) and "auth" in server and "tls" not in server
    used = {name for monitor in mapping(root.get("monitors")).values() for name in sequence(monitor.get("sources"))}
    exposed = (
        f"{document.place(('server', 'auth'))}: passwords and tokens cross the network unencrypted; "
        "add tls, or let only a proxy that terminates TLS reach the port"
    )
    unused = tuple(
        f"{document.place(('sources', name))}: no monitor uses this source; "
        "list it in the sources of a monitor, or remove it"
        for name in mapping(root.get("sources"))
        if name not in used
    )
    return (exposed, *unused) if clear else unused


def merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return a synthetic feature's distribution after the drift: a new one, or the old one with changed parameters."""
    if override.get("distribution", base.get("distribution")) == base.get("distribution"):
        return {**base, **override}
    return {"missing": base.get("missing"), **override}


def _server(server: dict[str, Any]) -> Iterable[Problem]:
    if server.get("auth") == {}:
        yield Problem(("server", "auth"), "tokens_file, users_file or both", "name a file, or remove the key")
    guarded = "auth" in server or "client_ca" in mapping(server.get("tls"))
    if _is_open(server) and not guarded and server.get("insecure") is not True:
        yield Problem(
            ("server", "listen"),
            "a loopback address such as 127.0.0.1:9867, because neither auth nor tls.client_ca is set",
            "listen on 127.0.0.1, set one of them, or set insecure: true if something else protects the port",
        )


def _is_open(server: dict[str, Any]) -> bool:
    """Whether other machines can reach the server."""
    address = listen_address(server.get("listen", str(DEFAULT_LISTEN)))
    return address is not None and not is_loopback(address[0])


def _source(path: Path, source: dict[str, Any]) -> Iterable[Problem]:
    if path[-1] == PUSH:
        yield Problem(path, f"a name other than {PUSH}, which is reserved for pushed samples", "rename it", PUSH)
    file_path = source.get("path")
    unknown = isinstance(file_path, str) and format_of(file_path) is None
    if source.get("type") == "file" and "format" not in source and unknown:
        expected = f"{either(formats_from('file'))}, because the name of the file does not say which"
        yield Problem((*path, "format"), expected, "add the key")
    if source.get("type") == "kafka":
        yield from _distinct((*path, "brokers"), sequence(source.get("brokers")))
        yield from _security((*path, "security"), mapping(source.get("security")))
    if source.get("type") == "synthetic":
        features = mapping(source.get("features"))
        drift = mapping(mapping(source.get("drift")).get("features"))
        if source.get("rate") in (0, 0.0) and "drift" in source:
            yield Problem((*path, "rate"), "a rate above 0 with a drift, which starts after a certain time", "raise it")
        for name, drawn in features.items():
            yield from _distribution((*path, "features", name), mapping(drawn))
        for name, override in drift.items():
            place = (*path, "drift", "features", name)
            if name not in features:
                remedy = suggestion(name, list(features), "features of the source")
                yield Problem(place, "a feature of this source", remedy, dotted((name,)))
            elif isinstance(features[name], dict) and isinstance(override, dict):
                yield from _distribution(place, merged(features[name], override), override)


def _security(path: Path, security: dict[str, Any]) -> Iterable[Problem]:
    choice = chosen(PROTOCOLS, security.get("protocol"))
    if choice is None:
        return
    known = {key for other in PROTOCOLS for key in (*other.required, *other.optional)}
    yield from misfits(path, known & security.keys(), choice, f"the protocol {choice.name}")
    for key in choice.required:
        if key not in security:
            yield Problem((*path, key), f"the {key} of the protocol {choice.name}", "add the key")
    for key, beside in BESIDE_ANOTHER.items():
        if key in security and key in choice.optional and beside not in security:
            yield Problem((*path, beside), f"a value, because {key} is set", "add the key")


def _distribution(path: Path, drawn: dict[str, Any], written: dict[str, Any] | None = None) -> Iterable[Problem]:
    choice = chosen(DISTRIBUTIONS, drawn.get("distribution"))
    if choice is None:
        return
    written = drawn if written is None else written
    known = {key for other in DISTRIBUTIONS for key in other.required}
    yield from misfits(path, {key for key in written if key in known}, choice, f"the {choice.name} distribution")
    for key in choice.required:
        # parameters inherited from before the drift are reported there
        if key not in drawn and "distribution" in written:
            yield Problem((*path, key), f"the {key} of the {choice.name} distribution", "add the key")
    low, high = drawn.get("low"), drawn.get("high")
    if choice.name == "uniform" and isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
        place = (*path, "high") if "high" in written else (*path, "low")
        yield Problem(place, "low below high", "swap them")


def _monitor(path: Path, monitor: dict[str, Any], sources: list[str]) -> Iterable[Problem]:
    for i, name in enumerate(sequence(monitor.get("sources"))):
        if isinstance(name, str) and name not in sources:
            remedy = suggestion(name, sources, "sources") if sources else "add it to the sources, or remove it here"
            yield Problem((*path, "sources", i), "the name of a source", remedy)
    yield from _distinct((*path, "sources"), sequence(monitor.get("sources")))
    yield from _distinct((*path, "divergences"), sequence(monitor.get("divergences")))
    yield from _windows((*path, "windows"), sequence(monitor.get("windows")))
    yield from monitor_reference(path, monitor)
    drift = mapping(monitor.get("drift"))
    yield from _tolerances((*path, "drift"), drift, _TOLERANCES)
    for name, feature in mapping(monitor.get("features")).items():
        place = (*path, "features", name)
        if isinstance(feature, dict):
            yield from _feature(place, feature)
            if feature.get("of") == "age" and "timestamp" not in monitor:
                remedy = "add the timestamp of the monitor: it counts from there"
                yield Problem((*place, "of"), "age only where rows have a time", remedy)
            yield from feature_reference(place, feature, monitor)
            yield from _tolerances((*place, "drift"), mapping(feature.get("drift")), {**_TOLERANCES, **drift})


def _distinct(path: Path, values: list[Any]) -> Iterable[Problem]:
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if isinstance(value, str | int) and first.setdefault(value, i) != i:
            yield Problem((*path, i), "no duplicates", f"it is the same as [{first[value]}]; remove one of them")


def _windows(path: Path, windows: list[Any]) -> Iterable[Problem]:
    lengths = [milliseconds(window) for window in windows]
    yield from _distinct(path, lengths)
    slices = [length // SLICES for length in lengths if length and length % SLICES == 0]
    if len(slices) == len(windows) > 0 and (pane := reduce(gcd, slices)) < _MIN_PANE_MS:
        yield Problem(
            path,
            f"windows whose twelfths have a common divisor of at least {_MIN_PANE_MS}ms",
            f"theirs is {pane}ms; use multiples of one another, such as [5m, 1h]",
        )


def _tolerances(path: Path, given: dict[str, Any], defaults: Mapping[str, Any]) -> Iterable[Problem]:
    both = {**defaults, **given}
    warning, critical = both["warning"], both["critical"]
    if not is_number(warning) or not is_number(critical) or warning <= 0 or critical <= 0:
        return
    if warning >= critical and given.keys() & _TOLERANCES.keys():
        key = "warning" if "warning" in given else "critical"
        other = "critical" if key == "warning" else "warning"
        order = "below" if key == "warning" else "above"
        value = f" ({both[other]:g}, not set here)" if other not in given else ""
        yield Problem((*path, key), f"{key} {order} {other}{value}", f"{'lower' if key == 'warning' else 'raise'} it")


def _feature(path: Path, feature: dict[str, Any]) -> Iterable[Problem]:
    kind = chosen(KINDS, feature.get("kind"))
    if kind is not None:
        known = {key for other in KINDS for key in (*other.required, *other.optional)} - {"reference"}
        yield from misfits(path, known & feature.keys(), kind, f"a {kind.name} feature")
        for key in kind.required:
            if key not in feature:
                yield Problem((*path, key), f"the {key} of a {kind.name} feature", "add the key")
    if (kind is None or "bins" in kind.optional) and isinstance(feature.get("bins"), dict):
        yield from _bins((*path, "bins"), feature["bins"])
    if "unit" in feature and feature.get("of") not in ("hour", "weekday", "age"):
        yield Problem((*path, "unit"), "a unit only with of: hour, weekday or age", "remove the key")
    if kind is not None and "covariance" in kind.optional and feature.get("covariance") == "full":
        yield from _full_covariance(path, feature)


def _full_covariance(path: Path, feature: dict[str, Any]) -> Iterable[Problem]:
    dimensions = feature.get("dimensions")
    if is_number(dimensions) and dimensions > _MAX_FULL_DIMENSIONS:
        expected = f"at most {_MAX_FULL_DIMENSIONS} dimensions with full covariance, which grows with their square"
        yield Problem((*path, "dimensions"), expected, "use covariance: diagonal")
    if feature.get("per_dimension") is True:
        remedy = "remove the key, or use covariance: diagonal"
        yield Problem((*path, "per_dimension"), "no per_dimension with full covariance", remedy)


def _bins(path: Path, bins: dict[str, Any]) -> Iterable[Problem]:
    method = bin_method(bins)
    choice = chosen(BIN_METHODS, method)
    if choice is None:
        return
    known = {key for other in BIN_METHODS for key in (*other.required, *other.optional)}
    yield from misfits(path, known & bins.keys(), choice, f"{method} bins" if method != "edges" else "edges")
    limits = sequence(bins.get("range"))
    if method == "logarithmic" and limits and is_number(limits[0]) and limits[0] <= 0:
        yield Problem((*path, "range"), "a range above 0 for logarithmic bins", "raise its lower end")
