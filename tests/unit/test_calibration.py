from __future__ import annotations

import doctest
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aasist_deploy.calibration import (
    PSEUDO_TRIALS,
    Calibration,
    calibrate,
    fit_affine,
    fit_fusion,
    fit_mean,
    llr_figures,
    match_scores,
    operating_point,
    p_spoof,
    pav_llr,
    rate_upper_bound,
    threshold_for_false_alarms,
    threshold_for_misses,
    trials_to_show,
)
from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import MetricError, ModelFileError, ScoresError, UsageError
from aasist_deploy.metrics.cllr import bits, cllr, min_cllr
from aasist_deploy.metrics.dcf import DetectionCosts
from aasist_deploy.scores import ScoreTable
from tests.contracts import contract_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Newton stops at 1e-13 of the objective, so parameters are right to about the root of it.
FIT_RTOL = 1e-6

CLASS = st.lists(st.floats(-50, 50), min_size=1, max_size=30)


def gaussian_llr(n: int, separation: float, seed: int = 0) -> tuple[NDArray[np.float64], Any]:
    """LLRs that are calibrated by construction: N(+-d/2, d) of the classes gives LLR = x."""
    random = np.random.default_rng(seed)
    truth = np.arange(2 * n) < n
    mean = np.where(truth, separation / 2, -separation / 2)
    return random.normal(mean, math.sqrt(separation)), truth


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


def table_of(scores: Any, truth: Any, prefix: str = "u") -> ScoreTable:
    return ScoreTable(
        utterances=tuple(f"{prefix}{i}" for i in range(len(scores))),
        scores=np.asarray(scores, np.float64),
        is_bonafide=None if truth is None else np.asarray(truth),
        attacks=None,
    )


# --- the fit -------------------------------------------------------------------------------------


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


# --- isotonic calibration ------------------------------------------------------------------------


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


# --- probability ---------------------------------------------------------------------------------


@given(st.floats(-700, 700), st.floats(1e-6, 1 - 1e-6))
def test_probability_follows_bayes_rule(llr: float, prior: float) -> None:
    odds = math.exp(-llr) * prior / (1 - prior)
    assert float(p_spoof(llr, prior)) == pytest.approx(odds / (1 + odds), rel=1e-9)


def test_probability_without_evidence_is_the_prior() -> None:
    assert float(p_spoof(0.0)) == 0.5
    assert float(p_spoof(0.0, 0.05)) == pytest.approx(0.05, rel=1e-12)


def test_probability_neither_overflows_nor_loses_its_tails() -> None:
    assert p_spoof([1e5, -1e5]).tolist() == [0.0, 1.0]
    assert float(p_spoof(100.0)) == pytest.approx(math.exp(-100), rel=1e-12)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_prior_that_decides_everything_is_refused(prior: float) -> None:
    with pytest.raises(UsageError, match="prior of spoof"):
        p_spoof(0.0, prior)


def test_bayes_threshold_is_where_the_expected_costs_are_equal() -> None:
    costs = DetectionCosts(p_spoof=0.2, cost_miss=3.0, cost_fa=5.0)
    p = float(p_spoof(costs.bayes_threshold, costs.p_spoof))
    assert costs.cost_fa * p == pytest.approx(costs.cost_miss * (1 - p), rel=1e-12)


# --- thresholds ----------------------------------------------------------------------------------


@given(CLASS, CLASS, st.floats(0, 0.999))
def test_threshold_for_false_alarms_is_the_lowest_that_keeps_the_rate(
    bonafide: list[float], spoof: list[float], rate: float
) -> None:
    threshold = threshold_for_false_alarms(bonafide, spoof, rate)
    spoofed = np.array(spoof)
    assert np.mean(spoofed >= threshold) <= rate
    lower = spoofed[spoofed < threshold]
    assert np.mean(spoofed >= lower.max()) > rate


@given(CLASS, CLASS, st.floats(0, 0.999))
def test_threshold_for_misses_is_the_highest_that_keeps_the_rate(
    bonafide: list[float], spoof: list[float], rate: float
) -> None:
    threshold = threshold_for_misses(bonafide, spoof, rate)
    genuine = np.array(bonafide)
    assert np.mean(genuine < threshold) <= rate
    higher = genuine[genuine >= threshold]
    assert np.mean(genuine < math.nextafter(higher.min(), math.inf)) > rate


def test_rate_that_floats_just_miss_is_kept() -> None:
    spoof = np.arange(100.0)
    threshold = threshold_for_false_alarms([200.0], spoof, 0.29)  # 0.29 * 100 is 28.999...
    assert int((spoof >= threshold).sum()) == 29


def test_threshold_lies_halfway_between_the_scores_it_tells_apart() -> None:
    assert threshold_for_false_alarms([5.0, 9.0], [1.0, 0.0], 0.0) == 3.0
    assert threshold_for_misses([5.0, 9.0], [1.0, 0.0], 0.0) == 3.0


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="wanted rate"):
        threshold_for_false_alarms([1.0], [0.0], rate)


