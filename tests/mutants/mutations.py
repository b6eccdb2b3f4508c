"""Small changes of source text, each of which should make a test fail."""

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

#: What each operator is written as, and what it becomes: the boundary moved, and the opposite.
COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
COMMENT = re.compile(rb"#[^\n]*")


@dataclass(frozen=True)
class Mutant:
    """One change of a file.

    Parameters
    ----------
    file : from the repository's root
    function : its qualified name, such as `Keys.begin`
    before, after : the first line that differs, without indentation
    line : its number
    lines : of the statement that it is in; a test that runs none of them cannot notice
    text : the whole file with the change; it has as many lines as before
    outer : name and first line of the outermost function that holds the change
    """

    file: str
    function: str
    before: str
    after: str
    line: int
    lines: range
    text: bytes
    outer: tuple[str, int]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identify the change for as long as its own line stays the same, wherever that moves."""
        return self.file, self.function, self.before, self.after

    def rank(self, seed: str) -> bytes:
        """Return the place in the random order of a seed; changes of other lines do not move it."""
        return hashlib.blake2b("\n".join((seed, *self.key)).encode(), digest_size=8).digest()

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}\n- {self.before}\n+ {self.after}"


def mutants(root: Path, file: str) -> list[Mutant]:
    """Return every mutant of the functions of a file, in the order of its lines.

    Constants of modules and classes, and defaults, are left alone: most are tunings, which a test could only repeat.
    """
    source = (root / file).read_bytes()
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    return list({mutant.key: mutant for mutant in finder.found}.values())


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._file = file
        self._source = source
        self._starts = [0]
        for line in source.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._names: list[str] = []
        self._outer: tuple[str, int] | None = None
        self._lines = range(0)

    def visit(self, node: ast.AST) -> None:
        """Visit a node, with the lines of its statement in mind: all, or the head if it has a body."""
        before = self._lines
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            end = (node.end_lineno or 0) + 1 if body is None else getattr(body[0], "lineno", node.lineno)
            self._lines = range(node.lineno, max(end, node.lineno + 1))
        super().visit(node)
        self._lines = before

    # What is not changed

    def visit_Assert(self, node: ast.Assert) -> None:
        """Asserts narrow types."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Python 3.11 does not know where the parts of an f-string are."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Pass by the annotation."""
        if node.value is not None:
            self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        """Pass by the `strict` of `zip`, which is an assertion too."""
        if node.arg != "strict":
            self.visit(node.value)

    # Where a change is

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Look into the methods."""
        self._names.append(node.name)
        for child in node.body:
            self.visit(child)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Look into the body."""
        self._names.append(node.name)
        before = self._outer
        if before is None:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            self._outer = ".".join(self._names), first
        for child in node.body:
            self.visit(child)
        self._outer = before
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    # Changes

    def visit_Compare(self, node: ast.Compare) -> None:
        """Move the boundary, or take the opposite."""
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            old, *others = COMPARISONS[type(operator)]
            for new in others:
                self._between(left, right, old, new)
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Exchange `and` and `or`."""
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave out `not`."""
        if isinstance(node.op, ast.Not):
            start = self._start(node)
            self._change(start, start + len(b"not "), b"")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Take the opposite."""
        if type(node.op) in ARITHMETIC:
            self._between(node.left, node.right, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Take the opposite."""
        if type(node.op) in ARITHMETIC:
            old, new = ARITHMETIC[type(node.op)]
            self._between(node.target, node.value, f"{old}=", f"{new}=")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Count one more, or one less; exchange true and false."""
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))
            if node.value > 0:
                self._replace(node, str(node.value - 1))

    def visit_Return(self, node: ast.Return) -> None:
        """Return nothing."""
        if node.value is not None and not (isinstance(node.value, ast.Constant) and not node.value.value):
            self._replace(node.value, "None")
        self.generic_visit(node)

    def _invert(self, test: ast.expr) -> None:
        """Go the other way; comparisons and `not` have their opposites already."""
        if not isinstance(test, (ast.UnaryOp, ast.Constant)) and not (
            isinstance(test, ast.Compare) and len(test.ops) == 1
        ):
            start, end = self._start(test), self._end(test)
            bare = isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
            self._change(start, end, (b"not %s" if bare else b"not (%s)") % self._source[start:end])

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        """Go the other way."""
        self._invert(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If  # noqa: N815

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """Keep what was left out."""
        for test in node.ifs:
            self._invert(test)
        self.generic_visit(node)

    # Text

    def _start(self, node: ast.expr) -> int:
        return self._starts[node.lineno - 1] + node.col_offset  # in bytes

    def _end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        start = self._end(left)
        gap = COMMENT.sub(lambda match: b" " * len(match[0]), self._source[start : self._start(right)])
        at = start + gap.index(old.encode())
        self._change(at, at + len(old), new.encode())

    def _replace(self, node: ast.expr, new: str) -> None:
        start, end = self._start(node), self._end(node)
        self._change(start, end, new.encode() + b"\n" * self._source.count(b"\n", start, end))

    def _change(self, start: int, end: int, new: bytes) -> None:
        if self._outer is None:
            return
        text = self._source[:start] + new + self._source[end:]
        number = self._source.count(b"\n", 0, start)
        before, after = (whole.split(b"\n")[number].strip().decode() for whole in (self._source, text))
        self.found.append(
            Mutant(self._file, ".".join(self._names), before, after, number + 1, self._lines, text, self._outer)
        )
