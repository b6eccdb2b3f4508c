"""The guide beside the examples: its configurations load, its table of measures is what scipy computes."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import rel_entr

from kldrift.config.load import parse_config
from tests.conftest import ROOT

GUIDE = (ROOT / "config" / "examples" / "README.md").read_text()
ROWS = [
    [float(cell.replace("σ", "")) for cell in line.strip("| ").split("|")]
    for line in GUIDE.splitlines()
    if re.match(r"\| [\d.]+ σ \|", line)
]


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL), ids=["psi", "evidently"])
def test_its_configurations_load(text: str, tmp_path: Path) -> None:
    assert parse_config(text, tmp_path / "kldrift.yaml").monitors


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]:g} sigma" for row in ROWS])
def test_its_table_of_measures(row: list[float]) -> None:
    shift = row[0]
    edges = np.concatenate([[-np.inf], stats.norm.ppf(np.arange(1, 10) / 10), [np.inf]])
    p, q = (np.diff(stats.norm.cdf(edges - mean)) for mean in (shift, 0))
    m = (p + q) / 2
    kl = rel_entr(p, q).sum()
    js_bits = (rel_entr(p, m).sum() + rel_entr(q, m).sum()) / 2 / np.log(2)
    expected = [shift**2 / 2, kl, kl + rel_entr(q, p).sum(), np.sqrt(js_bits)]
    assert row[1:] == pytest.approx(expected, rel=0.02)


def test_its_table_is_there() -> None:
    assert len(ROWS) == 7


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", GUIDE))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (ROOT / "config" / "examples" / link).exists()
