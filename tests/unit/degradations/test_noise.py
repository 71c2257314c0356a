from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.degradations.base import NotApplicableError
from aasist_deploy.degradations.level import active_frames
from aasist_deploy.degradations.noise import add_at_snr, noise_conditions, pink, white

if TYPE_CHECKING:
    from collections.abc import Callable

SNR_ATOL_DB = 1e-3  # the sum is rounded to float32; a tenth of a decibel is what users need
# Slope of a fit to octave powers of 2^17 samples; measured within 0.05 over ten seeds.
OCTAVE_ATOL_DB = 0.15


def measured_snr(wave: Any, noisy: Any) -> float:
    noise = noisy.astype(np.float64) - wave
    active, size = active_frames(wave, 16_000)
    mask = np.repeat(active, size)[: len(wave)]
    return float(10 * np.log10(np.mean(wave[mask].astype(np.float64) ** 2) / np.mean(noise**2)))


@pytest.mark.parametrize("condition", noise_conditions(), ids=lambda one: one.name)
def test_noise_has_the_ratio_it_says(
    condition: Any, speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech()
    others = context(others=lambda count: [speech(0.7, seed) for seed in range(1, count + 1)])
    noisy = condition.apply(wave, others)
    assert len(noisy) == len(wave)
    assert measured_snr(wave, noisy) == pytest.approx(
        condition.parameters["snr_db"], abs=SNR_ATOL_DB
    )


def test_pauses_do_not_lower_the_noise(speech: Callable[..., Any]) -> None:
    wave = speech()
    paused = np.concatenate([wave, np.zeros(64_000, np.float32)])
    noise = white(len(paused), np.random.default_rng(0))
    added = add_at_snr(paused, noise, 10, 16_000) - paused
    alone = add_at_snr(wave, noise[: len(wave)], 10, 16_000) - wave
    # The same level of noise, as estimated from 32,000 of its 96,000 samples.
    assert np.std(added) == pytest.approx(np.std(alone), rel=0.02)


def octave_powers(noise: Any) -> Any:
    power = np.abs(np.fft.rfft(noise)) ** 2
    return np.array([10 * np.log10(power[2**k : 2 ** (k + 1)].mean()) for k in range(6, 16)])


def test_pink_noise_falls_three_decibels_an_octave_and_white_does_not() -> None:
    octaves = np.arange(10)
    random = np.random.default_rng(1)
    falling = np.polyfit(octaves, octave_powers(pink(2**17, random)), 1)[0]
    flat = np.polyfit(octaves, octave_powers(white(2**17, random)), 1)[0]
    assert falling == pytest.approx(-3.0103, abs=OCTAVE_ATOL_DB)
    assert flat == pytest.approx(0.0, abs=OCTAVE_ATOL_DB)
    assert pink(1_001, random).shape == (1_001,)


def test_ratios_of_a_trial_share_their_noise(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech()
    by_name = {one.name: one for one in noise_conditions()}
    quiet = by_name["white-20dB"].apply(wave, context()).astype(np.float64) - wave
    loud = by_name["white-0dB"].apply(wave, context()).astype(np.float64) - wave
    np.testing.assert_allclose(loud, 10 * quiet, atol=1e-5)


def test_babble_is_made_of_the_other_clips(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    by_name = {one.name: one for one in noise_conditions()}
    wave = speech(1.0)
    tones = [
        np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000).astype(np.float32) * level
        for hz, level in ((1_000, 0.5), (3_000, 0.01))
    ]
    noisy = by_name["babble-0dB"].apply(wave, context(others=lambda _count: tones))
    spectrum = np.abs(np.fft.rfft(noisy.astype(np.float64) - wave))
    assert set(np.argsort(spectrum)[-2:].tolist()) == {1_000, 3_000}
    assert spectrum[1_000] == pytest.approx(spectrum[3_000], rel=1e-3)  # levels are made equal


def test_babble_of_nobody_and_noise_on_silence_are_not_applicable(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    by_name = {one.name: one for one in noise_conditions()}
    with pytest.raises(NotApplicableError, match="two other clips; there are 0"):
        by_name["babble-5dB"].apply(speech(), context())
    silent = [np.zeros(100, np.float32), speech()]
    with pytest.raises(NotApplicableError, match="there are 1"):
        by_name["babble-5dB"].apply(speech(), context(others=lambda _count: silent))
    with pytest.raises(NotApplicableError, match="digital silence"):
        by_name["white-5dB"].apply(np.zeros(900, np.float32), context())
    with pytest.raises(NotApplicableError, match="noise is silent"):
        add_at_snr(speech(), np.zeros(32_000), 5, 16_000)
