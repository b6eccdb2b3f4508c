"""A configuration file as a tree with line numbers and original text, and the problems found in it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeGuard

Path = tuple[str | int, ...]

#: Maximum length of a value in a message, in characters.
SHOWN = 80

_BARE = re.compile(r"[^\s.:\"'\[\]{},]+")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file.

    Parameters
    ----------
    line : line of its key in a mapping, else its own; counted from 1
    value : plain data with ``${NAME}`` expanded; may be secret and is never shown
    text : a scalar as written, unexpanded, for messages
    children : nodes of a mapping (by key) or a list (by index), else None
    """

    line: int
    value: Any
    text: str = ""
    children: dict[str | int, "Node"] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `line` and `got` are looked up at `path` if they are None."""

    path: Path
    expected: str
    remedy: str
    got: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Document:
    """A tree, the file name for messages, and the problems found so far."""

    name: str
    root: Node
    problems: list[tuple[int, Problem]] = field(default_factory=list)
    _seen: set[tuple[int, Path]] = field(default_factory=set)

    def add(self, problem: Problem) -> None:
        """Add a problem, unless one is already known at the same place."""
        line = self.line(problem.path) if problem.line is None else problem.line
        if (line, problem.path) not in self._seen:
            self._seen.add((line, problem.path))
            self.problems.append((line, problem))

    def line(self, path: Path) -> int:
        """Return the line of the node at `path`, or of its nearest ancestor."""
        return self._nearest(path)[0].line

    def got(self, path: Path) -> str:
        """Return the value at `path` as written."""
        node, found = self._nearest(path)
        return show(node) if found else "nothing"

    def messages(self) -> list[str]:
        """Return all problems, one line each, in file order."""
        return [
            f"{self.place(problem.path, line)}: expected {problem.expected}, "
            f"got {self.got(problem.path) if problem.got is None else problem.got}; {problem.remedy}"
            for line, problem in sorted(self.problems, key=lambda pair: pair[0])
        ]

    def place(self, path: Path, line: int | None = None) -> str:
        """Return where `path` is: ``kldrift.yaml:14: monitors.loans``."""
        place = f"{self.name}:{self.line(path) if line is None else line}"
        return f"{place}: {dotted(path)}" if path else place

    def _nearest(self, path: Path) -> tuple[Node, bool]:
        node = self.root
        for step in path:
            child = (node.children or {}).get(step)
            if child is None:
                return node, False
            node = child
        return node, True


def dotted(path: Path) -> str:
    """Write a path as ``monitors.loans.windows[2]``, quoting ambiguous keys."""
    parts = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
            continue
        bare = len(step) <= SHOWN and step.isprintable() and _BARE.fullmatch(step)
        parts.append(f".{step if bare else quoted(step)}")
    return "".join(parts).removeprefix(".")


def _word(text: str) -> str:
    return text if len(text) <= SHOWN and text.isprintable() else quoted(text)


def quoted(text: str) -> str:
    """Quote text for a message: on one line, printable, and shortened."""
    shown = json.dumps(shortened(text), ensure_ascii=False)
    return shown if shown.isprintable() else json.dumps(shortened(text))


def shortened(text: str) -> str:
    """Shorten text to the length that a message shows."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def show(node: Node) -> str:
    """Return a value on one line, unexpanded, shortened to about 80 characters."""
    shown = ""
    for piece in _pieces(node):
        shown += piece
        if len(shown) > SHOWN:
            break
    return shortened(shown)


def _pieces(node: Node) -> Iterator[str]:
    if node.children is None:
        yield (node.text if node.text.isprintable() else quoted(node.text)) or "nothing"
        return
    keyed = isinstance(node.value, dict)
    yield "{" if keyed else "["
    for i, (key, child) in enumerate(node.children.items()):
        yield ", " if i else ""
        if keyed:
            yield f"{_word(str(key))}: "
        yield from _pieces(child)
    yield "}" if keyed else "]"


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number (true and false are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def nearest(word: str, known: list[str]) -> str | None:
    """Return the known word that `word` was probably meant to be."""
    found = get_close_matches(word[:SHOWN], known, n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, known: list[str], plural: str) -> str:
    """Suggest what to write instead of an unknown word."""
    near = nearest(word, known)
    if near is not None:
        return f"did you mean {_word(near)}?"
    if not known:
        return f"there are no {plural}"
    listed = [_word(name) for name in known[:20]] + ["…"] * (len(known) > 20)
    return f"the {plural} are {', '.join(listed)}"
