"""Read the configuration file; the only module that knows YAML.

It accepts a strict subset: one document; no aliases, anchors, tags, merge keys or duplicate keys. Plain scalars are
what they look like: only ``true`` and ``false`` are booleans; ``null``, ``~`` and nothing are null; decimal numbers are
numbers; everything else (``no``, ``012``, ``1:30``, a date) is text.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kldrift.config.build import build_config
from kldrift.config.checks import check
from kldrift.config.document import Document, Node, Problem, quoted, shortened
from kldrift.config.document import Path as NodePath
from kldrift.config.messages import problems_of
from kldrift.config.records import Config
from kldrift.config.schema import ConfigModel
from kldrift.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 100

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.inf")
_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNFIT = re.compile("[\0\ud800-\udfff]")


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        with every problem in the file, in line order
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            [f"{path}: expected a readable file, got {quoted(reason)}; check the path and its permissions"]
        ) from error
    _refuse_size(len(content), path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [f"{path}:{line}: expected UTF-8, got the byte 0x{content[error.start]:02x}; save the file as UTF-8"]
        ) from error
    return parse_config(text, path, environment)


def parse_config(text: str, path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Check the text of a configuration file.

    Parameters
    ----------
    text : YAML
    path : its origin, for messages; relative paths in it start at the folder of this file
    environment : values of ``${NAME}``; the process environment if None

    Raises
    ------
    ConfigError
        with every problem, in line order
    """
    _refuse_size(len(text.encode("utf-8", "surrogatepass")), path)
    document = read_document(text, path, os.environ if environment is None else environment)
    model = None
    try:
        model = ConfigModel.model_validate(document.root.value)
    except ValidationError as error:
        for problem in problems_of(error):
            document.add(problem)
    check(document)
    if document.problems or model is None:
        raise ConfigError(document.messages())
    return build_config(model, document, path)


def read_document(text: str, path: Path, environment: Mapping[str, str]) -> Document:
    """Read YAML into a tree with line numbers, collecting mistakes that do not keep the rest from being read.

    Raises
    ------
    ConfigError
        the text cannot be read to the end
    """
    return _Reader(path, environment).read(text)


def _refuse_size(n_bytes: int, path: Path) -> None:
    if n_bytes > MAX_BYTES:
        raise ConfigError(
            [f"{path}: expected at most 1 MiB, got more than {MAX_BYTES} bytes; split it across several daemons"]
        )


class _Fatal(Exception):
    """Nothing beyond this point can be read."""


