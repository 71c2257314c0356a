"""Additive noise at a signal-to-noise ratio: white, pink, and babble of other trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.degradations.base import Condition, Context, NotApplicableError, Wave, as_wave
from aasist_deploy.degradations.level import active_power

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SNRS_DB: Final = (20, 10, 5, 0)
BABBLE_TALKERS: Final = 4


def white(n_samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(n,) Gaussian noise of equal power at all frequencies."""
    return random.standard_normal(n_samples)


def pink(n_samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(n,) Gaussian noise whose power falls with 1/f, 3.01 dB an octave, without a mean.

    Made in the frequency domain: the spectrum of white noise divided by sqrt(f).
    """
    spectrum = np.fft.rfft(random.standard_normal(n_samples))
    bins = np.arange(len(spectrum), dtype=np.float64)
    bins[0] = np.inf
    return np.fft.irfft(spectrum / np.sqrt(bins), n_samples)


def babble(n_samples: int, context: Context) -> NDArray[np.float64]:
    """(n,) sum of other trials' clips at equal active level, each repeated from a random start.

    Raises:
        NotApplicableError: The dataset has fewer than two other clips that can be read.
    """
    random = context.random("babble-start")
    total = np.zeros(n_samples)
    n_talkers = 0
    for clip in context.others(BABBLE_TALKERS):
        start = int(random.integers(len(clip)))
        try:
            power = active_power(clip, context.sample_rate_hz)
        except NotApplicableError:
            continue
        total += np.resize(np.roll(clip, -start), n_samples) / np.sqrt(power)
        n_talkers += 1
    if n_talkers < 2:
        raise NotApplicableError(f"babble needs two other clips; there are {n_talkers}")
    return total


def add_at_snr(wave: Wave, noise: NDArray[np.float64], snr_db: float, sample_rate_hz: int) -> Wave:
    """Add noise so that 10 log10(active speech power / mean noise power) is `snr_db`.

    The speech keeps its level; the sum may leave [-1, 1].

    Raises:
        NotApplicableError: The clip, or the noise, is silent.
    """
    noise_power = float(np.mean(np.square(noise)))
    if noise_power == 0:
        raise NotApplicableError("the noise is silent")
    wanted = active_power(wave, sample_rate_hz) / 10 ** (snr_db / 10)
    return as_wave(wave + noise * np.sqrt(wanted / noise_power))


def noise_conditions() -> list[Condition]:
    """Each kind of noise at each ratio; all ratios of a trial use the same noise."""
    kinds: dict[str, tuple[str, Callable[[int, Context], NDArray[np.float64]]]] = {
        "white": ("white noise", lambda n, context: white(n, context.random("white"))),
        "pink": ("pink noise", lambda n, context: pink(n, context.random("pink"))),
        "babble": (f"babble of {BABBLE_TALKERS} other bona fide trials", babble),
    }
    return [
        _condition(kind, words, make, snr_db)
        for kind, (words, make) in kinds.items()
        for snr_db in SNRS_DB
    ]


def _condition(
    kind: str, words: str, make: Callable[[int, Context], NDArray[np.float64]], snr_db: int
) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return add_at_snr(wave, make(len(wave), context), snr_db, context.sample_rate_hz)

    return Condition(
        name=f"{kind}-{snr_db}dB",
        family="noise",
        meaning=f"{words}, {snr_db} dB below the active speech",
        apply=apply,
        parameters={"noise": kind, "snr_db": snr_db, "speech_power": "active frames"},
    )
