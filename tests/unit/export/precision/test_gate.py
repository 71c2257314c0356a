from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aasist_deploy.errors import UsageError
from aasist_deploy.export.precision.gate import (
    GateAudio,
    GateLimits,
    compare_measured,
    stress_waves,
)
from aasist_deploy.export.precision.measuring import Measured

WAVES = np.zeros((4, 8), np.float32)
LIMITS = GateLimits.of("fp16")
TRUTH = np.array([True, True, False, False])
ASV: Any = SimpleNamespace(pfa=0.02, pmiss=0.02, pmiss_spoof=0.3)


def measured(scores: list[float], order: list[list[int]] | None = None) -> Measured:
    kept = {} if order is None else {"pool": np.array(order)}
    return Measured(np.array(scores, np.float64), kept)


def report(a: Measured, b: Measured, limits: GateLimits = LIMITS, **audio: Any) -> Any:
    return compare_measured(a, b, GateAudio(waves=WAVES, **audio), limits)


def test_equal_scores_hold() -> None:
    same = measured([3.0, 1.0, -1.0, -4.0], [[0, 1]] * 4)
    found = report(same, same, bona_fide=TRUTH, asv=ASV)
    assert found.holds
    assert (found.max_difference, found.flips, found.rank_correlation) == (0.0, 0, 1.0)
    assert found.eer == (0.0, 0.0)
    assert found.min_tdcf == (0.0, 0.0)
    assert found.topk_changes == {"pool": 0}


def test_a_difference_over_the_limit_is_a_breach() -> None:
    found = report(measured([3.0, 1.0, -1.0, -4.0]), measured([3.06, 1.0, -1.0, -4.0]))
    assert found.breaches == ("a score differs by 0.06, over 0.05",)


def test_a_decision_that_flips_is_a_breach_at_the_given_threshold() -> None:
    a, b = measured([3.0, 1.0, -1.0, -4.0]), measured([3.0, 0.98, -1.0, -4.0])
    assert report(a, b, threshold=0.0).holds
    assert report(a, b, threshold=0.99).breaches == ("1 decisions at 0.99 flip",)


def test_with_the_truth_the_threshold_is_the_equal_error_one() -> None:
    a = measured([3.0, 1.0, -1.0, -4.0])
    assert report(a, a, bona_fide=TRUTH).threshold == 0.0
    b = measured([13.0, 11.0, 9.0, 6.0])
    assert report(b, b, bona_fide=TRUTH).threshold == 10.0


def test_nan_is_a_breach() -> None:
    found = report(measured([3.0, 1.0, -1.0, -4.0]), measured([np.nan, 1.0, -1.0, -4.0]))
    assert not found.holds
    assert found.to_dict()["max_difference"] is None


def test_other_nodes_and_another_order_are_told_apart() -> None:
    a = measured([3.0, 1.0, -1.0, -4.0], [[0, 1], [0, 1], [0, 1], [0, 1]])
    b = measured([3.0, 1.0, -1.0, -4.0], [[0, 1], [1, 0], [0, 2], [2, 0]])
    found = report(a, b)
    assert (found.topk_changes, found.topk_reordered) == ({"pool": 2}, {"pool": 1})
    assert found.holds
    strict = GateLimits(difference=0.05, topk_changes=1)
    assert report(a, b, strict).breaches == ("pool keeps other nodes on 2 clips, over 1",)


def test_error_rates_are_a_limit_only_when_given() -> None:
    a, b = measured([3.0, 1.0, -1.0, -4.0]), measured([3.0, -2.0, -1.0, -4.0])
    loose = GateLimits(difference=9.0, flips=4, rank_correlation=0.0)
    strict = GateLimits(
        difference=9.0, flips=4, rank_correlation=0.0, eer_change=0.0, min_tdcf_change=0.0
    )
    assert report(a, b, loose, bona_fide=TRUTH, asv=ASV).holds
    breaches = report(a, b, strict, bona_fide=TRUTH, asv=ASV).breaches
    assert [text.split(" goes")[0] for text in breaches] == ["the EER", "the min t-DCF"]


def test_an_overflow_is_a_breach_wherever_it_is() -> None:
    same = measured([3.0, 1.0, -1.0, -4.0])
    audio = GateAudio(waves=WAVES)
    found = compare_measured(same, same, audio, LIMITS, largest={"a": 3.0, "b": np.inf})
    assert found.breaches == ("b overflows",)
    found = compare_measured(same, same, audio, LIMITS, stress={"loud": np.nan, "silent": 0.0})
    assert found.breaches == ("the score of the wave 'loud' is not finite",)


def test_there_must_be_audio_and_a_label_for_each_clip() -> None:
    with pytest.raises(UsageError, match="no audio to check"):
        GateAudio(waves=WAVES[:0])
    with pytest.raises(UsageError, match="4 clips and 3 labels"):
        GateAudio(waves=WAVES, bona_fide=TRUTH[:3])


def test_stress_waves_are_audio_that_can_be() -> None:
    waves = stress_waves(16_000)
    assert {"silent", "clipped", "loud square, 100 Hz", "random"} <= set(waves)
    for wave in waves.values():
        assert wave.dtype == np.float32
        assert len(wave) == 16_000
        assert np.abs(wave).max() <= 1.0
