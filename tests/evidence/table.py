"""Results as Markdown: sections that say how they were made, and tables."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = ("numpy", "scipy", "numba", "polars")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, the first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def made_by(part: str, seed: int, repetitions: str) -> str:
    """The line below a heading: the command, the seed, the repetitions and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"Made by `python -m tests.evidence.{part}` with seed {seed}: {repetitions}"
        f" (Python {platform.python_version()}, {versions})."
    )


def parts(*paragraphs: str) -> str:
    """Paragraphs, tables and headings, one empty line apart."""
    return "\n\n".join(paragraphs) + "\n"