@pytest.mark.parametrize(
    ("n_errors", "n_trials", "bound"),
    [
        (0, 52, 1 - 0.05 ** (1 / 52)),  # 5.6 %
        (0, 1, 0.95),
        (1, 10, 0.394163),  # Clopper and Pearson's one-sided limit, from tables
        (3, 100, 0.075710),
        (5, 5, 1.0),
    ],
)
def test_upper_bound_is_that_of_the_tables(n_errors: int, n_trials: int, bound: float) -> None:
    assert rate_upper_bound(n_errors, n_trials) == pytest.approx(bound, abs=1e-6)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_at_the_bound_so_few_errors_have_five_percent(counts: tuple[int, int]) -> None:
    n_errors, n_trials = counts
    rate = rate_upper_bound(n_errors, n_trials)
    terms = (
        math.comb(n_trials, k) * math.exp(k * math.log(rate) + (n_trials - k) * math.log1p(-rate))
        for k in range(n_errors + 1)
    )
    assert math.fsum(terms) == pytest.approx(0.05, rel=1e-6)
    assert rate > n_errors / n_trials


def test_bound_holds_for_a_threshold_set_on_the_same_trials() -> None:
    # Uniform scores: the true rate above t is 1 - t. The bound must hold in 95 % of 2 000 draws;
    # three standard deviations of that count are 1.5 %.
    random = np.random.default_rng(7)
    held = 0
    for _ in range(2_000):
        spoof = random.uniform(size=100)
        threshold = threshold_for_false_alarms([2.0], spoof, 0.03)
        held += 1 - threshold <= rate_upper_bound(int((spoof >= threshold).sum()), 100)
    assert held / 2_000 >= 0.935


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (0, 0), (0, 5, 1.0), (0, 5, 0.0)])
def test_bound_of_impossible_counts_is_refused(arguments: Any) -> None:
    with pytest.raises(UsageError, match="no such bound"):
        rate_upper_bound(*arguments)


def test_trials_to_show_a_rate_are_just_enough() -> None:
    assert trials_to_show(0.01) == 299
    assert rate_upper_bound(0, 299) <= 0.01 < rate_upper_bound(0, 298)


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_no_number_of_trials_shows_a_rate_of_zero(rate: float) -> None:
    with pytest.raises(UsageError, match="No number of trials"):
        trials_to_show(rate)


def test_wanted_rate_of_zero_is_met_and_said_to_be_unshowable() -> None:
    table = table_of([3.0, 2.0, 1.0, 0.0], [True, True, False, False])
    result = calibrate(table, costs=DetectionCosts(), false_alarm_rates=[0.0, 0.0])
    assert result.thresholds["far(0)"] == 1.5
    assert sum("no number of trials" in note for note in result.notes) == 1


def test_operating_point_accepts_at_the_threshold() -> None:
    point = operating_point([1.0, 2.0], [1.0, 0.0], 1.0, llr=0.0, name="x")
    assert (point.n_misses, point.n_false_alarms) == (0, 1)


# --- the result ----------------------------------------------------------------------------------


def test_result_holds_thresholds_and_figures_before_and_after() -> None:
    llr, truth = gaussian_llr(2_000, 4.0)
    other, other_truth = gaussian_llr(2_000, 4.0, seed=1)
    result = calibrate(
        table_of(3 * llr + 4, truth),
        table_of(3 * other + 4, other_truth, "held"),
        costs=DetectionCosts(),
        false_alarm_rates=[0.01],
        miss_rates=[0.02],
        scores_sha256="ab" * 32,
    )
    bayes = "bayes(prior_spoof=0.05, cost_miss=1, cost_fa=10)"
    assert list(result.thresholds) == [bayes, "eer", "far(0.01)", "miss(0.02)"]
    assert result.calibration.llr(result.thresholds[bayes]) == pytest.approx(-math.log(1.9))
    assert result.held is not None
    assert result.holds
    assert result.held.after.cllr < result.held.before.cllr
    assert result.held.after.act_dcf < result.held.before.act_dcf
    assert result.held.after.eer == pytest.approx(result.held.before.eer)
    far = {point.name: point for point in result.fit.points}["far(0.01)"]
    assert (far.n_false_alarms, far.n_spoof) == (20, 2_000)
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.calibration.scores_sha256 == "ab" * 32
    assert not any("held" in note for note in result.notes)


def test_result_says_that_few_trials_cannot_show_a_rate() -> None:
    scores, truth = np.r_[np.arange(1.0, 54), -np.arange(1.0, 53)], np.arange(105) < 53
    notes = calibrate(
        table_of(scores, truth), costs=DetectionCosts(), false_alarm_rates=[0.01]
    ).notes
    assert any("0 of 52 spoofed trials" in note and "below 5.60%" in note for note in notes)
    assert any("299 trials" in note for note in notes)
    assert any("53 bona fide and 52 spoofed trials apart without error" in note for note in notes)
    assert any("too good for others" in note for note in notes)


