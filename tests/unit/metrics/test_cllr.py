from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.metrics import cllr, min_cllr, pav
from aasist_deploy.metrics.cllr import bits_of_bins
from aasist_deploy.metrics.pav import _pool_on_a_stack, pool

TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any), min_size=1, max_size=40
)
ROUNDING = 1e-12


def test_ratios_that_say_nothing_cost_one_bit() -> None:
    assert cllr([0.0, 0.0], [0.0]) == 1.0
    assert min_cllr([3.0, 3.0], [3.0]) == 1.0


def test_cllr_of_a_small_case_by_hand() -> None:
    expected = (math.log2(1 + math.exp(-1)) + (math.log2(1 + math.exp(-2)) + 1) / 2) / 2
    assert cllr([1.0], [-2.0, 0.0]) == pytest.approx(expected, abs=ROUNDING)


def test_huge_scores_do_not_overflow() -> None:
    assert cllr([-5000.0], [-5000.0]) == pytest.approx(5000 / math.log(2) / 2)
    assert cllr([5000.0], [-5000.0]) == 0.0


def test_min_cllr_of_perfect_scores_is_zero() -> None:
    assert min_cllr([2.0, 3.0], [0.0, 1.0]) == 0.0


@given(bonafide=TIED, spoof=TIED)
def test_min_cllr_is_never_above_cllr(bonafide: list[float], spoof: list[float]) -> None:
    assert 0 <= min_cllr(bonafide, spoof) <= min(1.0, cllr(bonafide, spoof)) + ROUNDING


@given(bonafide=TIED, spoof=TIED, scale=st.floats(0.1, 3), offset=st.floats(-2, 2))
def test_no_affine_calibration_beats_pav(
    bonafide: list[float], spoof: list[float], scale: float, offset: float
) -> None:
    calibrated = cllr(scale * np.array(bonafide) + offset, scale * np.array(spoof) + offset)
    assert min_cllr(bonafide, spoof) <= calibrated + ROUNDING


@given(bonafide=TIED, spoof=TIED)
def test_monotone_transform_leaves_min_cllr_alone(
    bonafide: list[float], spoof: list[float]
) -> None:
    assert min_cllr(np.exp(bonafide), np.exp(spoof)) == min_cllr(bonafide, spoof)


@given(bonafide=TIED, spoof=TIED)
def test_swapped_labels_and_signs_leave_min_cllr_alone(
    bonafide: list[float], spoof: list[float]
) -> None:
    mirrored = min_cllr(np.negative(spoof), np.negative(bonafide))
    assert mirrored == pytest.approx(min_cllr(bonafide, spoof), abs=ROUNDING)


@given(bonafide=TIED, spoof=TIED)
def test_ratios_of_the_bins_cost_min_cllr(bonafide: list[float], spoof: list[float]) -> None:
    bins = pav(bonafide, spoof)
    at = [np.searchsorted(bins.thresholds, of, side="right") - 1 for of in (bonafide, spoof)]
    with np.errstate(over="ignore"):
        costs = [np.log2(1 + np.exp(sign * bins.llr[of])) for sign, of in zip((-1, 1), at)]  # noqa: B905
    assert (costs[0].mean() + costs[1].mean()) / 2 == pytest.approx(
        min_cllr(bonafide, spoof), abs=1e-9
    )


@given(bonafide=TIED, spoof=TIED)
def test_shares_of_bona_fide_grow_strictly_from_bin_to_bin(
    bonafide: list[float], spoof: list[float]
) -> None:
    bins = pav(bonafide, spoof)
    assert (np.diff(bins.n_bonafide / (bins.n_bonafide + bins.n_spoof)) > 0).all()
    assert (np.diff(bins.llr) > 0).all()
    assert (bins.n_bonafide.sum(), bins.n_spoof.sum()) == (len(bonafide), len(spoof))
    assert bins.thresholds[0] == min(bonafide + spoof)


@given(STEPS)
def test_both_ways_of_pooling_agree(steps: list[tuple[int, int]]) -> None:
    n_bonafide, n_spoof = np.array(steps, dtype=np.int64).T
    fast = pool(n_bonafide, n_spoof)
    slow = _pool_on_a_stack(np.arange(len(steps)), n_bonafide, n_spoof)
    for a, b in zip(fast, slow, strict=True):
        assert a.tolist() == b.tolist()


def test_a_staircase_that_falls_at_its_end_is_pooled_in_one_walk() -> None:
    # Each pass would merge one step alone; the walk takes over and ends with one bin.
    n = 5_000
    n_bonafide = np.append(np.arange(1, n), 0)
    n_spoof = np.append(np.full(n - 1, 1), 10**9)
    starts, b, s = pool(n_bonafide, n_spoof)
    assert (starts.tolist(), b.tolist()) == ([0], [n_bonafide.sum()])
    assert bits_of_bins(b, s) == 1.0
