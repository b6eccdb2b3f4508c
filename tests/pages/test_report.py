"""The report of a comparison: whole in one file, right, escaped, and small."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from kldrift.drift.judging.sensitivity import smallest_in_window
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.pages.cells import cells_of
from kldrift.pages.report import comparison_report, verdict
from kldrift.records.samples import CategoricalColumn, SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.types import FloatArray

HOSTILE = '<script>alert("1")</script>&</style>'
NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def compared(
    n_features: int = 2, shift: float = 1.0, n_rows: int = 2000, names: tuple[str, ...] | None = None
) -> MonitorSnapshot:
    """Normal columns of which the first one is shifted."""
    rng = np.random.default_rng(0)
    features = tuple(FeatureSpec(name, "numeric") for name in names or [f"x{i:02d}" for i in range(n_features)])
    reference: list[FloatArray | CategoricalColumn] = [rng.normal(size=2000) for _ in features]
    monitor = Monitor(
        MonitorSpec("m", features, (WindowSpec("all", HOUR_MS),)), build_references(features, reference, 0, "test")
    )
    live = [rng.normal(size=n_rows) + (shift if i == 0 else 0) for i in range(len(features))]
    monitor.add(SampleBatch(n_rows, tuple(live)), "test", NOW_MS)
    return monitor.evaluate(NOW_MS)


def report(monitor: MonitorSnapshot, **given: object) -> str:
    defaults = {"reference": "ref.csv", "live": "live.csv", "rows": 2000, "changed": {}, "left_out": {}, "notes": (),
                "version": "1"}  # fmt: skip
    return comparison_report(monitor, **(defaults | given))  # type: ignore[arg-type]


class Elements(HTMLParser):
    """Every element and its attributes, and the text outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words += data.split()


def test_the_report_needs_nothing_but_itself() -> None:
    html = report(compared())
    found = Elements(html)
    assert not {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "object", "base"}
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name in ("src", "style") or name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", html)
    policy = [
        attributes["content"] for tag, attributes in found.elements if tag == "meta" and "http-equiv" in attributes
    ]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_what_drifts_comes_first_and_is_open_and_every_link_leads_somewhere() -> None:
    found = Elements(report(compared(3)))
    links = [attributes["href"] for tag, attributes in found.elements if tag == "a"]
    ids = {f"#{attributes['id']}" for _, attributes in found.elements if "id" in attributes}
    assert links[0] == "#feature-0"
    assert sorted(map(str, links)) == sorted(ids) == ["#feature-0", "#feature-1", "#feature-2"]
    assert ["open" in attributes for tag, attributes in found.elements if tag == "details"] == [True, False, False]
    text = " ".join(found.words)
    assert "1 of 3 features drifts: 1 critical." in text
    assert "above the tolerance of 0.1." in text


def test_each_feature_says_from_which_drift_on_it_would_have_warned() -> None:
    """With 2,000 rows against 2,000; with a row, nothing."""
    monitor = compared(1)
    shown = smallest_in_window(monitor, 0, 0)
    assert shown is not None
    assert 0.03 < shown[0].nats < 0.05
    text = " ".join(Elements(report(monitor)).words)
    assert f"smallest drift that warns {shown[0].nats:.4f}" in text
    assert "smallest drift" not in report(compared(1, n_rows=1))


def test_names_of_features_and_files_are_escaped() -> None:
    monitor = compared(names=(HOSTILE, "x" * 2000))
    html = report(monitor, reference=HOSTILE, live=HOSTILE, left_out={HOSTILE: HOSTILE}, notes=(HOSTILE,))
    assert not {"script"} & {tag for tag, _ in Elements(html).elements}
    assert html.count("</style>") == 1
    assert "&lt;script&gt;" in html


def test_a_report_of_fifty_features_is_small() -> None:
    assert len(report(compared(50)).encode()) < 400_000


def test_a_report_says_what_was_left_out_and_what_is_undecided() -> None:
    monitor = compared(n_rows=1)
    text = " ".join(Elements(report(monitor, left_out={"gone": "only in the reference"}, notes=("a note",))).words)
    assert "Undecided: there is too little data to judge any of 2 features." in text
    assert "gone : only in the reference" in text.replace("gone:", "gone :")
    assert "a note" in text


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "No drift: there is no feature to compare, and all constants are as they were."),
        (["quiet"], "No drift in 1 feature."),
        (["quiet", "undecided"], "No drift in 2 features, 1 of them undecided."),
        (["undecided"], "Undecided: there is too little data to judge 1 feature."),
        (["warning"], "1 of 1 feature drifts: 1 warning."),
        (["critical", "warning", "quiet"], "2 of 3 features drift: 1 critical, 1 warning."),
        (["absent", "quiet"], "Of 2 features, 1 has no value in the live data."),
        (["absent", "critical", "absent"], "1 of 3 features drifts: 1 critical; 2 have no value in the live data."),
    ],
)
def test_the_verdict_is_a_sentence(states: list[str], words: str) -> None:
    assert verdict(states) == words


def test_the_cells_are_those_of_the_divergence() -> None:
    monitor = compared()
    cells = cells_of(monitor, 0, 0)
    assert sum(cell.live for cell in cells) == pytest.approx(1)
    assert sum(cell.reference for cell in cells) == pytest.approx(1)
    # Cells without rows on either side are not shown; what smoothing gives them is next to nothing.
    assert not [cell for cell in cells if cell.kind == "special"]
    assert sum(cell.contribution for cell in cells) == pytest.approx(monitor.divergences[0, 0, 0], rel=0.02)
    edges = monitor.features[0].edges
    assert edges is not None
    assert [cell.right for cell in cells] == edges[1:].tolist()
    assert cells_of(compared(n_rows=0), 0, 0) == []


def test_values_of_the_wrong_type_have_a_column_where_there_are_any() -> None:
    found = compared()
    assert '<th scope="col" class="number wide">invalid</th>' not in report(found)
    some = replace(found, invalid_ratio=np.array([[0.125, 0.0]]))
    assert '<th scope="col" class="number wide">invalid</th>' in report(some)
    assert "12.5 %" in report(some)
