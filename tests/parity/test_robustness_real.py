"""Published AASIST on real clips: loudness moves its scores, doing nothing does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.degradations import select
from aasist_deploy.engines import open_engine
from aasist_deploy.evaluate import evaluate
from aasist_deploy.robustness import balanced, sweep
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.robustness import RobustnessReport, TrialScores

    Swept = tuple[RobustnessReport, list[TrialScores], list[float | None]]

pytestmark = pytest.mark.slow

# Other batches, and other places within them, change the last bits of ONNX Runtime's sums. The
# limit of parity for fp32; the largest drift of `identity` over 24 dev clips was 1.9e-6.
BATCH_ATOL = 1e-4
N_CLIPS, N_COMPARED = 8, 3


@pytest.fixture(scope="module")
def swept(shared: Path, exported: Callable[..., Path]) -> Swept:
    """Report, scores of each trial, and what `eval` gives for the first clips."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    whole = load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", "dev")
    dataset = balanced(whole, N_CLIPS)
    conditions = select(["identity", "gain-24dB", "trail-0.5s-zero"])
    items: list[TrialScores] = []
    with open_engine(exported("AASIST")) as engine:
        report = sweep(engine, dataset, conditions, pool=whole, on_item=items.append)
        first = replace(dataset, trials=dataset.trials[:N_COMPARED])
        scores = [file.score for file in evaluate(engine, first).files]
    return report, items, scores


def test_clean_scores_are_those_of_eval(swept: Swept) -> None:
    _, items, scores = swept
    assert (len(items), len(scores)) == (N_CLIPS, N_COMPARED)
    for item, score in zip(items, scores, strict=False):
        assert item.clean == pytest.approx(score, abs=BATCH_ATOL)


def test_identity_changes_nothing_and_gain_moves_scores(swept: Swept) -> None:
    report, _, _ = swept
    figures = {one.name: one.figures for one in report.conditions}
    identity, quiet = figures["identity"], figures["gain-24dB"]
    assert (identity.flips, identity.eer_change) == (0, 0.0)
    assert identity.max_abs_drift == pytest.approx(0.0, abs=BATCH_ATOL)
    assert quiet.mean_abs_drift is not None
    assert quiet.mean_abs_drift > 1.0  # measured: 6.1 on these eight clips
    assert {one.n for one in figures.values()} == {N_CLIPS}
    assert report.n_failed == 0


def test_silence_behind_the_window_changes_nothing(swept: Swept) -> None:
    report, items, _ = swept
    trailing = report.conditions[-1]
    assert trailing.name == "trail-0.5s-zero"
    drifts = np.array([item.scores[-1] - item.clean for item in items])
    assert np.count_nonzero(drifts == 0.0) == trailing.figures.n_unchanged
    assert 0 < trailing.figures.n_unchanged < N_CLIPS  # some of the clips fill the window
