"""RawBoost: noise made from the clip and from nothing else, in three kinds and eight algorithms.

Source: H. Tak, M. Kamble, J. Patino, M. Todisco, N. Evans, "RawBoost: A raw data boosting and
augmentation method applied to automatic speaker verification anti-spoofing", ICASSP 2022
(arXiv:2111.04433); the defaults and the numbers of the algorithms are those of its authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Signal: TypeAlias = "NDArray[np.float64]"
Kind = Literal["convolutive", "impulsive", "stationary"]

# Number -> the kinds one after the other; 8 runs its two side by side.
SERIES: Final[dict[int, tuple[Kind, ...]]] = {
    1: ("convolutive",),
    2: ("impulsive",),
    3: ("stationary",),
    4: ("convolutive", "impulsive", "stationary"),
    5: ("convolutive", "impulsive"),
    6: ("convolutive", "stationary"),
    7: ("impulsive", "stationary"),
}
PARALLEL: Final = 8  # convolutive and impulsive, summed
ALGORITHMS: Final = (*SERIES, PARALLEL)

_RESPONSE_BINS: Final = 1_024  # where the peak gain of a filter is looked for
_EDGE_HZ: Final = 1e-3  # a band's edge stays this far inside (0, half the sample rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBoostParameters:
    """Ranges that are drawn from, uniformly; the defaults are the published ones.

    Attributes:
        n_powers: Highest power of the wave in the convolutive noise (N_f).
        n_notches: Band-stop filters in each cascade.
        centre_hz: Of a notch.
        width_hz: Of a notch.
        taps: Of a notch filter; even draws become the next odd number.
        gain_db: Peak gain of the filter of the wave itself.
        nonlinear_gain_db: Peak gain of the filters of its higher powers.
        impulse_percent: Most samples that the impulsive noise changes, in percent.
        impulse_gain: Its level relative to the sample (g_sd).
        snr_db: Of the stationary noise.
    """

    n_powers: int = 5
    n_notches: int = 5
    centre_hz: tuple[float, float] = (20.0, 8_000.0)
    width_hz: tuple[float, float] = (100.0, 1_000.0)
    taps: tuple[int, int] = (10, 100)
    gain_db: tuple[float, float] = (0.0, 0.0)
    nonlinear_gain_db: tuple[float, float] = (-20.0, -5.0)
    impulse_percent: float = 10.0
    impulse_gain: float = 2.0
    snr_db: tuple[float, float] = (10.0, 40.0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("centre_hz", "width_hz", "taps", "gain_db", "nonlinear_gain_db", "snr_db"):
            low, high = getattr(self, name)
            if not low <= high:
                raise UsageError(f"RawBoost: {name} goes from {low} to {high}; low comes first.")
        if self.n_powers < 1 or self.n_notches < 1:
            raise UsageError(
                f"RawBoost: n_powers is {self.n_powers} and n_notches {self.n_notches}; "
                "both are at least 1."
            )
        if self.taps[0] < 3 or self.centre_hz[0] < 0 or self.width_hz[0] <= 0:
            raise UsageError(
                f"RawBoost: taps from {self.taps[0]} (at least 3), centre_hz from "
                f"{self.centre_hz[0]} (at least 0), width_hz from {self.width_hz[0]} (above 0)."
            )
        if not 0 <= self.impulse_percent <= 100 or self.impulse_gain < 0:
            raise UsageError(
                f"RawBoost: impulse_percent is {self.impulse_percent} (0 to 100) and "
                f"impulse_gain {self.impulse_gain} (0 or more)."
            )


PUBLISHED: Final = RawBoostParameters()


def rawboost(
    wave: NDArray[np.float32],
    algorithm: int,
    random: np.random.Generator,
    *,
    sample_rate_hz: int,
    parameters: RawBoostParameters = PUBLISHED,
) -> NDArray[np.float32]:
    """Apply one algorithm.

    Args:
        wave: (N,) samples, N >= 1; not changed.
        algorithm: 1 convolutive, 2 impulsive, 3 stationary; in series 4 = 1, 2, 3; 5 = 1, 2;
            6 = 1, 3; 7 = 2, 3; 8 = the sum of 1 and 2, each made from the wave.
        random: All draws come from it.
        sample_rate_hz: Of the wave.
        parameters: Ranges that are drawn from.

    Returns:
        (N,) samples. As in the authors' code, what leaves [-1, 1] after a convolutive or impulsive
        step or the sum is scaled to a peak of 1; the stationary noise is added without scaling.

    Raises:
        UsageError: There is no such algorithm.
    """
    signal = wave.astype(np.float64)
    if algorithm == PARALLEL:
        total = _apply("convolutive", signal, sample_rate_hz, parameters, random)
        total = total + _apply("impulsive", signal, sample_rate_hz, parameters, random)
        return np.ascontiguousarray(_within_one(total), dtype=np.float32)
    if algorithm not in SERIES:
        raise UsageError(f"RawBoost has no algorithm {algorithm}; known are {ALGORITHMS}.")
    for kind in SERIES[algorithm]:
        signal = _apply(kind, signal, sample_rate_hz, parameters, random)
    return np.ascontiguousarray(signal, dtype=np.float32)


def _apply(
    kind: Kind,
    signal: Signal,
    rate_hz: int,
    parameters: RawBoostParameters,
    random: np.random.Generator,
) -> Signal:
    if kind == "convolutive":
        return convolutive(signal, rate_hz, parameters, random)
    if kind == "impulsive":
        return impulsive(signal, parameters, random)
    return stationary(signal, rate_hz, parameters, random)


def convolutive(
    signal: Signal, rate_hz: int, parameters: RawBoostParameters, random: np.random.Generator
) -> Signal:
    """Linear and non-linear convolutive noise: sum over p of filter_p * signal^p, without its mean.

    Returns:
        (N,) with a peak of at most 1; filters are centred, so that nothing is delayed.

    Source: section 3.1 of the paper (a Hammerstein system of multi-band filters).
    """
    filters = [
        notches(rate_hz, parameters, gain, random)
        for gain in [
            parameters.gain_db,
            *[parameters.nonlinear_gain_db] * (parameters.n_powers - 1),
        ]
    ]
    # All filters are summed in the spectrum, each turned back by its own delay: one inverse FFT.
    n_fft = _fast_length(len(signal) + max(len(taps) for taps in filters))
    total = np.zeros(n_fft // 2 + 1, np.complex128)
    power = np.ones_like(signal)
    for taps in filters:
        power = power * signal
        total += np.fft.rfft(power, n_fft) * np.fft.rfft(_centred(taps, n_fft))
    result = np.fft.irfft(total, n_fft)[: len(signal)]
    return _within_one(result - result.mean())


def impulsive(
    signal: Signal, parameters: RawBoostParameters, random: np.random.Generator
) -> Signal:
    """Impulsive signal-dependent noise: some samples x become x + g x u v, u, v in [-1, 1].

    Returns:
        (N,) with a peak of at most 1.

    Source: section 3.2 of the paper.
    """
    share = random.uniform(0.0, parameters.impulse_percent) / 100
    where = random.permutation(len(signal))[: int(len(signal) * share)]
    factor = random.uniform(-1, 1, len(where)) * random.uniform(-1, 1, len(where))
    result = signal.copy()
    result[where] += parameters.impulse_gain * signal[where] * factor
    return _within_one(result)


def stationary(
    signal: Signal, rate_hz: int, parameters: RawBoostParameters, random: np.random.Generator
) -> Signal:
    """Stationary signal-independent noise: white noise through notches, at a drawn SNR.

    Returns:
        (N,), unscaled; a silent clip stays silent, because the SNR is relative to it.

    Source: section 3.3 of the paper.
    """
    noise = random.standard_normal(len(signal))
    taps = notches(rate_hz, parameters, parameters.gain_db, random)
    n_fft = _fast_length(len(signal) + len(taps))
    spectrum = np.fft.rfft(noise, n_fft) * np.fft.rfft(_centred(taps, n_fft))
    noise = np.fft.irfft(spectrum, n_fft)[: len(signal)]
    snr_db = random.uniform(*parameters.snr_db)
    level = float(np.linalg.norm(noise))
    if level == 0:
        return signal
    return signal + noise * (np.linalg.norm(signal) / level / 10 ** (snr_db / 20))


def notches(
    rate_hz: int,
    parameters: RawBoostParameters,
    gain_db: tuple[float, float],
    random: np.random.Generator,
) -> Signal:
    """(K,) taps of a cascade of band-stop filters, K odd, scaled to a drawn peak gain."""
    taps = np.ones(1)
    for _ in range(parameters.n_notches):
        centre, width = random.uniform(*parameters.centre_hz), random.uniform(*parameters.width_hz)
        n_taps = int(random.uniform(*parameters.taps)) | 1
        low = max(centre - width / 2, _EDGE_HZ)
        high = min(centre + width / 2, rate_hz / 2 - _EDGE_HZ)
        taps = np.convolve(taps, band_stop(n_taps, low, high, rate_hz))
    n_fft = max(_RESPONSE_BINS, _fast_length(len(taps)))
    peak = float(np.abs(np.fft.rfft(taps, n_fft)).max())
    gain = 10 ** (random.uniform(*gain_db) / 20)
    return np.multiply(taps, gain / peak)


def band_stop(n_taps: int, low_hz: float, high_hz: float, rate_hz: int) -> Signal:
    """(n_taps,) a Hamming-windowed band-stop filter, of no particular gain.

    Source: the window method. `scipy.signal.firwin(n_taps, [low, high], fs=rate)` also divides by
    the gain at 0 Hz, which is next to nothing when the notch lies there; `notches` scales anyway.
    """
    n = np.arange(n_taps) - (n_taps - 1) / 2
    low, high = 2 * low_hz / rate_hz, 2 * high_hz / rate_hz
    ideal = low * np.sinc(low * n) + np.sinc(n) - high * np.sinc(high * n)
    return np.asarray(ideal * np.hamming(n_taps))


def _centred(taps: Signal, n_fft: int) -> Signal:
    """The taps with their middle at 0, wrapped around: a filter without delay."""
    padded = np.zeros(n_fft)
    half = len(taps) // 2
    padded[: half + 1] = taps[half:]
    padded[n_fft - half :] = taps[:half]
    return padded


def _within_one(signal: Signal) -> Signal:
    within: Signal = signal / max(1.0, float(np.abs(signal).max()))
    return within


def _fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more and even: lengths that NumPy's FFT is quick at."""
    best = 1 << max(1, (n - 1).bit_length())
    five = 1
    while five < best:
        three = five
        while three < best:
            twos = max(1, -(-n // three) - 1).bit_length()
            best = min(best, three << max(1, twos))
            three *= 3
        five *= 5
    return best
