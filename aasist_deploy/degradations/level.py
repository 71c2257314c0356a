"""Loudness: gain, rounding to 16 bits, clipping, and the power of active speech."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.degradations.base import Condition, Context, NotApplicableError, Wave, as_wave

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAINS_DB: Final = (-24, -12, -6, 6, 12)
INT16_GAINS_DB: Final = (-24, 6, 12)  # where 16 bits matter: four bits are lost, or peaks are cut
CLIP_FRACTIONS: Final = (0.5, 0.25, 0.1)

FRAME_SECONDS: Final = 0.02
ACTIVE_RANGE_DB: Final = 40.0  # frames this far below the loudest one are pauses


def gain(wave: Wave, gain_db: float) -> Wave:
    """Multiply by 10^(dB/20) in float; samples may leave [-1, 1]."""
    return as_wave(wave * np.float64(10 ** (gain_db / 20)))


def to_int16(wave: Wave) -> Wave:
    """Round to the grid of 16-bit PCM and clip to its range; x / 32768 as from a file."""
    return as_wave(np.clip(np.rint(wave * 32768.0), -32768, 32767) / 32768)


def clip_to_fraction(wave: Wave, fraction: float) -> Wave:
    """Cut all samples to `fraction` of the largest magnitude; nothing is scaled up again."""
    limit = fraction * float(np.abs(wave).max())
    return as_wave(np.clip(wave, -limit, limit))


def active_frames(wave: Wave, sample_rate_hz: int) -> tuple[NDArray[np.bool_], int]:
    """Which frames hold sound rather than pause.

    Frames of 20 ms side by side; one is active when its power is at most 40 dB below that of the
    loudest. The last frame may be shorter.

    Returns:
        (F,) bool, and the samples of a frame. A silent clip has no active frame.

    Source: an energy gate, simpler than the active speech level of ITU-T P.56, whose margin moves
    with the level.
    """
    size = max(1, round(FRAME_SECONDS * sample_rate_hz))
    starts = np.arange(0, len(wave), size)
    energy = np.add.reduceat(np.square(wave, dtype=np.float64), starts)
    power = energy / np.minimum(size, len(wave) - starts)
    loudest = power.max()
    return (power > 0) & (power >= loudest * 10 ** (-ACTIVE_RANGE_DB / 10)), size


def active_power(wave: Wave, sample_rate_hz: int) -> float:
    """Mean square of the samples in active frames.

    Raises:
        NotApplicableError: The clip is silent.
    """
    active, size = active_frames(wave, sample_rate_hz)
    if not active.any():
        raise NotApplicableError("the clip is digital silence: it has no level")
    mask = np.repeat(active, size)[: len(wave)]
    return float(np.mean(np.square(wave[mask], dtype=np.float64)))


def level_conditions() -> list[Condition]:
    """Gain, gain with rounding to 16 bits, and clipping."""
    return [
        *(_gain(db) for db in GAINS_DB),
        *(_gain_int16(db) for db in INT16_GAINS_DB),
        *(_clip(fraction) for fraction in CLIP_FRACTIONS),
    ]


def _gain(gain_db: int) -> Condition:
    def apply(wave: Wave, _context: Context) -> Wave:
        return gain(wave, gain_db)

    return Condition(
        name=f"gain{gain_db:+d}dB",
        family="gain",
        meaning=f"{'louder' if gain_db > 0 else 'quieter'} by {abs(gain_db)} dB, without clipping",
        apply=apply,
        parameters={"gain_db": gain_db, "int16": False},
    )


def _gain_int16(gain_db: int) -> Condition:
    def apply(wave: Wave, _context: Context) -> Wave:
        return to_int16(gain(wave, gain_db))

    return Condition(
        name=f"gain{gain_db:+d}dB-int16",
        family="gain",
        meaning=f"{gain_db:+d} dB, then rounded and clipped to 16 bits",
        apply=apply,
        parameters={"gain_db": gain_db, "int16": True},
    )


def _clip(fraction: float) -> Condition:
    def apply(wave: Wave, _context: Context) -> Wave:
        return clip_to_fraction(wave, fraction)

    return Condition(
        name=f"clip-{fraction:g}",
        family="clipping",
        meaning=f"cut at {fraction:g} of the clip's peak",
        apply=apply,
        parameters={"fraction_of_peak": fraction},
    )
