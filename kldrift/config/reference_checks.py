"""What concerns several keys of a reference, and a reference beside its feature or monitor; see `checks`."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from kldrift.config.choices import FAMILIES, FEATURE_REFERENCES, MONITOR_REFERENCES, Choice, chosen
from kldrift.config.document import Path, Problem, is_number, mapping, sequence
from kldrift.config.values import DEFAULT_WINDOWS, MIN_WINDOW_MS, SLICES, milliseconds
from kldrift.records.categories import canonical
from kldrift.records.kinds import KINDS, KindTraits
from kldrift.records.texts import duration_text

#: Limits the offset of a `previous` reference: this many slices of counts are kept.
_MAX_OFFSET_SLICES = 100_000

_MONITOR_NAMES = tuple(dict.fromkeys(choice.name for choice in MONITOR_REFERENCES))
_FEATURE_NAMES = (*dict.fromkeys(choice.name for choice in FEATURE_REFERENCES), "family")
_KEYS = {key for choice in (*FEATURE_REFERENCES, *FAMILIES) for key in (*choice.required, *choice.optional)} | {
    "family",
    "fit",
}


def monitor_reference(path: Path, monitor: dict[str, Any]) -> Iterable[Problem]:
    """Check the reference of a monitor."""
    if "reference" in monitor:
        place, reference = (*path, "reference"), mapping(monitor["reference"])
        yield from _reference(place, reference, _MONITOR_NAMES, None)
        yield from _offset(place, reference, monitor)


def feature_reference(path: Path, feature: dict[str, Any], monitor: dict[str, Any]) -> Iterable[Problem]:
    """Check the reference of a feature, its own or its monitor's."""
    kind, place = feature.get("kind"), (*path, "reference")
    traits = _traits(kind)
    if traits is not None and traits.always_against:
        if "reference" in feature:
            expected = f"no reference for a {kind}, which is compared with {traits.always_against}"
            yield Problem(place, expected, "remove the key")
        return
    if "reference" in feature:
        reference = mapping(feature["reference"])
        yield from _reference(place, reference, _FEATURE_NAMES, kind)
        yield from _offset(place, reference, monitor)
        if traits is None or "bins" in traits.optional:
            yield from _bins_beside(path, feature, reference)
    elif "reference" not in monitor:
        remedy = "add reference: {data: FILE} to the monitor or to the feature"
        yield Problem(place, "a reference for the feature or for its monitor", remedy)
    elif traits is not None and "previous" not in traits.references and "previous" in mapping(monitor["reference"]):
        expected = f"a reference of its own, because previous, the monitor's, does not support {kind}s in this version"
        yield Problem(place, expected, f"give the feature one of its own: {_references_for(traits)}")


def _traits(kind: Any) -> KindTraits | None:
    """Return the traits of a kind; None if there is no such kind."""
    return KINDS.get(kind) if isinstance(kind, str) else None  # type: ignore[call-overload]  # any text may be there


def _references_for(traits: KindTraits) -> str:
    """Return the references that a kind supports, in words; the only family with its name."""
    named = [
        f"family: {traits.families[0]}" if name == "family" and len(traits.families) == 1 else name
        for name in traits.references
    ]
    return _listed(named, "or")


def bin_method(bins: dict[str, Any]) -> Any:
    """Return the method that defines the bins."""
    return bins.get("method", "edges" if "edges" in bins else "quantile")


