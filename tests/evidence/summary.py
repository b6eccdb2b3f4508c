"""The shortest answer to "how often is it wrong?", read off the tables of the other parts.

``python -m tests.evidence.summary`` makes it anew at the head of ``RESULTS.md``, without simulating anything.
"""

from collections.abc import Iterable, Mapping

from tests.evidence.alarms import CATEGORICAL, DEFAULT, SAMPLES_HEADING
from tests.evidence.rules import RAW_WINDOWS, TOLERANCES
from tests.evidence.table import RESULTS, markdown_table

#: The line that follows the summary.
END = "## Alarms"
HEADING = "## In short"

#: The rules of the table, and the heading of the tables that have them; `{}` is the number of samples of a window.
RULES = {
    **{f"**kldrift**, lower bound > {tolerance:g}": DEFAULT for tolerance in reversed(TOLERANCES)},
    "PSI > 0.2, n = {}": DEFAULT,
    "KL > 0.1, n = {}": DEFAULT,
    "JS distance > 0.1, n = {}": DEFAULT,
    "G-test p < 0.05, n = {}": DEFAULT,
    "KS-test p < 0.05, n = {}": SAMPLES_HEADING,
    "Evidently's default, n = {}": SAMPLES_HEADING,
}
SHIPPED = next(iter(RULES))
QUIET = ("iid", "AR(.5)", "AR(.9)", "AR(.98)", "daily mean")
FOUND = ("iid: mean + 0.25 σ", "iid: mean + 0.5 σ")

Table = Mapping[str, Mapping[str, str]]


class Tables:
    """The tables of a document, by the heading above them and the first cell of their header."""

    def __init__(self, text: str) -> None:
        self._tables: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        heading = ""
        columns: list[str] = []
        for line in text.splitlines():
            if line.startswith("#"):
                heading, columns = line.lstrip("# "), []
            elif not line.startswith("| "):
                columns = []
            elif not columns:
                columns = _cells(line)
            elif not line.startswith("| ---"):
                first, *cells = _cells(line)
                table = self._tables.setdefault((heading, columns[0]), {})
                table[first] = dict(zip(columns[1:], cells, strict=True))

    def rates(self, heading: str) -> Table:
        """Alarmed ticks per 10,000, of which each cell holds the episodes as well."""
        table = self._tables[heading, "alarmed ticks / episodes per 10,000"]
        return {rule: {column: cell.split(" / ")[0] for column, cell in row.items()} for rule, row in table.items()}

    def delays(self, heading: str) -> Table:
        """Median samples to detect."""
        return self._tables[heading, "median samples to detect"]

    def covered(self, heading: str) -> list[float]:
        """Coverage in percent wherever there is a shift and a verdict."""
        rows = (row for shift, row in self._tables[heading, "shift"].items() if shift != "0 σ")
        cells = (cell for row in rows for cell in row.values() if not cell.startswith("undecided"))
        return [float(cell.strip("*").split(" ")[0]) for cell in cells]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(tables: Tables) -> str:
    """A row per rule: alarms where nothing happens, and the time to find a shift."""
    rows = []
    for rule, heading in RULES.items():
        names = [rule.format(f"{n:,}") for n in RAW_WINDOWS] if "{}" in rule else [rule]
        rates, delays = tables.rates(heading), tables.delays(heading)
        quiet = [" / ".join(rates[name][stream] for name in names) for stream in QUIET]
        found = [" / ".join(delays[name][change].split(" (")[0] for name in names) for change in FOUND]
        rows.append([rule.split(", n = ")[0], *quiet, *found])
    return markdown_table(
        [
            "rule",
            *QUIET[:-1],
            "daily rhythm",
            *(f"finds {change.removeprefix('iid: mean ').replace('+ ', '+')}" for change in FOUND),
        ],
        rows,
    )


def summary(text: str) -> str:
    """The section, from the text of the others."""
    tables = Tables(text)
    strong = tables.rates("Where it breaks: strong autocorrelation")[SHIPPED]
    season = tables.rates("Where it breaks: seasons as long as the reference, and longer")[SHIPPED]
    delays = tables.delays(DEFAULT)[SHIPPED]
    shipped = tables.covered("As shipped: bins at quantiles of the reference, overdispersion measured on its 64 panes")
    known = tables.covered("Bins known beforehand, samples known to be independent")
    return TEXT.format(
        table=table(tables),
        shipped=_range(shipped),
        known=_range(known),
        strong=strong["m = 10,000"],
        strong_categories=tables.rates(CATEGORICAL)[SHIPPED]["AR(.98)"],
        strong_longer=strong["m = 100,000"],
        whole_day=season["1 day"],
        half_day=season["half a day"],
        tenth=season["a tenth of a day"],
        weak_quarter=delays["AR(.5): mean + 0.25 σ"],
        weak_half=delays["AR(.5): mean + 0.5 σ"],
        medium_quarter=delays["AR(.9): mean + 0.25 σ"],
        medium_half=delays["AR(.9): mean + 0.5 σ"],
    )


def _range(percent: Iterable[float]) -> str:
    values = sorted(percent)
    return f"{values[0]:.1f} to {values[-1]:.1f} %"


TEXT = """\
## In short

Alarmed ticks per 10,000 in which nothing happens, and the median number of independent samples from a shift of the
mean to the first alarm. A tick is 100 samples. kldrift (first the shipped rule) judges nine windows of 100 to 25,600
samples at alpha = 1e-4 per tick; the other rules judge one window of n = 200 / 1,000 / 10,000. Evidently's default
for numbers is the Wasserstein distance. There are 16 bins, a reference of 10,000 samples, and 200 references per
stream (50 for KS and Evidently). The daily rhythm moves the mean by ± 0.5 σ. `never`: less than half of the shifts
were found.

{table}

- **Coverage** of the two-sided 95 % interval, for shifts of 0.1 to 1 σ, 10 to 64 bins and n of 200 to 10,000:
  {shipped} as shipped, {known} with bins known beforehand (windows that get a verdict, 10 samples per bin).
- **Strong autocorrelation breaks it.** AR(.98) raises more alarms than alpha's 1 in 10,000: {strong}, and
  {strong_categories} with 10 categories. With a reference of 100,000 samples it is {strong_longer}.
- **A season longer than the reference looks like drift.** Of 10,000 ticks, {half_day} are alarmed with half a day
  in the reference, {tenth} with a tenth of a day, {whole_day} with a whole day. Make references of whole seasons.
- **The price is waiting** where samples depend on each other. Median samples to find a shift of 0.25 σ:
  {weak_quarter} in AR(.5), {medium_quarter} in AR(.9); to find one of 0.5 σ: {weak_half} and {medium_half}.
- **Real data**: in `employment_MA`, 2015 against 2016 to 2018, [nothing drifts beyond the shipped
  tolerance](#employment-in-massachusetts), a few features have certainly moved, and shuffled controls stay quiet."""


def written(document: str) -> str:
    """`RESULTS.md` with its summary made anew from its own tables."""
    title, _, rest = document.partition(f"{HEADING}\n")
    return f"{title}{summary(rest)}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    RESULTS.write_text(written(RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
