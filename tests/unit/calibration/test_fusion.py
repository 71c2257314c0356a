"""Several systems to one score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.calibration import (
    fit_affine,
    fit_fusion,
    fit_mean,
    match_scores,
)
from aasist_deploy.errors import MetricError, ScoresError
from aasist_deploy.metrics.cllr import cllr
from aasist_deploy.scores import ScoreTable
from tests.unit.calibration.known import gaussian_llr, table_of
from tests.unit.calibration.test_fit import FIT_RTOL

if TYPE_CHECKING:
    from numpy.typing import NDArray


def two_systems(n: int, seed: int = 0) -> tuple[NDArray[np.float64], Any]:
    """Independent LLRs of two systems on one scale each; their sum is the LLR of both."""
    a, truth = gaussian_llr(n, 3.0, seed)
    b, _ = gaussian_llr(n, 2.0, seed + 100)
    return np.column_stack(((a - 1) / 2, (b + 3) / 0.1)), truth


def test_fusion_recovers_the_weights_of_independent_systems() -> None:
    scores, truth = two_systems(100_000)
    fusion = fit_fusion(scores, truth)
    assert fusion.weights == pytest.approx((2.0, 0.1), rel=0.02)
    assert fusion.offset == pytest.approx(-2.0, abs=0.05)


def test_fusion_is_better_than_each_system_on_held_trials() -> None:
    scores, truth = two_systems(5_000)
    held, held_truth = two_systems(5_000, seed=1)
    for fit in (fit_fusion, fit_mean):
        fused = fit(scores, truth).llr(held)
        alone = [fit_affine(s, truth).llr(h) for s, h in zip(scores.T, held.T, strict=True)]
        costs = [cllr(x[held_truth], x[~held_truth]) for x in (fused, *alone)]
        assert costs[0] < min(costs[1:]) - 0.05


def test_fusion_of_one_system_is_its_calibration() -> None:
    llr, truth = gaussian_llr(300, 3.0)
    calibration = fit_affine(llr, truth)
    for fit in (fit_fusion, fit_mean):
        fused = fit(llr[:, None], truth).llr(llr[:, None])
        np.testing.assert_allclose(fused, calibration.llr(llr), atol=2e-2)


def test_system_given_twice_gets_two_equal_weights() -> None:
    llr, truth = gaussian_llr(300, 3.0)
    fusion = fit_fusion(np.column_stack((llr, llr)), truth)
    assert fusion.weights[0] == pytest.approx(fusion.weights[1], rel=1e-9)
    assert sum(fusion.weights) == pytest.approx(fit_affine(llr, truth).scale, rel=FIT_RTOL)


def test_system_that_tells_nothing_is_named() -> None:
    llr, truth = gaussian_llr(50, 3.0)
    with pytest.raises(MetricError, match="of system 2"):
        fit_fusion(np.column_stack((llr, np.ones(100))), truth)


def test_mean_refuses_a_reversed_system_by_its_number() -> None:
    llr, truth = gaussian_llr(50, 3.0)
    with pytest.raises(MetricError, match="System 2: The fitted scale"):
        fit_mean(np.column_stack((llr, -llr)), truth)


def test_separated_fusion_is_finite_and_says_so() -> None:
    fusion = fit_fusion([[2.0, 1.0], [3.0, 4.0], [-1.0, 0.0], [-2.0, -5.0]], [1, 1, 0, 0])
    assert fusion.separable
    assert np.isfinite(fusion.weights).all()


def test_fusion_takes_only_as_many_systems_as_it_has() -> None:
    scores, truth = two_systems(50)
    with pytest.raises(MetricError, match=r"takes \(n, 2\)"):
        fit_fusion(scores, truth).llr(scores[:, :1])


def test_trials_are_matched_by_name_not_by_line() -> None:
    first = table_of([1.0, 2.0, 3.0], None)
    second = ScoreTable(
        utterances=("u2", "u0", "u1"),
        scores=np.array([30.0, 10.0, 20.0]),
        is_bonafide=np.array([False, True, True]),
        attacks=("A01", "-", "-"),
    )
    matched = match_scores([first, second], ["a", "b"])
    assert matched.scores.tolist() == [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    assert matched.is_bonafide is not None
    assert matched.is_bonafide.tolist() == [True, True, False]
    assert matched.attacks == ("-", "-", "A01")


def test_trials_that_do_not_match_are_counted_and_named() -> None:
    first, second = table_of([1.0, 2.0, 3.0], None), table_of([1.0], None)
    with pytest.raises(ScoresError, match=r"of 3 in the first 2 .*'u1', 'u2'.*second 0") as raised:
        match_scores([first, second], ["a.txt", "b.txt"])
    assert "a.txt and b.txt" in str(raised.value)


def test_systems_that_disagree_on_the_truth_are_refused() -> None:
    first, second = table_of([1.0, 2.0], [True, False]), table_of([1.0, 2.0], [True, True])
    with pytest.raises(ScoresError, match=r"1 of 2 trials different keys \('u1'\)"):
        match_scores([first, second], ["a", "b"])
