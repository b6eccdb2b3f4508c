"""Write the tables of ``deploy/metrics.md`` from the families that are exported: ``python -m tests.metrics_table``."""

from collections.abc import Iterable

from prometheus_client.metrics import MetricWrapperBase

from kldrift.export.drift_families import DRIFT_FAMILIES, DriftFamily, Per
from kldrift.export.drift_metrics import _LAST_EVALUATION
from kldrift.export.self_metrics import _VALUES_INVALID, SelfMetrics
from kldrift.records.divergences import DIVERGENCES, KL
from kldrift.records.kinds import KINDS
from tests.conftest import ROOT

DOCUMENT = ROOT / "deploy" / "metrics.md"
#: What the samples of a type have behind the name.
_SUFFIXES = {"counter": "_total", "info": "_info"}

LABELS: dict[Per, tuple[str, ...]] = {
    "window": ("monitor", "feature", "window"),
    "feature": ("monitor", "feature"),
    "identity": ("monitor", "feature", "estimator", "smoothing", "bins_hash", "reference_hash"),
    "severity": ("monitor", "feature", "severity"),
    "dimension": ("monitor", "feature", "window", "dimension"),
    "mix": ("monitor", "window"),
    "monitor": ("monitor",),
}


def labels_of(family: DriftFamily) -> tuple[str, ...]:
    """Label names, without `segment`."""
    return LABELS[family.per]


def condition_of(family: DriftFamily) -> str:
    """What a feature or monitor needs to have this family; empty if all do."""
    if family.scope == "segments":
        return "monitors with `segments`"
    if family.per == "dimension":
        return "features with `per_dimension`"
    if family.divergence not in (None, DIVERGENCES[KL]):
        return f"`divergences: [{family.divergence}]`"
    if family.of_missing:
        return "features whose reference says it"
    kinds = [kind for kind, traits in KINDS.items() if family.outside and traits.outside == family.outside]
    return f"{' and '.join(kinds)} features" if kinds else ""


def drift_table() -> str:
    """Every family of the features and monitors."""
    rows = [
        (f"`{f.family.name}`", _codes(labels_of(f)), "yes" if f.scope == "rows" else "", condition_of(f), f.family.help)
        for f in DRIFT_FAMILIES
    ]
    return _table(("metric", "labels", "per segment", "only for", "meaning"), rows)


def daemon_table() -> str:
    """Every family of the daemon itself but those of the process."""
    registry = SelfMetrics().registry
    instruments = [found for found in registry._collector_to_names if isinstance(found, MetricWrapperBase)]
    rows = [
        (f"`{metric.name}{_SUFFIXES.get(metric.type, '')}`", _codes(instrument._labelnames), metric.documentation)
        for instrument in instruments
        for metric in instrument.describe()
    ]
    rows += [
        (f"`{_VALUES_INVALID.name}`", _codes(("monitor", "feature")), _VALUES_INVALID.help),
        (f"`{_LAST_EVALUATION.name}`", "", _LAST_EVALUATION.help),
    ]
    return _table(("metric", "labels", "meaning"), sorted(rows))


def written(document: str) -> str:
    """The document with its tables made anew, each between two comments."""
    for name, table in (("drift", drift_table()), ("daemon", daemon_table())):
        begin, end = f"<!-- {name}: python -m tests.metrics_table -->", f"<!-- {name}: end -->"
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
        document = f"{before}{begin}\n{table}\n{end}{after}"
    return document


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
