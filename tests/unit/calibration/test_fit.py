"""The fit of a scale and an offset, and isotonic calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aasist_deploy.calibration import (
    PSEUDO_TRIALS,
    fit_affine,
    pav_llr,
)
from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.cllr import bits, cllr, min_cllr
from tests.unit.calibration.known import CLASS, gaussian_llr

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Newton stops at 1e-13 of the objective, so parameters are right to about the root of it.
FIT_RTOL = 1e-6


def objective(
    scale: float, offset: float, scores: NDArray[np.float64], truth: Any, prior: float, c: float
) -> float:
    """The objective as the documentation writes it, term by term."""
    total = 0.0
    counts = {True: int(truth.sum()), False: int((~truth).sum())}
    for score, real in zip(scores.tolist(), truth.tolist(), strict=True):
        x = scale * score + offset + math.log(prior / (1 - prior))
        wrong = c / (counts[real] + 2 * c)
        right = np.logaddexp(0, -x if real else x)
        other = np.logaddexp(0, x if real else -x)
        weight = (prior if real else 1 - prior) / counts[real]
        total += weight * float((1 - wrong) * right + wrong * other)
    return total


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.3, -2.0), (25.0, 7.0)])
def test_fit_recovers_the_parameters_of_gaussian_llrs(scale: float, offset: float) -> None:
    llr, truth = gaussian_llr(100_000, 3.0)
    found = fit_affine((llr - offset) / scale, truth)
    # Standard error of the fit at this many trials, measured over 20 seeds: 0.6 % and 0.008.
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert found.offset == pytest.approx(offset, abs=0.03 + 0.02 * abs(offset))
    assert (found.n_bonafide, found.n_spoof, found.separable) == (100_000, 100_000, False)


def test_counts_of_the_classes_do_not_move_the_fit() -> None:
    llr, truth = gaussian_llr(5_000, 4.0)
    many = np.concatenate((llr, np.repeat(llr[~truth], 9)))
    weighted = fit_affine(many, np.concatenate((truth, np.zeros(9 * 5_000, bool))), pseudo_trials=0)
    plain = fit_affine(llr, truth, pseudo_trials=0)
    assert weighted.scale == pytest.approx(plain.scale, rel=FIT_RTOL)
    assert weighted.offset == pytest.approx(plain.offset, abs=FIT_RTOL)


@settings(deadline=None)
@given(CLASS, CLASS, st.sampled_from([0.05, 0.5, 0.9]), st.sampled_from([0.1, 1.0]))
def test_no_neighbour_of_the_fit_is_better(
    bonafide: list[float], spoof: list[float], prior: float, pseudo_trials: float
) -> None:
    scores, truth = np.array(bonafide + spoof), np.arange(len(bonafide + spoof)) < len(bonafide)
    assume(np.ptp(scores) > 1e-3)
    try:
        found = fit_affine(scores, truth, prior_bonafide=prior, pseudo_trials=pseudo_trials)
    except MetricError as error:
        assert "fitted scale" in str(error)  # noqa: PT017  # the only reason left
        return
    best = objective(found.scale, found.offset, scores, truth, prior, pseudo_trials)
    for share in (0.999, 1.001):
        middle = float(scores.mean())
        turned = found.scale * share, found.offset + found.scale * (1 - share) * middle
        moved = found.scale, found.offset + (share - 1) * (1 + abs(found.offset))
        for scale, offset in (turned, moved):
            other = objective(scale, offset, scores, truth, prior, pseudo_trials)
            assert best <= other * (1 + 1e-12)


@settings(deadline=None)
@given(CLASS, CLASS, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_affine_change_of_the_scores_changes_no_llr(
    bonafide: list[float], spoof: list[float], factor: float, shift: float
) -> None:
    scores, truth = np.array(bonafide + spoof), np.arange(len(bonafide + spoof)) < len(bonafide)
    assume(np.ptp(scores) > 1e-2)
    assume(np.mean(bonafide) > np.mean(spoof) + 1e-2)
    changed = factor * scores + shift
    try:
        found = fit_affine(scores, truth)
    except MetricError:
        return
    # What the change itself rounds away, seen through the scale.
    lost = found.scale / factor * np.spacing(np.abs(changed).max()) * 1e3
    other = fit_affine(changed, truth)
    np.testing.assert_allclose(other.llr(changed), found.llr(scores), rtol=1e-5, atol=1e-5 + lost)


def test_order_of_the_trials_has_no_part_in_the_fit() -> None:
    llr, truth = gaussian_llr(500, 2.0)
    order = np.random.default_rng(3).permutation(len(llr))
    found, other = fit_affine(llr, truth), fit_affine(llr[order], truth[order])
    assert other.scale == pytest.approx(found.scale, rel=FIT_RTOL)
    assert other.offset == pytest.approx(found.offset, abs=FIT_RTOL)


def test_separated_classes_have_a_finite_fit_that_says_so() -> None:
    found = fit_affine([3.0, 4.0, 5.0, -1.0, -2.0], [True, True, True, False, False])
    assert found.separable is True
    assert found.pseudo_trials == PSEUDO_TRIALS
    assert 0 < found.scale < math.inf
    assert found.llr([3.0])[0] > 0 > found.llr([-1.0])[0]


def test_fewer_pseudo_trials_make_a_separated_fit_steeper() -> None:
    scores, truth = [1.0, 2.0, -1.0, -2.0], [True, True, False, False]
    scales = [fit_affine(scores, truth, pseudo_trials=c).scale for c in (1.0, 0.1, 0.01)]
    assert scales == sorted(scales)
    assert scales[-1] > 2 * scales[0]


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ([3.0, 1.0, -1.0], [True, True, False]),
        ([3.0, 1.0, 1.0, 0.0], [True, True, False, False]),  # a tie, and still no maximum
        ([2.0, 1.0], [True, False]),
    ],
)
def test_plain_likelihood_of_separated_classes_is_refused(scores: Any, truth: Any) -> None:
    with pytest.raises(MetricError, match="no maximum") as raised:
        fit_affine(scores, truth, pseudo_trials=0)
    assert raised.value.fix


def test_pseudo_trials_hardly_move_a_fit_with_many_errors() -> None:
    llr, truth = gaussian_llr(20_000, 2.0)
    plain, default = fit_affine(llr, truth, pseudo_trials=0), fit_affine(llr, truth)
    assert default.scale == pytest.approx(plain.scale, rel=1e-3)
    assert default.scale < plain.scale


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0, 2.0], [True, True], "2 bona fide and 0 spoofed"),
        ([1.0, 2.0], [False, False], "0 bona fide and 2 spoofed"),
        ([], [], "0 bona fide and 0 spoofed"),
        ([1.0, np.nan, np.inf], [True, False, False], "2 of 3 scores are NaN or infinite"),
        ([1.0, 1.0, 1.0], [True, False, False], r"All 3 scores are 1\.0: they tell nothing"),
        ([1.0, 2.0], [False, True, True], r"\(2,\) and \(3,\)"),
        ([[1.0], [2.0]], [False, True], r"\(2, 1\) and \(2,\)"),
        ([0.0, 1.0], [True, False], "fitted scale is -"),
        ([0.0, 1.0, 0.0, 1.0], [True, True, False, False], "fitted scale is"),
    ],
)
def test_scores_that_cannot_be_calibrated_are_refused(
    scores: Any, truth: Any, message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        fit_affine(scores, truth)


@pytest.mark.parametrize(
    "options",
    [
        {"prior_bonafide": 0.0},
        {"prior_bonafide": 1.0},
        {"prior_bonafide": math.nan},
        {"pseudo_trials": -1.0},
        {"pseudo_trials": math.inf},
        {"pseudo_trials": math.nan},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MetricError, match=r"prior of bona fide|number of pseudo-trials"):
        fit_affine([1.0, 0.0], [True, False], **options)


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_scores_of_any_size_are_calibrated(size: float) -> None:
    llr, truth = gaussian_llr(200, 3.0)
    found, usual = fit_affine(llr * size, truth), fit_affine(llr, truth)
    np.testing.assert_allclose(found.llr(llr * size), usual.llr(llr), rtol=1e-6, atol=1e-6)


def test_one_far_outlier_does_not_stop_the_fit() -> None:
    llr, truth = gaussian_llr(200, 6.0)
    llr[0] = 1e6
    plain = fit_affine(llr, truth, pseudo_trials=0)
    assert plain.scale == pytest.approx(1.0, rel=0.3)
    assert 0 < fit_affine(llr, truth).scale < plain.scale  # a share of it counts as wrong


@given(st.integers(0, 5))
def test_calibration_lowers_cllr_on_the_trials_of_the_fit(seed: int) -> None:
    llr, truth = gaussian_llr(300, 3.0, seed)
    scores = 4 * llr + 5
    after = fit_affine(scores, truth, pseudo_trials=0).llr(scores)
    before = cllr(scores[truth], scores[~truth])
    assert min_cllr(scores[truth], scores[~truth]) <= cllr(after[truth], after[~truth]) < before


@given(CLASS, CLASS)
def test_isotonic_llrs_grow_with_the_score_and_cost_min_cllr(
    bonafide: list[float], spoof: list[float]
) -> None:
    scores, truth = np.array(bonafide + spoof), np.arange(len(bonafide + spoof)) < len(bonafide)
    llr = pav_llr(scores, truth)
    order = np.argsort(scores, kind="stable")
    assert (llr[order][1:] >= llr[order][:-1]).all()
    cost = (bits(llr[truth]).mean() + bits(-llr[~truth]).mean()) / 2
    assert cost == pytest.approx(min_cllr(scores[truth], scores[~truth]), abs=1e-12)
