"""Thresholds for a wanted rate, and what so few trials can show of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.calibration import (
    calibrate,
    operating_point,
    rate_upper_bound,
    threshold_for_false_alarms,
    threshold_for_misses,
    trials_to_show,
)
from aasist_deploy.errors import UsageError
from aasist_deploy.metrics.dcf import DetectionCosts
from tests.unit.calibration.known import CLASS, table_of


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
