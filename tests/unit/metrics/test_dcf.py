from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import Compat, DetectionCosts, act_dcf, min_dcf

BOTH: tuple[Compat, ...] = ("corrected", "official")
TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)
ROUNDING = 1e-12


def test_bayes_threshold_of_asvspoof_5_is_minus_ln_1_9() -> None:
    assert DetectionCosts().bayes_threshold == pytest.approx(-math.log(1.9), abs=1e-15)


@pytest.mark.parametrize("compat", BOTH)
def test_min_dcf_of_a_small_case_by_hand(compat: Compat) -> None:
    # Threshold 1 accepts half of the spoofs: 0.5 * 0.5 / 0.5; threshold 2 rejects a third of the
    # bona fide: 0.95 / 3 / 0.5.
    result = min_dcf([1.0, 2.0, 3.0], [0.0, 1.5], compat=compat)
    assert result.value == pytest.approx(min(0.5, 0.95 / 3 / 0.5), abs=ROUNDING)


@pytest.mark.parametrize("compat", BOTH)
def test_min_dcf_of_perfect_scores_is_zero(compat: Compat) -> None:
    assert min_dcf([2.0, 3.0], [0.0, 1.0], compat=compat).value == 0.0


def test_min_dcf_of_constant_scores_is_one() -> None:
    assert min_dcf([1.0] * 4, [1.0] * 9).value == 1.0


@given(bonafide=TIED, spoof=TIED)
def test_ties_make_no_difference_between_the_modes(
    bonafide: list[float], spoof: list[float]
) -> None:
    # Misses come first within an official tie: its inner points cost more than its ends.
    official = min_dcf(bonafide, spoof, compat="official").value
    assert official == pytest.approx(min_dcf(bonafide, spoof).value, abs=ROUNDING)


@given(bonafide=TIED, spoof=TIED)
def test_monotone_transform_leaves_min_dcf_alone(bonafide: list[float], spoof: list[float]) -> None:
    assert min_dcf(np.exp(bonafide), np.exp(spoof)).value == min_dcf(bonafide, spoof).value


@given(bonafide=TIED, spoof=TIED)
def test_act_dcf_is_never_below_min_dcf(bonafide: list[float], spoof: list[float]) -> None:
    assert act_dcf(bonafide, spoof).value >= min_dcf(bonafide, spoof).value - ROUNDING


def test_act_dcf_counts_at_the_bayes_threshold_by_hand() -> None:
    # -0.642 rejects one of two bona fide and accepts one of four spoofs.
    result = act_dcf([-0.65, 5.0], [-0.64, -1.0, -2.0, -3.0])
    assert result.value == pytest.approx((0.95 / 2 + 0.5 / 4) / 0.5, abs=ROUNDING)
    assert result.threshold == pytest.approx(-0.6418538861723947)


@pytest.mark.parametrize("p_spoof", [0.0, 1.0, -0.1])
def test_priors_outside_the_open_interval_are_refused(p_spoof: float) -> None:
    with pytest.raises(MetricError, match="between 0 and 1"):
        DetectionCosts(p_spoof=p_spoof)


@pytest.mark.parametrize(
    "costs",
    [
        {"cost_fa": math.inf},
        {"cost_miss": math.inf},
        {"cost_miss": math.inf, "cost_fa": math.inf},
        {"cost_miss": 1e-300, "cost_fa": 1e300},
        {"p_spoof": 5e-324, "cost_fa": 0.1},
    ],
)
def test_costs_without_a_threshold_are_refused(costs: dict[str, float]) -> None:
    with pytest.raises(MetricError, match="there is no threshold"):
        DetectionCosts(**costs)
