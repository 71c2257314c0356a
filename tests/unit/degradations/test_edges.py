from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.degradations.base import Context, NotApplicableError
from aasist_deploy.degradations.edges import (
    FLOOR_DB,
    edge_conditions,
    from_offset,
    insert_silence,
    pad,
    trim,
    window_at,
)
from aasist_deploy.degradations.level import active_power

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_silence_is_as_long_as_it_says_and_where_it_says(
    seconds: float, speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave, n_added = speech(), round(seconds * 16_000)
    before = insert_silence(wave, seconds, "lead", "zero", context())
    after = insert_silence(wave, seconds, "trail", "zero", context())
    assert len(before) == len(after) == len(wave) + n_added
    assert not before[:n_added].any()
    assert not after[-n_added:].any()
    np.testing.assert_array_equal(before[n_added:], wave)
    np.testing.assert_array_equal(after[:-n_added], wave)


def test_low_noise_is_low_and_the_speech_stays(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech()
    noisy = insert_silence(wave, 1.0, "lead", "noise", context())
    floor = np.mean(noisy[:16_000].astype(np.float64) ** 2)
    # 16,000 samples of noise estimate their power to about 1 %, 0.05 dB.
    assert 10 * np.log10(floor / active_power(wave, 16_000)) == pytest.approx(FLOOR_DB, abs=0.2)
    np.testing.assert_array_equal(noisy[16_000:], wave)


def test_trimming_takes_off_the_silence_that_was_inserted(context: Callable[..., Any]) -> None:
    loud = np.full(8_000, 0.3, np.float32)  # 25 whole frames
    wave = insert_silence(loud, 0.5, "lead", "noise", context())
    wave = insert_silence(wave, 1.0, "trail", "zero", context())
    np.testing.assert_array_equal(trim(wave, ("lead", "trail"), 16_000), loud)
    assert len(trim(wave, ("lead",), 16_000)) == 8_000 + 16_000
    assert len(trim(wave, ("trail",), 16_000)) == 8_000 + 8_000
    with pytest.raises(NotApplicableError, match="nothing would be left"):
        trim(np.zeros(800, np.float32), ("lead",), 16_000)


def test_padding_rules() -> None:
    wave = np.array([1, 2, 3], np.float32)
    assert pad(wave, "zero", 6).tolist() == [1, 2, 3, 0, 0, 0]
    assert pad(wave, "reflect", 9).tolist() == [1, 2, 3, 2, 1, 2, 3, 2, 1]
    assert pad(wave, "zero", 2) is wave
    with pytest.raises(NotApplicableError, match="any length"):
        pad(wave, "zero", None)
    with pytest.raises(NotApplicableError, match="one sample"):
        pad(wave[:1], "reflect", 4)


def test_offset_leaves_out_the_start_and_needs_a_rest() -> None:
    wave = np.arange(10, dtype=np.float32)
    assert from_offset(wave, 4, 6).tolist() == [4, 5, 6, 7, 8, 9]
    with pytest.raises(NotApplicableError, match=r"10 samples, fewer than 4 \+ 7"):
        from_offset(wave, 4, 7)


def test_middle_and_last_window() -> None:
    wave = np.arange(10, dtype=np.float32)
    assert window_at(wave, "middle", 4).tolist() == [3, 4, 5, 6]
    assert window_at(wave, "last", 4).tolist() == [6, 7, 8, 9]
    np.testing.assert_array_equal(window_at(wave, "middle", 11), wave)
    np.testing.assert_array_equal(window_at(wave, "last", 10), wave)
    with pytest.raises(NotApplicableError, match="whole clip"):
        window_at(wave, "last", None)


def test_length_conditions_keep_that_many_seconds(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech(2.5)
    kept = {one.name: one.apply(wave, context()) for one in edge_conditions()}
    assert [len(kept[f"length-{n}s"]) for n in (1, 2, 3)] == [16_000, 32_000, 40_000]
    np.testing.assert_array_equal(kept["length-2s"], wave[:32_000])


@given(st.integers(1, 70_000), st.integers(0, 3))
def test_every_edge_condition_gives_a_wave_or_says_why_not(n_samples: int, seed: int) -> None:
    wave = np.random.default_rng(seed).uniform(-1, 1, n_samples).astype(np.float32)
    context = Context(utterance=f"u{seed}", sample_rate_hz=16_000, n_samples=64_600)
    before = wave.copy()
    for condition in edge_conditions():
        try:
            changed = condition.apply(wave, context)
        except NotApplicableError:
            assert n_samples < 16_000 + 8_000  # only the offsets, and reflecting one sample
            continue
        assert changed.dtype == np.float32
        assert changed.ndim == 1
        assert len(changed) >= 1
    np.testing.assert_array_equal(wave, before)
