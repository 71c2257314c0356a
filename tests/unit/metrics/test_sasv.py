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
    asv_error_rates,
    det_curve,
    min_a_dcf,
    min_tdcf_2021,
    split_by_label,
    summarize_sasv,
    t_eer,
    three_classes,
)
from aasist_deploy.metrics.rates import official_curve
from aasist_deploy.metrics.three_classes import ThreeClasses, three_rates

BOTH: tuple[Compat, ...] = ("corrected", "official")
TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)
LABELS = np.repeat(["target", "nontarget", "spoof"], [400, 600, 1000])
ROUNDING = 1e-12
# The official search takes the nearest pair of trials of a few hundred in each class.
NEAREST_ATOL = 2e-3  # measured 4.0e-4
FINE_ATOL = 5e-5  # a hundred points to each step of the curve; measured 1.3e-5


def tandem(seed: int = 0, cm: float = 3.0, asv: float = 3.0) -> tuple[ThreeClasses, ThreeClasses]:
    """Countermeasure and ASV scores of one set of trials, drawn independently."""
    random = np.random.default_rng(seed)
    sizes = 400, 600, 1000
    return (
        three_classes(*(random.normal(m, 1, n) for m, n in zip((cm, cm, 0), sizes, strict=True))),
        three_classes(
            *(random.normal(m, 1, n) for m, n in zip((asv, 0, asv - 1), sizes, strict=True))
        ),
    )


@pytest.mark.parametrize("compat", BOTH)
def test_a_dcf_of_a_case_by_hand(compat: Compat) -> None:
    # Threshold 3 misses one of two targets: 0.9405 / 2; threshold 2 accepts one of two spoofs:
    # 0.5 / 2. Accepting all costs 0.095 + 0.5, rejecting all 0.9405.
    result = min_a_dcf([2.0, 4.0], [0.0, 1.0], [0.5, 2.5], compat=compat)
    assert result.value == pytest.approx(0.25 / 0.595, abs=ROUNDING)


@pytest.mark.parametrize("compat", BOTH)
def test_a_dcf_of_perfect_scores_is_zero(compat: Compat) -> None:
    assert min_a_dcf([3.0], [0.0], [1.0], compat=compat).value == pytest.approx(0, abs=ROUNDING)


def test_a_dcf_of_constant_scores_is_one() -> None:
    assert min_a_dcf([1.0] * 3, [1.0] * 5, [1.0] * 2).value == pytest.approx(1, abs=ROUNDING)


@given(target=TIED, nontarget=TIED, spoof=TIED)
def test_monotone_transform_leaves_a_dcf_alone(
    target: list[float], nontarget: list[float], spoof: list[float]
) -> None:
    transformed = min_a_dcf(np.exp(target), np.exp(nontarget), np.exp(spoof))
    assert transformed.value == min_a_dcf(target, nontarget, spoof).value


@given(target=TIED, nontarget=TIED, spoof=TIED)
def test_ties_make_no_difference_between_the_modes_of_a_dcf(
    target: list[float], nontarget: list[float], spoof: list[float]
) -> None:
    official = min_a_dcf(target, nontarget, spoof, compat="official").value
    corrected = min_a_dcf(target, nontarget, spoof).value
    assert official == pytest.approx(corrected, abs=ROUNDING)


@pytest.mark.parametrize("seed", range(3))
def test_official_t_eer_is_what_the_search_over_all_pairs_finds(seed: int) -> None:
    cm, asv = tandem(seed)
    # Ties and steps of one trial, so that the bisection has plateaus to get wrong.
    cm = ThreeClasses(*(of.round(1) for of in cm))
    asv = ThreeClasses(*(of.round(1) for of in asv))
    _, pfa_cm, pmiss_cm = official_curve(np.concatenate(cm[:2]), cm.spoof)
    _, pmiss, pfa, pfa_spoof = three_rates(asv, compat="official")
    best, found = np.inf, np.nan
    for i in range(pmiss.size):
        if not pmiss[i] < 0.5 * pfa[i] + 0.5 * pfa_spoof[i]:
            continue
        miss = pmiss_cm + (1 - pmiss_cm) * pmiss[i]
        accept = 0.5 * (1 - pmiss_cm) * pfa[i] + 0.5 * pfa_cm * pfa_spoof[i]
        j = int(np.argmin(np.abs(miss - accept)))
        if pfa_spoof[i] == 0 or pmiss_cm[j] == 1:
            continue
        apart = abs(pfa[i] / pfa_spoof[i] - pfa_cm[j] / (1 - pmiss_cm[j]))
        if apart < best:
            best, found = apart, pfa_spoof[i] * pfa_cm[j]
    assert t_eer(cm, asv, compat="official") == found


