"""All of the evidence, written to ``RESULTS.md``: ``python -m tests.evidence`` (some ten minutes on two cores)."""

import sys
import time

from tests.evidence import alarms, categories, coverage, employment
from tests.evidence.summary import summary
from tests.evidence.table import RESULTS, parts

TITLE = """# How often kldrift is wrong

Written by `python -m tests.evidence`; each part also prints its own. `test_quick.py` checks a fast version of these
figures. The formulas behind them, with their symbols, are in [drift](../../kldrift/drift/README.md#4-bounds)."""


def main() -> None:
    """Run the parts and write the file."""
    sections = []
    for name, section in (
        ("alarms", alarms.section),
        ("coverage", coverage.section),
        ("categories", categories.section),
        ("employment", employment.section),
    ):
        began = time.monotonic()
        sections.append(section().rstrip())
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    RESULTS.write_text(parts(TITLE, summary("\n\n".join(sections)), *sections), encoding="utf-8")


if __name__ == "__main__":
    main()
