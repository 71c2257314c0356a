from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import Compat, det_curve, eer

BOTH: tuple[Compat, ...] = ("corrected", "official")
# Few distinct values, so that ties abound.
TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)


@st.composite
def classes_without_ties(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    scores = draw(st.lists(st.integers(-1000, 1000), min_size=2, max_size=50, unique=True))
    cut = draw(st.integers(1, len(scores) - 1))
    return [float(score) for score in scores[:cut]], [float(score) for score in scores[cut:]]


@pytest.mark.parametrize("compat", BOTH)
def test_eer_of_perfect_scores_is_zero(compat: Compat) -> None:
    result = eer([2.0, 3.0], [-1.0, 0.0, 1.0], compat=compat)
    assert result.eer == 0.0


@pytest.mark.parametrize("compat", BOTH)
def test_eer_of_reversed_scores_is_one(compat: Compat) -> None:
    assert eer([-2.0, -3.0], [0.0, 1.0], compat=compat).eer == 1.0


def test_threshold_of_perfect_scores_lies_halfway() -> None:
    assert eer([2.0, 3.0], [-1.0, 0.0]).threshold == 1.0


def test_halfway_between_neighbouring_numbers_still_separates() -> None:
    low = 1.0
    high = float(np.nextafter(low, 2.0))
    assert eer([high], [low]).threshold == high


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (5, 3)])
def test_eer_of_constant_scores_is_one_half(sizes: tuple[int, int]) -> None:
    result = eer([3.0] * sizes[0], [3.0] * sizes[1])
    assert (result.eer, result.threshold) == (0.5, 3.0)


def test_official_eer_of_constant_scores_is_one() -> None:
    assert eer([3.0] * 5, [3.0] * 3, compat="official").eer == 1.0


def test_corrected_eer_of_a_tie_is_interpolated_by_hand() -> None:
    # Steps of the curve: (Pfa, Pmiss) = (1, 0), (1/2, 0), (0, 2/3), (0, 1); it meets the
    # diagonal within the tie at 1, at the share t with 1/2 - t/2 = 2t/3, so t = 3/7.
    assert eer([1.0, 1.0, 2.0], [0.0, 1.0]).eer == float(Fraction(2, 7))


def test_official_eer_is_the_mean_at_the_nearest_point() -> None:
    # Points (Pfa, Pmiss) after each trial: (1, 0), (1, 1/3), (1/2, 1/3), (0, 1/3), ...
    result = eer([-1.0, 2.0, 3.0], [0.0, 1.0], compat="official")
    assert (result.eer, result.threshold) == ((1 / 3 + 1 / 2) / 2, 0.0)


@pytest.mark.parametrize("compat", BOTH)
def test_one_trial_of_a_class_is_enough(compat: Compat) -> None:
    assert 0 <= eer([0.5], [0.0, 1.0, 2.0], compat=compat).eer <= 1


@pytest.mark.parametrize("compat", BOTH)
def test_one_class_alone_is_refused(compat: Compat) -> None:
    with pytest.raises(MetricError, match="3 bona fide and 0 spoofed"):
        eer([1.0, 2.0, 3.0], [], compat=compat)


@given(bonafide=TIED, spoof=TIED, compat=st.sampled_from(BOTH))
def test_monotone_transform_leaves_eer_alone(
    bonafide: list[float], spoof: list[float], compat: Compat
) -> None:
    transformed = eer(np.exp(bonafide), np.exp(spoof), compat=compat)
    assert transformed.eer == eer(bonafide, spoof, compat=compat).eer


@given(bonafide=TIED, spoof=TIED)
def test_swapped_labels_and_signs_mirror_the_curve(
    bonafide: list[float], spoof: list[float]
) -> None:
    mirrored = eer(np.negative(spoof), np.negative(bonafide))
    assert mirrored.eer == pytest.approx(eer(bonafide, spoof).eer, abs=1e-15)


@given(bonafide=TIED, spoof=TIED)
def test_eer_of_scores_and_of_negated_scores_add_up_to_one(
    bonafide: list[float], spoof: list[float]
) -> None:
    negated = eer(np.negative(bonafide), np.negative(spoof))
    assert negated.eer + eer(bonafide, spoof).eer == pytest.approx(1, abs=1e-15)


@given(bonafide=TIED, spoof=TIED, times=st.integers(2, 5))
def test_repeating_the_whole_list_leaves_corrected_eer_alone(
    bonafide: list[float], spoof: list[float], times: int
) -> None:
    assert eer(bonafide * times, spoof * times).eer == eer(bonafide, spoof).eer


@given(bonafide=TIED, spoof=TIED, data=st.data())
def test_order_of_trials_has_no_part_in_eer(
    bonafide: list[float], spoof: list[float], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(bonafide)), data.draw(st.permutations(spoof))
    for compat in BOTH:
        assert eer(*shuffled, compat=compat) == eer(bonafide, spoof, compat=compat)


@given(classes_without_ties())
def test_without_ties_both_modes_agree_to_a_quarter_of_a_step(
    classes: tuple[list[float], list[float]],
) -> None:
    bonafide, spoof = classes
    difference = eer(bonafide, spoof).eer - eer(bonafide, spoof, compat="official").eer
    assert abs(difference) <= 1 / (4 * min(len(bonafide), len(spoof))) + 1e-15


@given(bonafide=TIED, spoof=TIED)
def test_official_eer_never_falls_below_corrected_by_more_than_ties_allow(
    bonafide: list[float], spoof: list[float]
) -> None:
    # Bona fide first within a tie: the official curve lies on or above the true one.
    step = 1 / (4 * min(len(bonafide), len(spoof)))
    assert eer(bonafide, spoof, compat="official").eer >= eer(bonafide, spoof).eer - step - 1e-15


@given(bonafide=TIED, spoof=TIED)
def test_threshold_has_the_rate_between_its_own_errors_and_the_next(
    bonafide: list[float], spoof: list[float]
) -> None:
    result = eer(bonafide, spoof)
    thresholds, pfa, pmiss = det_curve(bonafide, spoof)
    at = int(np.searchsorted(thresholds, result.threshold, side="left"))
    assert pmiss[at] - 1e-15 <= result.eer <= pfa[at] + 1e-15
    after = min(at + 1, len(pfa) - 1)
    assert pfa[after] - 1e-15 <= result.eer <= pmiss[after] + 1e-15


def test_scores_of_any_float_type_are_taken() -> None:
    scores = np.array([1, 0, 1], dtype=np.float16), np.array([0, 0, 1], dtype=np.float32)
    assert eer(*scores).eer == eer([1, 0, 1], [0, 0, 1]).eer
