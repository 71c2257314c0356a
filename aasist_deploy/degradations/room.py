"""Reverberation by a synthetic room, and resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import soxr

from aasist_deploy.degradations.base import Condition, Context, Wave, as_wave
from aasist_deploy.degradations.level import active_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

RT60_SECONDS: Final = (0.3, 0.8)  # a furnished office; a lecture room
PREDELAY_SECONDS: Final = 0.0025  # the first reflection: 0.86 m longer than the direct path
DIRECT_TO_REVERBERANT_DB: Final = 0.0  # at the critical distance, where both are equally strong
_DECAY: Final = float(np.log(1e3))  # 60 dB in amplitude

RATES_HZ: Final = (8_000, 22_050, 44_100)
QUALITY: Final = "HQ"  # the resampler of aasist_deploy.audio


def room_response(
    rt60_seconds: float, sample_rate_hz: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Impulse response: a direct path of 1, then Gaussian noise that decays by 60 dB in RT60.

    Returns:
        (n,) with n = RT60 in samples; the tail's energy equals that of the direct path.

    Source: the stochastic model of Polack, La transmission de l'énergie sonore dans les salles
    (1988): h(t) = b(t) exp(-3 ln(10) t / RT60), b white and Gaussian.
    """
    n_samples = max(2, round(rt60_seconds * sample_rate_hz))
    first = min(max(1, round(PREDELAY_SECONDS * sample_rate_hz)), n_samples - 1)
    time = np.arange(n_samples - first) / sample_rate_hz
    tail = random.standard_normal(len(time)) * np.exp(-_DECAY * time / rt60_seconds)
    tail *= 10 ** (-DIRECT_TO_REVERBERANT_DB / 20) / np.sqrt(np.sum(tail**2))
    response = np.zeros(n_samples)
    response[0] = 1.0
    response[first:] = tail
    return response


def convolve(wave: Wave, response: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first len(wave) samples of the linear convolution, by FFT."""
    n_fft = 1 << (len(wave) + len(response) - 2).bit_length()
    product = np.fft.rfft(wave.astype(np.float64), n_fft) * np.fft.rfft(response, n_fft)
    return np.fft.irfft(product, n_fft)[: len(wave)]


def there_and_back(wave: Wave, sample_rate_hz: int, other_hz: int) -> Wave:
    """Resample to another rate and back; length and timing stay (soxr's filters have no delay)."""
    if other_hz == sample_rate_hz:
        return wave
    other = soxr.resample(wave, sample_rate_hz, other_hz, quality=QUALITY)
    back = soxr.resample(other, other_hz, sample_rate_hz, quality=QUALITY)
    return exact_length(back, len(wave))


def exact_length(wave: Wave, n_samples: int) -> Wave:
    """Cut at the end, or add the sample or two that two roundings of a length can lose."""
    missing = n_samples - len(wave)
    return as_wave(wave[:n_samples] if missing <= 0 else np.pad(wave, (0, missing)))


def room_conditions() -> list[Condition]:
    """Rooms, and resampling there and back."""
    return [*(_room(rt60) for rt60 in RT60_SECONDS), *(_resampled(rate) for rate in RATES_HZ)]


def _room(rt60_seconds: float) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        rate = context.sample_rate_hz
        response = room_response(rt60_seconds, rate, context.random("room"))
        wet = convolve(wave, response)
        # Louder alone moves scores, and gain is another condition: the level stays.
        ratio = active_power(wave, rate) / active_power(as_wave(wet), rate)
        return as_wave(wet * np.sqrt(ratio))

    return Condition(
        name=f"reverb-{rt60_seconds:g}s",
        family="reverberation",
        meaning=f"a synthetic room with RT60 {rt60_seconds:g} s, at the clip's level",
        apply=apply,
        parameters={
            "rt60_seconds": rt60_seconds,
            "direct_to_reverberant_db": DIRECT_TO_REVERBERANT_DB,
            "predelay_seconds": PREDELAY_SECONDS,
        },
    )


def _resampled(rate_hz: int) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return there_and_back(wave, context.sample_rate_hz, rate_hz)

    return Condition(
        name=f"resample-{rate_hz}",
        family="resampling",
        meaning=f"to {rate_hz} Hz and back",
        apply=apply,
        parameters={"rate_hz": rate_hz, "quality": QUALITY},
    )
