from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import (
    ASVSPOOF5_ASV,
    Compat,
    FixedAsvRates,
    TandemCosts2021,
    asv_error_rates,
    min_tdcf_2019,
    min_tdcf_2021,
)

ASV = FixedAsvRates(pfa=0.02, pmiss=0.03, pfa_spoof=0.75)
BOTH: tuple[Compat, ...] = ("corrected", "official")
TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)
ROUNDING = 1e-12


def test_weights_of_a_case_by_hand() -> None:
    # Ptar 0.9405, Pnon 0.0095, Pspoof 0.05, costs 1, 10, 10.
    result = min_tdcf_2021([1.0, 2.0, 3.0], [0.0, 1.5], ASV)
    assert result.c0 == pytest.approx(0.9405 * 0.03 + 0.095 * 0.02, abs=ROUNDING)  # 0.030115
    assert result.c1 == pytest.approx(0.9405 - 0.030115, abs=ROUNDING)  # 0.910385
    assert result.c2 == pytest.approx(0.5 * 0.75, abs=ROUNDING)  # 0.375


@pytest.mark.parametrize("compat", BOTH)
def test_tdcf_of_a_case_by_hand(compat: Compat) -> None:
    # Threshold 1 accepts half of the spoofs, which costs 0.1875; threshold 2 rejects a third of
    # the bona fide, which costs 0.303. So (0.030115 + 0.1875) / (0.030115 + 0.375).
    result = min_tdcf_2021([1.0, 2.0, 3.0], [0.0, 1.5], ASV, compat=compat)
    assert result.value == pytest.approx(0.217615 / 0.405115, abs=ROUNDING)


@pytest.mark.parametrize("compat", BOTH)
def test_perfect_countermeasure_gets_the_share_of_the_asv_system(compat: Compat) -> None:
    result = min_tdcf_2021([2.0, 3.0], [0.0, 1.0], ASV, compat=compat)
    assert result.value == result.lowest_possible
    assert result.value == pytest.approx(0.030115 / (0.030115 + 0.375), abs=ROUNDING)


def test_constant_scores_cost_as_much_as_no_countermeasure() -> None:
    assert min_tdcf_2021([1.0] * 5, [1.0] * 9).value == 1.0


def test_fixed_rates_of_asvspoof_5_are_the_default() -> None:
    assert min_tdcf_2021([1.0], [0.0]) == min_tdcf_2021([1.0], [0.0], ASVSPOOF5_ASV)
    rates = ASVSPOOF5_ASV.pfa, ASVSPOOF5_ASV.pmiss, ASVSPOOF5_ASV.pfa_spoof
    assert [f"{rate:.6f}" for rate in rates] == ["0.018810", "0.018801", "0.460708"]


@given(bonafide=TIED, spoof=TIED, compat=st.sampled_from(BOTH))
def test_the_two_forms_order_systems_alike(
    bonafide: list[float], spoof: list[float], compat: Compat
) -> None:
    # With equal costs C1 and C2 are the same, so 2021 = (C0 + m v) / (C0 + m) of 2019's v.
    old = min_tdcf_2019(bonafide, spoof, ASV, compat=compat)
    new = min_tdcf_2021(bonafide, spoof, ASV, compat=compat)
    assert (new.c1, new.c2) == pytest.approx((old.c1, old.c2), abs=ROUNDING)
    smaller = min(new.c1, new.c2)
    expected = (new.c0 + smaller * old.value) / (new.c0 + smaller)
    assert new.value == pytest.approx(expected, abs=ROUNDING)


@given(bonafide=TIED, spoof=TIED)
def test_value_lies_between_the_bound_and_one(bonafide: list[float], spoof: list[float]) -> None:
    result = min_tdcf_2021(bonafide, spoof, ASV)
    assert result.lowest_possible <= result.value <= 1


@given(bonafide=TIED, spoof=TIED)
def test_monotone_transform_leaves_tdcf_alone(bonafide: list[float], spoof: list[float]) -> None:
    transformed = min_tdcf_2021(np.exp(bonafide), np.exp(spoof), ASV)
    assert transformed.value == min_tdcf_2021(bonafide, spoof, ASV).value


def test_rates_of_asv_scores_give_the_spoofs_accepted() -> None:
    asv = SimpleNamespace(
        target=np.array([1.0, 2.0, 3.0, 4.0]),
        nontarget=np.array([-2.0, -1.0, 0.0, 1.5]),
        spoof=np.array([0.5, 1.2, 9.0]),
    )
    rates = asv_error_rates(asv)
    assert rates.pfa_spoof == 1 - 2 / 3
    assert min_tdcf_2021([1.0], [0.0], rates).c2 == pytest.approx(0.5 / 3)


def test_asv_worse_than_useless_is_refused() -> None:
    with pytest.raises(MetricError, match=r"C1 = -0\.095"):
        min_tdcf_2021([1.0], [0.0], FixedAsvRates(pfa=1.0, pmiss=1.0, pfa_spoof=1.0))


def test_asv_without_any_error_leaves_nothing_to_divide_by() -> None:
    with pytest.raises(MetricError, match="C2 = 0"):
        min_tdcf_2021([1.0], [0.0], FixedAsvRates(pfa=0.0, pmiss=0.0, pfa_spoof=0.0))


def test_rates_are_shares() -> None:
    with pytest.raises(MetricError, match=r"each must be in \[0, 1\]"):
        FixedAsvRates(pfa=1.88, pmiss=1.88, pfa_spoof=46.0)


def test_priors_must_add_up_to_one() -> None:
    with pytest.raises(MetricError, match="add up to 1"):
        TandemCosts2021(p_spoof=0.1)
