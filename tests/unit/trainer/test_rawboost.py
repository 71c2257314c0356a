"""RawBoost: what each kind of noise does, and how the algorithms combine them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import UsageError
from aasist_deploy.trainer import rawboost as module
from aasist_deploy.trainer.rawboost import (
    ALGORITHMS,
    PARALLEL,
    PUBLISHED,
    SERIES,
    RawBoostParameters,
    band_stop,
    convolutive,
    impulsive,
    notches,
    rawboost,
    stationary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RATE_HZ = 16_000
ROUNDING = 1e-12  # of sums of 65,000 products of numbers below 1, in float64


def gain_at(taps: NDArray[np.float64], hz: float) -> float:
    angle = -2j * np.pi * hz / RATE_HZ * np.arange(len(taps))
    return float(np.abs(np.sum(taps * np.exp(angle))))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def clip(speech: Callable[..., Any]) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = speech(1.0)
    return wave


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_changes_the_wave_repeatably_and_not_its_input(
    algorithm: int, clip: NDArray[np.float32]
) -> None:
    before = clip.copy()
    first, again, other = (
        rawboost(clip, algorithm, random(seed), sample_rate_hz=RATE_HZ) for seed in (1, 1, 2)
    )
    assert np.array_equal(clip, before)
    assert first.dtype == np.float32
    assert first.shape == clip.shape
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, clip)


@given(n=st.integers(1, 400), algorithm=st.sampled_from(ALGORITHMS), seed=st.integers(0, 99))
def test_clips_of_any_length_stay_that_long_and_finite(n: int, algorithm: int, seed: int) -> None:
    wave = random(seed).uniform(-1, 1, n).astype(np.float32)
    out = rawboost(wave, algorithm, random(seed), sample_rate_hz=RATE_HZ)
    assert out.shape == (n,)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_silence_stays_silent(algorithm: int) -> None:
    silence = np.zeros(1000, np.float32)
    assert not rawboost(silence, algorithm, random(), sample_rate_hz=RATE_HZ).any()


def test_an_unknown_algorithm_is_refused(clip: NDArray[np.float32]) -> None:
    with pytest.raises(UsageError, match="no algorithm 9"):
        rawboost(clip, 9, random(), sample_rate_hz=RATE_HZ)


def test_the_series_are_those_of_the_authors() -> None:
    kinds = {"convolutive": "1", "impulsive": "2", "stationary": "3"}
    series = {number: "".join(kinds[kind] for kind in steps) for number, steps in SERIES.items()}
    assert series == {1: "1", 2: "2", 3: "3", 4: "123", 5: "12", 6: "13", 7: "23"}


def test_a_series_feeds_each_noise_the_one_before(clip: NDArray[np.float32]) -> None:
    draws = random(3)
    signal = clip.astype(np.float64)
    signal = convolutive(signal, RATE_HZ, PUBLISHED, draws)
    signal = impulsive(signal, PUBLISHED, draws)
    signal = stationary(signal, RATE_HZ, PUBLISHED, draws)
    out = rawboost(clip, 4, random(3), sample_rate_hz=RATE_HZ)
    assert np.array_equal(out, signal.astype(np.float32))


def test_the_parallel_algorithm_adds_two_noises_of_the_wave(clip: NDArray[np.float32]) -> None:
    draws = random(3)
    signal = clip.astype(np.float64)
    total = convolutive(signal, RATE_HZ, PUBLISHED, draws) + impulsive(signal, PUBLISHED, draws)
    out = rawboost(clip, PARALLEL, random(3), sample_rate_hz=RATE_HZ)
    assert np.array_equal(out, (total / max(1.0, np.abs(total).max())).astype(np.float32))


def test_a_band_stop_filter_lets_the_rest_pass() -> None:
    taps = band_stop(99, 3000, 4000, RATE_HZ)
    assert np.array_equal(taps, taps[::-1])
    assert gain_at(taps, 3500) < 0.01
    for hz in (0, 1000, 2000, 5000, 7000):
        assert gain_at(taps, hz) == pytest.approx(1, abs=0.01)


@given(seed=st.integers(0, 500))
def test_the_peak_gain_of_a_cascade_is_the_drawn_one(seed: int) -> None:
    taps = notches(RATE_HZ, PUBLISHED, (-20, -5), random(seed))
    peak_db = 20 * np.log10(np.abs(np.fft.rfft(taps, 1 << 14)).max())
    # The peak is looked for at 513 frequencies; between two of them it is a little higher.
    assert -20 - ROUNDING <= peak_db <= -5 + 0.3
    assert len(taps) % 2 == 1


def test_cascades_longer_than_the_bins_of_their_response_are_whole() -> None:
    parameters = RawBoostParameters(n_notches=20, taps=(99, 100))
    taps = notches(RATE_HZ, parameters, (0, 0), random())
    assert len(taps) == 20 * 98 + 1
    assert np.abs(np.fft.rfft(taps, 1 << 14)).max() == pytest.approx(1, abs=0.03)


def test_convolutive_noise_of_the_first_power_is_the_filtered_wave_without_delay(
    clip: NDArray[np.float32],
) -> None:
    parameters = RawBoostParameters(n_powers=1)
    signal = 0.5 * clip.astype(np.float64)
    taps = notches(RATE_HZ, parameters, parameters.gain_db, random(4))
    half = len(taps) // 2
    filtered = np.convolve(signal, taps)[half : half + len(signal)]
    made = convolutive(signal, RATE_HZ, parameters, random(4))
    assert made == pytest.approx(filtered - filtered.mean(), abs=ROUNDING)


def test_convolutive_noise_adds_filtered_powers_of_the_wave(clip: NDArray[np.float32]) -> None:
    signal = 0.5 * clip.astype(np.float64)
    draws = random(4)
    total = np.zeros(len(signal))
    for power, gain_db in enumerate([(0, 0), (-20, -5), (-20, -5), (-20, -5), (-20, -5)], start=1):
        taps = notches(RATE_HZ, PUBLISHED, gain_db, draws)
        half = len(taps) // 2
        total += np.convolve(signal**power, taps)[half : half + len(signal)]
    made = convolutive(signal, RATE_HZ, PUBLISHED, random(4))
    assert np.abs(total).max() < 1
    assert made == pytest.approx(total - total.mean(), abs=ROUNDING)


@given(seed=st.integers(0, 200))
def test_impulsive_noise_changes_at_most_its_share_in_proportion_to_the_sample(seed: int) -> None:
    signal = 0.3 * random(seed).uniform(-1, 1, 2000)
    made = impulsive(signal, PUBLISHED, random(seed))
    changed = made != signal
    assert changed.mean() <= PUBLISHED.impulse_percent / 100
    assert np.abs(made / signal - 1).max() <= PUBLISHED.impulse_gain


def test_impulsive_noise_reaches_most_of_its_share_over_many_draws() -> None:
    signal = 0.3 * random().uniform(-1, 1, 2000)
    shares = [(impulsive(signal, PUBLISHED, random(s)) != signal).mean() for s in range(200)]
    assert max(shares) > 0.095
    assert min(shares) < 0.005


@given(seed=st.integers(0, 200))
def test_stationary_noise_has_the_drawn_ratio_to_the_wave(seed: int) -> None:
    signal = 0.3 * random(seed).uniform(-1, 1, 2000)
    noise = stationary(signal, RATE_HZ, PUBLISHED, random(seed)) - signal
    ratio = 10 * np.log10(np.sum(signal**2) / np.sum(noise**2))
    assert PUBLISHED.snr_db[0] - 1e-9 <= ratio <= PUBLISHED.snr_db[1] + 1e-9


def test_what_leaves_the_range_is_scaled_to_a_peak_of_one() -> None:
    loud = random().choice([-1.0, 1.0], 4000)
    assert np.abs(convolutive(loud, RATE_HZ, PUBLISHED, random())).max() == pytest.approx(1)
    assert np.abs(impulsive(loud, PUBLISHED, random(1))).max() == 1


@given(n=st.integers(1, 5000))
def test_the_length_of_a_transform_is_the_next_even_number_of_small_factors(n: int) -> None:
    def smooth(number: int) -> bool:
        for prime in (2, 3, 5):
            while number % prime == 0:
                number //= prime
        return number == 1

    length = module._fast_length(n)
    assert length >= n
    assert length % 2 == 0
    assert smooth(length)
    assert not any(smooth(m) for m in range(n + n % 2, length, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"snr_db": (40, 10)}, "snr_db goes from 40 to 10"),
        ({"taps": (2, 9)}, "taps from 2"),
        ({"width_hz": (0, 9)}, "width_hz from 0"),
        ({"impulse_percent": 101}, "impulse_percent is 101"),
        ({"n_powers": 0}, "n_powers is 0"),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RawBoostParameters(**fields)