@pytest.mark.parametrize("seed", range(5))
def test_at_the_corrected_t_eer_three_rates_of_the_tandem_are_one(seed: int) -> None:
    cm, asv = tandem(seed)
    rate = t_eer(cm, asv)
    finely = np.linspace(0, 1, 200_000)
    _, pmiss, pfa, pfa_spoof = (
        np.interp(finely, np.linspace(0, 1, of.size), of) for of in three_rates(asv)
    )
    d = (pfa - pmiss)[pfa >= pmiss]
    _, pfa_cm, pmiss_cm = det_curve(np.concatenate(cm[:2]), cm.spoof)
    miss_cm = d / (1 + d)
    of_targets = miss_cm + (1 - miss_cm) * pmiss[: d.size]
    of_nontargets = (1 - miss_cm) * pfa[: d.size]
    np.testing.assert_allclose(of_targets, of_nontargets, atol=ROUNDING)
    of_spoofs = np.interp(miss_cm, pmiss_cm, pfa_cm) * pfa_spoof[: d.size]
    first = int(np.flatnonzero(of_spoofs > of_nontargets)[0])
    assert rate == pytest.approx(of_nontargets[first], abs=FINE_ATOL)
    assert t_eer(cm, asv, compat="official") == pytest.approx(rate, abs=NEAREST_ATOL)


def test_perfect_countermeasure_leaves_the_eer_of_the_asv_system() -> None:
    _, asv = tandem()
    perfect = three_classes(np.ones(400), np.ones(600), np.zeros(1000))
    own = asv_error_rates(SimpleNamespace(**asv._asdict()))
    assert t_eer(perfect, asv) == pytest.approx(own.eer, abs=ROUNDING)


def test_monotone_transforms_leave_corrected_t_eer_alone() -> None:
    cm, asv = tandem()
    transformed = ThreeClasses(*map(np.exp, cm)), ThreeClasses(*(of**3 for of in asv))
    assert t_eer(*transformed) == t_eer(cm, asv)


def test_order_of_trials_has_no_part_in_corrected_t_eer() -> None:
    cm, asv = (ThreeClasses(*(of.round(1) for of in part)) for part in tandem())
    random = np.random.default_rng(1)
    shuffled = [ThreeClasses(*map(random.permutation, part)) for part in (cm, asv)]
    assert t_eer(*shuffled) == t_eer(cm, asv)


def test_countermeasure_worse_than_chance_has_no_concurrent_rate() -> None:
    cm, asv = tandem(cm=-3.0)
    with pytest.raises(MetricError, match="no concurrent t-EER"):
        t_eer(cm, asv)


@pytest.mark.parametrize("compat", BOTH)
def test_reference_asv_scores_show_the_fault_of_the_official_package(compat: Compat) -> None:
    cm, asv = tandem()
    reference = SimpleNamespace(**asv._asdict())
    result = summarize_sasv(
        LABELS, cm_scores=np.concatenate(cm), reference_asv=reference, compat=compat
    )
    rates = asv_error_rates(reference, compat=compat)
    assert rates.pfa_spoof > 0.6
    given = rates.pmiss_spoof if compat == "official" else rates.pfa_spoof
    assert result.asv.pfa_spoof == given
    assert result.min_tdcf_2021 is not None
    assert result.min_tdcf_2021.c2 == pytest.approx(0.5 * given)


def test_summary_without_parts_says_what_is_missing() -> None:
    result = summarize_sasv(LABELS, sasv_scores=np.arange(2000.0)[::-1]).to_dict()
    assert result["min_a_dcf"] is not None
    assert result["t_eer_percent"] is None
    assert result["t_eer_note"] == "There are no countermeasure scores."
    assert result["min_tdcf_2021_note"] == "There are no countermeasure scores."
    assert (result["n_target"], result["n_nontarget"], result["n_spoof"]) == (400, 600, 1000)


def test_summary_takes_the_fixed_rates_without_reference_scores() -> None:
    cm, asv = tandem()
    scores = np.concatenate(cm), np.concatenate(asv)
    result = summarize_sasv(LABELS, cm_scores=scores[0], asv_scores=scores[1])
    expected = min_tdcf_2021(np.concatenate(cm[:2]), cm.spoof, ASVSPOOF5_ASV)
    assert result.min_tdcf_2021 == expected
    assert result.t_eer == t_eer(cm, asv)
    assert result.to_dict()["min_a_dcf_note"] == "There are no scores of the whole system."


def test_unknown_labels_and_empty_classes_are_refused() -> None:
    with pytest.raises(MetricError, match="the label 'bonafide'"):
        split_by_label([1.0, 2.0], ["target", "bonafide"])
    with pytest.raises(MetricError, match="1 target, 1 nontarget and 0 spoofed"):
        split_by_label([1.0, 2.0], ["target", "nontarget"])
    with pytest.raises(MetricError, match="vectors of one length"):
        split_by_label([1.0, 2.0], ["target"])
    with pytest.raises(MetricError, match="1 of 3 scores are NaN"):
        three_classes([np.nan], [0.0], [0.0])