def _listed(words: Iterable[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _reference(path: Path, reference: dict[str, Any], names: tuple[str, ...], kind: Any) -> Iterable[Problem]:
    given = [name for name in names if name in reference]
    traits = _traits(kind)
    # `previous` and `family` allow other names as additional keys
    leading = next((name for name in ("previous", "family") if name in given), given[0] if len(given) == 1 else None)
    if leading is None:
        if given or not reference.keys() - (_KEYS if "family" in names else set()):  # an unknown key has its own error
            remedy = "keep one of them" if given else "add one of them"
            yield Problem(path, f"exactly one of {_listed(names, 'and')}", remedy)
    elif traits is not None and leading not in traits.references:
        version = " in this version" if leading == "previous" else ""
        yield Problem((*path, leading), f"no {leading} for a {kind}{version}", f"use {_references_for(traits)}")
    elif leading == "family":
        yield from _family(path, reference, kind)
    else:
        choices = [choice for choice in FEATURE_REFERENCES if choice.name == leading]
        allowed = {key for choice in choices for key in (*choice.required, *choice.optional)}
        yield from _strangers(path, reference, allowed, leading)
        if leading == "previous" and len(allowed & reference.keys()) > 2:
            beside = _listed(sorted(allowed - {"previous"}), "and")
            yield Problem(path, f"at most one of {beside} with previous, to define its bins", "keep one of them")
        elif leading in ("counts", "probabilities"):
            yield from _inline(path, reference, leading, kind)


def _strangers(path: Path, reference: dict[str, Any], allowed: set[str], neighbour: str) -> Iterable[Problem]:
    for key in sorted(_KEYS & reference.keys() - allowed):
        remedy = "set them as bins: {edges: […]} on the feature" if key == "edges" else "remove the key"
        yield Problem((*path, key), f"no {key} with {neighbour}", remedy)


def _family(path: Path, reference: dict[str, Any], kind: Any) -> Iterable[Problem]:
    family = chosen(FAMILIES, reference["family"])
    if family is None:
        return
    traits = _traits(kind)
    suitable = () if traits is None else traits.families
    if suitable and family.name not in suitable:
        remedy = "use one of these families" if len(suitable) > 1 else "use it"
        yield Problem((*path, "family"), f"{_listed(suitable, 'or')} for a {kind} feature", remedy)
    elif "fit" in reference:
        yield from _strangers(path, reference, {"family", "fit"}, "fit")
    else:
        yield from _strangers(path, reference, {"family", *family.required, *family.optional}, f"family: {family.name}")
        yield from _parameters(path, reference, family)
        if family.name == "categorical" and "probabilities" in reference:
            yield from _inline(path, reference, "probabilities", kind)


def _parameters(path: Path, reference: dict[str, Any], family: Choice) -> Iterable[Problem]:
    missing = [key for key in family.required if key not in reference]
    if len(missing) == len(family.required):
        expected = f"{_listed(missing, 'and')} of the {family.name} family, or fit: FILE"
        yield Problem(path, expected, "add one or the other")
        return
    for key in missing:
        yield Problem((*path, key), f"the {key} of the {family.name} family", "add the key")
    low, high = reference.get("low"), reference.get("high")
    if family.name == "uniform" and is_number(low) and is_number(high):
        if low >= high:
            yield Problem((*path, "high"), "low below high", "swap them" if low > high else "raise it")
        elif isfinite(low) and isfinite(high) and not isfinite(float(high) - float(low)):
            yield Problem((*path, "high"), "low and high with a finite difference", "move them closer together")


def _inline(path: Path, reference: dict[str, Any], key: str, kind: Any) -> Iterable[Problem]:
    cells, edges, traits = reference[key], reference.get("edges"), _traits(kind)
    if traits is None:
        return
    if "bins" not in traits.optional:
        if "edges" in reference:
            yield Problem((*path, "edges"), f"no edges with a {kind} feature", "remove the key")
        if isinstance(cells, list):
            yield Problem((*path, key), f"a mapping of categories to {key}", "write {category: value, …}")
        yield from _spelled_twice((*path, key), mapping(cells))
    else:
        if isinstance(cells, dict):
            yield Problem((*path, key), f"a list of {key}, one per bin", "write [value, …], with edges")
        if "edges" not in reference:
            yield Problem((*path, "edges"), f"the edges that the {key} belong to", "add the key")
        elif isinstance(cells, list) and isinstance(edges, list) and len(edges) >= 2 and len(cells) != len(edges) - 1:
            yield Problem(
                (*path, key),
                f"{len(edges) - 1} {key}, one for each bin between the {len(edges)} edges",
                f"there are {len(cells)}; add or remove some",
            )


def _spelled_twice(path: Path, cells: dict[str, Any]) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for text in cells:
        other = first.setdefault(canonical(text), text)
        if other != text:
            yield Problem((*path, text), "each category once", f"{text} is another spelling of {other}; add them up")


def _offset(path: Path, reference: dict[str, Any], monitor: dict[str, Any]) -> Iterable[Problem]:
    offset = milliseconds(reference.get("previous"))
    windows = sequence(monitor.get("windows", list(DEFAULT_WINDOWS)))
    lengths = [milliseconds(window) or 0 for window in windows]
    # an invalid window has its own error
    shortest = min((length for length in lengths if length >= MIN_WINDOW_MS and length % SLICES == 0), default=None)
    if offset is None or shortest is None or offset * SLICES <= _MAX_OFFSET_SLICES * shortest:
        return
    longest = duration_text(_MAX_OFFSET_SLICES * shortest // SLICES)
    yield Problem(
        (*path, "previous"),
        f"an offset of at most {_MAX_OFFSET_SLICES} twelfths of the shortest window, whose counts are kept in memory",
        f"use at most {longest}, or no window as short as {duration_text(shortest)}",
    )


def _bins_beside(path: Path, feature: dict[str, Any], reference: dict[str, Any]) -> Iterable[Problem]:
    """Check bins of a feature whose reference has its own edges, or has no values to define bins by."""
    bins = feature.get("bins")
    if not isinstance(bins, dict):
        return
    place, method, family = (*path, "bins"), bin_method(bins), chosen(FAMILIES, reference.get("family"))
    if "edges" in reference:
        remedy = "remove the key; the edges of the reference define the bins"
        yield Problem(place, "no bins with a reference that has its own edges", remedy)
    elif family is None:
        return
    elif method == "quantile" and "range" in bins:
        remedy = "remove the key; the quantiles of a family need no range"
        yield Problem((*place, "range"), "no range for the quantile bins of a family", remedy)
    elif method in ("uniform", "logarithmic") and "range" not in bins:
        expected = f"a range for the {method} bins of a family, which has no smallest or largest value"
        yield Problem((*place, "range"), expected, "add range: [low, high]")
    elif method == "discrete" and family.name not in ("poisson", "bernoulli"):
        expected = f"no discrete bins for the {family.name} family, whose values are not whole numbers"
        yield Problem((*place, "method"), expected, "use quantile, uniform or logarithmic bins, or edges")
