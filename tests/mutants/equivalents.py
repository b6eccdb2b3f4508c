"""Mutants that behave as the code does, with the reason for each: `equivalents.txt`.

An entry is the file and the function, the line as it is (`- `), what it may as well be (`+ `, one or more), and the
reason. It holds wherever the line moves, and as long as it stays the same.
"""

from pathlib import Path

LISTED = Path(__file__).parent / "equivalents.txt"


def equivalents() -> dict[tuple[str, str, str, str], str]:
    """Return the reason for each key of a mutant (`Mutant.key`)."""
    found = {}
    for entry in LISTED.read_text().strip().split("\n\n")[1:]:  # the first says what the file is
        where, before, *rest = entry.split("\n")
        file, function = where.split(" ")
        changes = [line for line in rest if line.startswith("+ ")]
        for after in changes:
            reason = " ".join(rest[len(changes) :])
            found[file, function, before.removeprefix("- "), after.removeprefix("+ ")] = reason
    return found