class _Reader:
    """Turns the parser's events into a `Document`, noting and skipping mistakes where it can."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._problems: list[Problem] = []
        self._depth = 0

    def read(self, text: str) -> Document:
        root = Node(1, None)
        try:
            root = self._document(yaml.parse(text.removeprefix("\ufeff"), Loader=yaml.SafeLoader))
        except _Fatal:
            raise self._failed() from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            column = "" if mark is None else f" at column {mark.column + 1}"
            self._syntax(1 if mark is None else mark.line + 1, quoted(str(error.problem)) + column)
            raise self._failed() from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            got = f"the control character U+{int(error.character):04X}"
            self._problems.append(Problem((), "valid YAML", "remove it", got, line))
            raise self._failed() from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # the scanner converts escapes and version numbers without checking their size
            self._syntax(1, quoted(str(error)))
            raise self._failed() from error
        return self._noted(root)

    def _failed(self) -> ConfigError:
        return ConfigError(self._noted(Node(1, None)).messages())

    def _noted(self, root: Node) -> Document:
        document = Document(str(self._path), root)
        for problem in self._problems:
            document.add(problem)
        return document

    def _syntax(self, line: int, got: str) -> None:
        remedy = "check the indentation, colons, brackets and quotes there"
        self._problems.append(Problem((), "valid YAML", remedy, got, line))

    def _document(self, events: Iterator[Any]) -> Node:
        next(events)  # start of the stream
        event = next(events)
        if isinstance(event, yaml.StreamEndEvent):
            return Node(1, None)
        root = self._node(next(events), events, ())
        next(events)  # end of the document
        event = next(events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._note((), event, "a single document", "a second one", "remove it and the --- before it")
        return root

    def _note(self, path: NodePath, event: Any, expected: str, got: str, remedy: str, line: int | None = None) -> None:
        line = event.start_mark.line + 1 if line is None else line
        self._problems.append(Problem(path, expected, remedy, got, line))

    def _node(self, event: Any, events: Iterator[Any], path: NodePath, line: int | None = None) -> Node:
        line = event.start_mark.line + 1 if line is None else line
        if isinstance(event, yaml.AliasEvent):
            self._note(path, event, "a value", f"the alias *{event.anchor}", "write the value out", line)
            return Node(line, None, f"*{event.anchor}")
        if event.anchor is not None:
            self._note(path, event, "no anchor", f"&{event.anchor}", "remove it; aliases are not supported")
        if event.tag is not None:
            self._note(path, event, "no tag", quoted(event.tag), "remove it; quotes make a value text")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path, line)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            got = "a deeper one"
            self._problems.append(Problem((), f"at most {MAX_DEPTH} levels of nesting", "flatten it", got, line))
            raise _Fatal
        children: dict[str | int, Node] = {}
        if isinstance(event, yaml.SequenceStartEvent):
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                children[len(children)] = self._node(event, events, (*path, len(children)))
            self._depth -= 1
            return Node(line, [child.value for child in children.values()], "", children)
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            self._entry(event, events, path, children)
        self._depth -= 1
        return Node(line, {key: child.value for key, child in children.items()}, "", children)

    def _entry(self, event: Any, events: Iterator[Any], path: NodePath, children: dict[str | int, Node]) -> None:
        first_line = event.start_mark.line + 1
        key = self._key(event, events, path)
        if key is None:
            self._node(next(events), events, path)
            return
        child = self._node(next(events), events, (*path, key), first_line)
        if key in children:
            first = children[key].line
            self._note(
                (*path, key), event, "each key once", f"a duplicate (first on line {first})", "remove one of them"
            )
        else:
            children[key] = child

    def _key(self, event: Any, events: Iterator[Any], path: NodePath) -> str | None:
        """Return the text of a key, or None if it is not a valid key."""
        if not isinstance(event, yaml.ScalarEvent):
            self._note(path, event, "keys that are text", "another kind of key", "write the key as text")
            if not isinstance(event, yaml.AliasEvent):
                self._node(event, events, path)
            return None
        key = str(event.value)
        if event.anchor is not None or event.tag is not None:
            self._note((*path, key), event, "a key without an anchor or a tag", "one", "remove it")
        if event.style is None and key == "<<":
            self._note(path, event, "no merge key", "<<", "write the keys out")
            return None
        if not key or _UNFIT.search(key):
            self._note(path, event, "keys that are text", quoted(key), "give the key a printable name")
            return None
        return key

    def _scalar(self, event: Any, path: NodePath, line: int) -> Node:
        text = str(event.value)
        if event.style is None and event.tag is None:
            value = resolve_plain(text)
            if value is None:
                self._note(path, event, "a value", text or "nothing", "give one, or remove the key", line)
            if isinstance(value, int | float) and not isinstance(value, bool) and not _fits(value, text):
                self._note(path, event, "a number within 64 bits", shortened(text), "write a smaller number")
                value = None
        else:
            value = text
        if isinstance(value, str):
            if _UNFIT.search(value):
                self._note(path, event, "valid text", quoted(text), "remove the NUL or the lone surrogate")
                return Node(line, None, quoted(text))
            value = self._expanded(value, path, event)
        return Node(line, value, text if event.style is None else quoted(text))

    def _expanded(self, text: str, path: NodePath, event: Any) -> str:
        def replacement(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "$"
            if not match[0].endswith("}") or not _VARIABLE_NAME.fullmatch(name):
                remedy = "write $${ for a literal ${"
                self._note(path, event, "an environment variable such as ${NAME}", quoted(text), remedy)
            elif name not in self._environment:
                remedy = "set it, or write $${ for a literal ${"
                self._note(path, event, f"the environment variable {name} to be set", quoted(text), remedy)
            elif _UNFIT.search(self._environment[name]):
                remedy = "set it to UTF-8 text"
                self._note(path, event, f"valid text in the environment variable {name}", quoted(text), remedy)
            else:
                return self._environment[name]
            return match[0]

        return _VARIABLE.sub(replacement, text)


def resolve_plain(text: str) -> str | int | float | bool | None:
    """Return the value of an unquoted scalar, as in YAML 1.2 but in decimal and lower case only."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= 20 else math.inf
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    return text


def _fits(value: float, text: str) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return math.isfinite(value) or text.endswith(".inf")
