from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import (
    AsvErrorRates,
    Compat,
    TandemCosts,
    asv_error_rates,
    eer,
    min_tdcf_2019,
)

ASV = AsvErrorRates(threshold=0.0, pfa=0.02, pmiss=0.03, pmiss_spoof=0.25, eer=0.025)
BOTH: tuple[Compat, ...] = ("corrected", "official")
TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)


@pytest.mark.parametrize("compat", BOTH)
def test_perfect_countermeasure_costs_nothing(compat: Compat) -> None:
    result = min_tdcf_2019([2.0, 3.0], [0.0, 1.0], ASV, compat=compat)
    assert result.value == 0.0


def test_constant_scores_cost_as_much_as_no_countermeasure() -> None:
    assert min_tdcf_2019([1.0] * 5, [1.0] * 9, ASV).value == 1.0


def test_tdcf_of_a_small_case_by_hand() -> None:
    c1 = 0.9405 * (1 - 0.03) - 0.0095 * 10 * 0.02
    c2 = 10 * 0.05 * (1 - 0.25)
    # Threshold 1 accepts half of the spoofs, threshold 2 rejects a third of the bona fide.
    expected = min(c2 / 2, c1 / 3) / min(c1, c2)
    result = min_tdcf_2019([1.0, 2.0, 3.0], [0.0, 1.5], ASV)
    assert result.value == pytest.approx(expected, rel=1e-12)


@given(bonafide=TIED, spoof=TIED, compat=st.sampled_from(BOTH))
def test_min_tdcf_is_never_above_one_nor_below_zero(
    bonafide: list[float], spoof: list[float], compat: Compat
) -> None:
    assert 0 <= min_tdcf_2019(bonafide, spoof, ASV, compat=compat).value <= 1


@given(bonafide=TIED, spoof=TIED, times=st.integers(2, 4))
def test_repeating_the_whole_list_leaves_tdcf_alone(
    bonafide: list[float], spoof: list[float], times: int
) -> None:
    once = min_tdcf_2019(bonafide, spoof, ASV).value
    assert min_tdcf_2019(bonafide * times, spoof * times, ASV).value == pytest.approx(once)


@given(bonafide=TIED, spoof=TIED)
def test_ties_make_no_difference_between_the_modes(
    bonafide: list[float], spoof: list[float]
) -> None:
    # Misses come first within an official tie: its inner points cost more than its ends.
    official = min_tdcf_2019(bonafide, spoof, ASV, compat="official").value
    assert official == pytest.approx(min_tdcf_2019(bonafide, spoof, ASV).value, abs=1e-12)


def test_asv_rates_are_those_at_its_own_equal_error_threshold() -> None:
    asv = SimpleNamespace(
        target=np.array([1.0, 2.0, 3.0, 4.0]),
        nontarget=np.array([-2.0, -1.0, 0.0, 1.5]),
        spoof=np.array([0.5, 1.2, 9.0]),
    )
    rates = asv_error_rates(asv)
    own = eer(asv.target, asv.nontarget)
    assert (rates.threshold, rates.eer) == (own.threshold, own.eer)
    assert (rates.pfa, rates.pmiss, rates.pmiss_spoof) == (0.25, 0.25, 2 / 3)


def test_asv_scores_without_spoofs_are_refused() -> None:
    asv = SimpleNamespace(target=np.ones(2), nontarget=np.zeros(2), spoof=np.array([]))
    with pytest.raises(MetricError, match="2 bona fide and 0 spoofed"):
        asv_error_rates(asv)


def test_asv_that_rejects_all_spoofs_leaves_no_cost_to_divide_by() -> None:
    perfect = AsvErrorRates(threshold=0.0, pfa=0.0, pmiss=0.0, pmiss_spoof=1.0, eer=0.0)
    with pytest.raises(MetricError, match="C2 = 0"):
        min_tdcf_2019([1.0], [0.0], perfect)


def test_asv_worse_than_useless_is_refused() -> None:
    reversed_ = AsvErrorRates(threshold=0.0, pfa=1.0, pmiss=1.0, pmiss_spoof=0.0, eer=1.0)
    with pytest.raises(MetricError, match=r"C1 = -0\.095"):
        min_tdcf_2019([1.0], [0.0], reversed_)


def test_default_costs_are_those_of_asvspoof() -> None:
    costs = TandemCosts()
    assert (costs.p_spoof, costs.p_target, costs.p_nontarget) == pytest.approx(
        (0.05, 0.9405, 0.0095)
    )


@pytest.mark.parametrize("p_spoof", [0.1, -0.05])
def test_priors_must_add_up_to_one_and_not_be_negative(p_spoof: float) -> None:
    with pytest.raises(MetricError, match="must not be negative"):
        TandemCosts(p_spoof=p_spoof)
