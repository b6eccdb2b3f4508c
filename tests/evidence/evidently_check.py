"""Our formulas of Evidently's default beside an installed Evidently."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import kstwo

from tests.benchmarks.peers import NotInstalled, environment, requirements
from tests.evidence.rules import EVIDENTLY_SMALL_REFERENCE
from tests.evidence.sample_distances import kolmogorov_smirnov, ranks_in, wasserstein
from tests.evidence.streams import Generator

N_WINDOWS, N_SAMPLES, REFERENCE_SAMPLES = 8, 1000, 10_000


def evidently_text(rng: Generator) -> str:
    """What came of the comparison, as a sentence.

    Raises
    ------
    AssertionError
        a score of the installed Evidently is not what the formula gives
    """
    peer = "evidently"
    try:
        python = environment(peer, requirements()[peer])
    except NotInstalled as reason:
        return f"Evidently could not be installed here ({reason}): its rule follows its published formula, unchecked."
    reference = rng.standard_normal(REFERENCE_SAMPLES)
    live = rng.standard_normal((N_WINDOWS, N_SAMPLES)) + np.linspace(0, 0.3, N_WINDOWS)[:, np.newaxis]
    with tempfile.TemporaryDirectory() as directory:
        np.save(Path(directory) / "reference.npy", reference)
        np.save(Path(directory) / "live.npy", live)
        script = Path(__file__).with_name("evidently_scores.py")
        command = [str(python), "-I", str(script), directory]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": directory})
    if done.returncode:
        raise RuntimeError(f"expected scores from {script.name}, got exit code {done.returncode}: {done.stderr}")
    theirs = json.loads(done.stdout.splitlines()[-1])
    # each window a pane of its own: a stream of which every pane is a window; the first is not judged
    panes = live[np.newaxis]
    small = reference[np.newaxis, -EVIDENTLY_SMALL_REFERENCE:]
    distance = wasserstein(panes, reference[np.newaxis], 1, 1)[0] / reference.std()
    ks = kolmogorov_smirnov(ranks_in(small, panes), small.shape[1], 1, 1)[0]
    p_value = kstwo.sf(ks, round(N_SAMPLES * small.shape[1] / (N_SAMPLES + small.shape[1])))
    np.testing.assert_allclose(theirs["large"][1:], distance, rtol=1e-9)
    # scipy's p-value is exact for samples as small as these, ours asymptotic
    np.testing.assert_allclose(theirs["small"][1:], p_value, rtol=0.15, atol=1e-3)
    off = float(np.abs(np.array(theirs["large"][1:]) - distance).max())
    off_p = float(np.abs(np.array(theirs["small"][1:]) - p_value).max())
    return (
        f"Checked against an installed Evidently {theirs['version']} on {N_WINDOWS - 1} windows: its default"
        f" scores and ours differ by at most {off:.0e} (distance) and {off_p:.4f} (p-value: Evidently's is exact here,"
        " ours asymptotic)."
    )
