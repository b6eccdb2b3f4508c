"""Translate pydantic's errors into kldrift's wording."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from kldrift.config.document import Problem, quoted

_Context = Mapping[str, Any]


def _entries(number: int) -> str:
    return "one entry" if number == 1 else f"{number} entries"


#: pydantic's error type → what was expected and what to do.
_WORDS: dict[str, Callable[[_Context], tuple[str, str]]] = {
    "string_type": lambda _: ("text", "put it in quotes if it is text"),
    "int_type": lambda _: ("a whole number", "write digits only, without quotes"),
    "float_type": lambda _: ("a number", "write a decimal number such as 0.5, without quotes"),
    "finite_number": lambda _: ("a finite number", "write a finite one"),
    "bool_type": lambda _: ("true or false", "write one of them, in lower case and without quotes"),
    "list_type": lambda _: ("a list", "write it as [a, b]"),
    "dict_type": lambda _: ("a mapping", "write key: value pairs"),
    "greater_than": lambda c: (f"a number above {c['gt']:.15g}", "raise it"),
    "greater_than_equal": lambda c: (f"a number of at least {c['ge']:.15g}", "raise it"),
    "less_than": lambda c: (f"a number below {c['lt']:.15g}", "lower it"),
    "less_than_equal": lambda c: (f"a number of at most {c['le']:.15g}", "lower it"),
    "too_short": lambda c: (f"at least {_entries(c['min_length'])}", "add one"),
    "too_long": lambda c: (f"at most {_entries(c['max_length'])}", "remove some"),
}


def problems_of(error: ValidationError) -> list[Problem]:
    """Return every problem of a failed validation."""
    return [_problem(dict(details)) for details in error.errors(include_url=False)]


def _problem(details: dict[str, Any]) -> Problem:
    path, kind, context = details["loc"], details["type"], details.get("ctx", {})
    if kind.startswith("kldrift"):
        expected, remedy = context["expected"], context["remedy"]
    else:
        expected, remedy = _WORDS[kind](context)
    got = None
    if kind == "kldrift_name":  # the problem is the key itself, which pydantic marks with an extra step
        path = path[:-1]
        got = quoted(str(path[-1]))
    elif kind == "kldrift_key":
        got = quoted(str(path[-1]))
    return Problem(path, expected, remedy, got)