def test_result_says_when_the_calibration_does_not_hold() -> None:
    llr, truth = gaussian_llr(1_000, 4.0)
    result = calibrate(
        table_of(llr + 6, truth), table_of(llr, truth, "held"), costs=DetectionCosts()
    )
    assert not result.holds
    assert any("does not hold" in note for note in result.notes)


def test_held_trials_with_names_of_the_fit_are_pointed_out() -> None:
    llr, truth = gaussian_llr(100, 4.0)
    table = table_of(llr, truth)
    notes = calibrate(table, table, costs=DetectionCosts()).notes
    assert any("200 of the 200 held trials" in note for note in notes)


def test_unknown_truth_is_refused() -> None:
    with pytest.raises(MetricError, match="truth of the 2 scores"):
        calibrate(table_of([1.0, 2.0], None), costs=DetectionCosts())


def test_figures_of_calibrated_llrs_are_near_their_minimum() -> None:
    llr, truth = gaussian_llr(50_000, 4.0)
    figures = llr_figures(llr, truth, DetectionCosts())
    assert figures.min_cllr <= figures.cllr < figures.min_cllr + 2e-3
    assert figures.min_dcf <= figures.act_dcf < figures.min_dcf + 5e-3


# --- the contract --------------------------------------------------------------------------------

CONTRACT = contract_of(architecture="AASIST", checkpoint_sha256="ab" * 32)


def test_calibration_survives_the_contract_and_its_json(tmp_path: Path) -> None:
    llr, truth = gaussian_llr(300, 4.0)
    found = fit_affine(llr, truth, scores_sha256="cd" * 32)
    contract = replace(CONTRACT, calibration=found.to_dict(), thresholds={"eer": 0.1 + 0.2})
    read = ModelContract.from_metadata(contract.to_metadata(), Path("model.onnx"))
    beside = tmp_path / "model.plan.json"  # the form in which a TensorRT plan has its contract
    beside.write_text(json.dumps(contract.to_dict()), encoding="utf-8")
    from_json = ModelContract.from_dict(json.loads(beside.read_text(encoding="utf-8")), beside)
    assert from_json == contract
    for held in (read, from_json):
        assert held.calibration is not None
        assert Calibration.from_dict(held.calibration) == found
        assert held.thresholds == {"eer": 0.1 + 0.2}


def test_keys_that_are_not_known_are_left_out() -> None:
    held = {"scale": 2, "offset": -1.0, "fitted_by": "another tool"}
    assert Calibration.from_dict(held) == Calibration(scale=2, offset=-1.0)


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"scale": 1.0},
        3,
        [1.0, 0.0],
        {"scale": 0.0, "offset": 0.0},
        {"scale": -1.0, "offset": 0.0},
        {"scale": math.inf, "offset": 0.0},
        {"scale": "1", "offset": 0.0},
        {"scale": 1.0, "offset": None},
        {"scale": True, "offset": 0.0},
        {"scale": 1.0, "offset": math.nan},
    ],
)
def test_calibration_that_is_none_is_refused(held: Any, fake_engine: Any) -> None:
    with pytest.raises(ModelFileError, match="calibration"):
        Calibration.from_dict(held)
    with pytest.raises(ModelFileError, match="calibration"):
        fake_engine(calibration=held)


# --- engines -------------------------------------------------------------------------------------


def test_engine_derives_llr_and_probability_from_its_score(fake_engine: Any) -> None:
    engine = fake_engine(calibration={"scale": 0.5, "offset": 1.0})
    waves = np.array([[0.2], [0.0], [-0.2]], np.float32).repeat(800, axis=1)
    np.testing.assert_allclose(
        engine.llr(waves), 0.5 * engine.score(waves).astype(np.float64) + 1.0, rtol=1e-12
    )
    np.testing.assert_allclose(
        engine.p_spoof(waves, 0.05),
        1 / (1 + np.exp(engine.llr(waves) + math.log(0.95 / 0.05))),
        rtol=1e-12,
    )
    assert engine.llr(waves).dtype == np.float64
    assert (np.diff(engine.p_spoof(waves)) > 0).all()


def test_engine_without_calibration_has_no_probability(fake_engine: Any) -> None:
    engine, waves = fake_engine(), np.zeros((1, 800), np.float32)
    for method in (engine.llr, engine.p_spoof):
        with pytest.raises(ModelFileError, match="not calibrated") as raised:
            method(waves)
        assert "aasist-deploy calibrate" in str(raised.value.fix)
    assert engine.batches == []


# --- fusion --------------------------------------------------------------------------------------


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


def test_examples_of_the_documentation_say_what_happens() -> None:
    page = Path(__file__).parents[2] / "docs" / "calibration.md"
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted > 5
    assert results.failed == 0
