"""``kldrift bench``."""

from pathlib import Path

import pytest

from tests.e2e.processes import kldrift

CONFIG = """
monitors:
  m:
    timestamp: {field: ts, unit: iso8601}
    features:
      coin: {kind: categorical, reference: {probabilities: {heads: 0.5, tails: 0.5}}}
      size: {kind: numeric, reference: {edges: [-.inf, 0, 1, .inf], counts: [500, 300, 200]}}
"""


@pytest.mark.slow
def test_bench_measures_every_stage_with_a_configuration_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "kldrift.yaml").write_text(CONFIG)
    for arguments in ((), ("-c", str(tmp_path / "kldrift.yaml"))):
        done = kldrift("bench", "--seconds", "0.05", *arguments)
        assert done.returncode == 0, done.stderr
        for stage in ("decode NDJSON", "count", "compare, all divergences", "render /metrics"):
            assert stage in done.stdout
