from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.degradations.level import active_power
from aasist_deploy.degradations.room import (
    PREDELAY_SECONDS,
    convolve,
    room_conditions,
    room_response,
    there_and_back,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Decay fitted to one noisy response: measured within 4 % over twenty seeds.
RT60_RTOL = 0.08
# A tone well inside both bands comes back within soxr HQ's 20 bits; measured 2e-6 at 22,050 Hz.
RESAMPLED_ATOL = 1e-4


@pytest.mark.parametrize("rt60", [0.3, 0.8])
def test_room_decays_by_sixty_decibels_in_rt60(rt60: float) -> None:
    response = room_response(rt60, 16_000, np.random.default_rng(3))
    assert response[0] == 1.0
    assert len(response) == round(rt60 * 16_000)
    first = round(PREDELAY_SECONDS * 16_000)
    assert not response[1:first].any()
    assert np.sum(response[1:] ** 2) == pytest.approx(1.0)  # as strong as the direct path
    remaining = np.cumsum(response[:0:-1] ** 2)[::-1]  # Schroeder's backward integration
    decibel = 10 * np.log10(remaining / remaining[0])
    start, stop = (int(np.argmax(decibel < level)) for level in (-5, -35))
    assert (stop - start) * 2 / 16_000 == pytest.approx(rt60, rel=RT60_RTOL)


def test_convolution_is_that_of_numpy() -> None:
    random = np.random.default_rng(0)
    wave, response = random.standard_normal(700).astype(np.float32), random.standard_normal(300)
    np.testing.assert_allclose(
        convolve(wave, response), np.convolve(wave, response)[:700], atol=1e-10
    )


def test_reverberation_keeps_length_level_and_timing(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech()
    for condition in room_conditions():
        if condition.family != "reverberation":
            continue
        wet = condition.apply(wave, context())
        assert wet.shape == wave.shape
        assert active_power(wet, 16_000) == pytest.approx(active_power(wave, 16_000), rel=1e-5)
        assert not np.allclose(wet, wave, atol=0.01)
    click = np.zeros(4_000, np.float32)
    click[1_000] = 0.5
    wet = room_conditions()[0].apply(click, context())
    assert int(np.argmax(np.abs(wet))) == 1_000
    assert not np.abs(wet[:990]).max() > 1e-6


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100])
def test_resampling_keeps_length_timing_and_what_both_rates_hold(rate_hz: int) -> None:
    n_samples = 16_001  # no whole number of samples at the other rate
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(n_samples) / 16_000).astype(np.float32)
    back = there_and_back(tone, 16_000, rate_hz)
    assert back.shape == tone.shape
    inside = slice(800, -800)  # the filters ring at the edges
    np.testing.assert_allclose(back[inside], tone[inside], atol=RESAMPLED_ATOL)


def test_eight_kilohertz_loses_the_upper_band() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 6_000 * np.arange(16_000) / 16_000).astype(np.float32)
    assert np.abs(there_and_back(tone, 16_000, 8_000)[800:-800]).max() < RESAMPLED_ATOL
    assert there_and_back(tone, 16_000, 16_000) is tone
