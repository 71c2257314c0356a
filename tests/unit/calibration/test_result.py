"""A calibration with its figures before and after."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest

from aasist_deploy.calibration import (
    calibrate,
    llr_figures,
)
from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.dcf import DetectionCosts
from tests.unit.calibration.known import gaussian_llr, table_of


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


def test_examples_of_the_documentation_say_what_happens() -> None:
    page = Path(__file__).parents[3] / "docs" / "calibration.md"
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted > 5
    assert results.failed == 0
