from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aasist_deploy.degradations.base import NotApplicableError
from aasist_deploy.degradations.level import (
    FRAME_SECONDS,
    active_frames,
    active_power,
    clip_to_fraction,
    gain,
    level_conditions,
    to_int16,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GAIN_RTOL = 2.0**-23  # a rounding to float32 on either side
WAVES = arrays(
    np.float32, st.integers(1, 900), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


@pytest.mark.parametrize("gain_db", [-24, -6, 6, 12])
def test_gain_is_that_many_decibels(gain_db: int, speech: Callable[..., Any]) -> None:
    wave = speech()
    louder = gain(wave, gain_db)
    ratio = np.sum(louder.astype(np.float64) ** 2) / np.sum(wave.astype(np.float64) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(gain_db, abs=1e-6)
    np.testing.assert_allclose(louder, wave * 10.0 ** (gain_db / 20), rtol=GAIN_RTOL)


def test_gain_in_float_does_not_clip_and_int16_does(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    by_name = {one.name: one for one in level_conditions()}
    wave = speech()
    assert np.abs(by_name["gain+12dB"].apply(wave, context())).max() == pytest.approx(
        1.99, abs=0.01
    )
    clipped = by_name["gain+12dB-int16"].apply(wave, context())
    assert clipped.max() == 32767 / 32768
    assert clipped.min() >= -1
    steps = clipped * 32768
    np.testing.assert_array_equal(steps, np.rint(steps))


def test_sixteen_bit_audio_is_on_the_grid_already() -> None:
    wave = (np.arange(-32768, 32768) / 32768).astype(np.float32)
    np.testing.assert_array_equal(to_int16(wave), wave)


def test_clipping_cuts_at_the_fraction_of_the_peak_and_nothing_below(
    speech: Callable[..., Any],
) -> None:
    wave = speech()
    cut = clip_to_fraction(wave, 0.25)
    peak = np.abs(wave).max()
    assert np.abs(cut).max() == pytest.approx(0.25 * peak, rel=GAIN_RTOL)
    below = np.abs(wave) <= 0.25 * peak
    np.testing.assert_array_equal(cut[below], wave[below])
    assert 0 < below.mean() < 1


def test_pauses_do_not_count_towards_the_level() -> None:
    tone = np.full(3_200, 0.5, np.float32)  # ten whole frames
    paused = np.concatenate([np.full(6_400, 1e-4, np.float32), tone, np.zeros(6_400, np.float32)])
    assert active_power(paused, 16_000) == pytest.approx(0.25)
    active, size = active_frames(paused, 16_000)
    assert size == round(FRAME_SECONDS * 16_000)
    assert np.flatnonzero(active).tolist() == list(range(20, 30))


def test_silence_has_no_level() -> None:
    with pytest.raises(NotApplicableError, match="silence"):
        active_power(np.zeros(500, np.float32), 16_000)


@given(WAVES)
def test_every_level_condition_keeps_length_type_and_input(wave: Any) -> None:
    from aasist_deploy.degradations.base import Context

    before = wave.copy()
    context = Context(utterance="u", sample_rate_hz=16_000, n_samples=800)
    for condition in level_conditions():
        changed = condition.apply(wave, context)
        assert changed.shape == wave.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
    np.testing.assert_array_equal(wave, before)
