"""Silence before and after, and which part of a clip is scored: padding, offset, length."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from aasist_deploy.degradations.base import Condition, Context, NotApplicableError, Wave, as_wave
from aasist_deploy.degradations.level import ACTIVE_RANGE_DB, active_frames, active_power

Side = Literal["lead", "trail"]
Fill = Literal["zero", "noise"]

SILENCE_SECONDS: Final = (0.5, 1.0)
FLOOR_DB: Final = -50.0  # of the low noise, relative to active speech: a quiet room
OFFSET_SECONDS: Final = (0.5, 1.0)
MIN_REST_SECONDS: Final = 0.5  # less than that after the offset is hardly speech any more
LENGTH_SECONDS: Final = (1, 2, 3)

_SIDES: Final[dict[Side, str]] = {"lead": "before", "trail": "after"}


def insert_silence(wave: Wave, seconds: float, side: Side, fill: Fill, context: Context) -> Wave:
    """Add digital zeros, or white noise 50 dB below the active speech, on one side."""
    silence = np.zeros(context.samples(seconds))
    if fill == "noise":
        level = np.sqrt(active_power(wave, context.sample_rate_hz)) * 10 ** (FLOOR_DB / 20)
        silence = level * context.random(f"silence-{side}").standard_normal(len(silence))
    return as_wave(np.concatenate([silence, wave] if side == "lead" else [wave, silence]))


def trim(wave: Wave, sides: tuple[Side, ...], sample_rate_hz: int) -> Wave:
    """Cut the frames before the first, or after the last, active frame (see `active_frames`).

    Raises:
        NotApplicableError: The clip is silent.
    """
    active, size = active_frames(wave, sample_rate_hz)
    if not active.any():
        raise NotApplicableError("the clip is digital silence: nothing would be left")
    found = np.flatnonzero(active)
    start = int(found[0]) * size if "lead" in sides else 0
    stop = (int(found[-1]) + 1) * size if "trail" in sides else len(wave)
    return as_wave(wave[start:stop])


def pad(wave: Wave, rule: Literal["zero", "reflect"], n_samples: int | None) -> Wave:
    """Lengthen a short clip by zeros, or by reflection at its end, in place of tiling.

    Raises:
        NotApplicableError: The model has no window to fill, or one sample cannot be reflected.
    """
    if n_samples is None:
        raise NotApplicableError("the model takes clips of any length: nothing is padded")
    missing = n_samples - len(wave)
    if missing <= 0:
        return wave
    if rule == "zero":
        return as_wave(np.pad(wave, (0, missing)))
    if len(wave) < 2:
        raise NotApplicableError("one sample cannot be reflected")
    return as_wave(np.pad(wave, (0, missing), mode="reflect"))


def from_offset(wave: Wave, n_offset: int, n_rest: int) -> Wave:
    """Leave out the start.

    Raises:
        NotApplicableError: Fewer than `n_rest` samples would be left.
    """
    if len(wave) < n_offset + n_rest:
        raise NotApplicableError(
            f"the clip has {len(wave)} samples, fewer than {n_offset} + {n_rest}"
        )
    return as_wave(wave[n_offset:])


def window_at(wave: Wave, where: Literal["middle", "last"], n_samples: int | None) -> Wave:
    """The window in the middle or at the end; a clip that is no longer than it stays as it is.

    Raises:
        NotApplicableError: The model takes the whole clip.
    """
    if n_samples is None:
        raise NotApplicableError("the model scores the whole clip: it has no window to move")
    spare = max(0, len(wave) - n_samples)
    start = spare // 2 if where == "middle" else spare
    return as_wave(wave[start : start + n_samples])


def edge_conditions() -> list[Condition]:
    """Silence, padding rule, window offset and length."""
    fills: tuple[Fill, ...] = ("zero", "noise")
    trims: dict[str, tuple[Side, ...]] = {
        "lead": ("lead",),
        "trail": ("trail",),
        "both": ("lead", "trail"),
    }
    return [
        *(_silence(s, side, fill) for side in _SIDES for s in SILENCE_SECONDS for fill in fills),
        *(_trim(name, sides) for name, sides in trims.items()),
        _padding("zero", "zeros"),
        _padding("reflect", "their own reflection"),
        *(_offset(seconds) for seconds in OFFSET_SECONDS),
        _window("middle"),
        _window("last"),
        *(_length(seconds) for seconds in LENGTH_SECONDS),
    ]


def _silence(seconds: float, side: Side, fill: Fill) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return insert_silence(wave, seconds, side, fill, context)

    words = "digital zeros" if fill == "zero" else f"noise {-FLOOR_DB:g} dB below the speech"
    return Condition(
        name=f"{side}-{seconds:g}s-{fill}",
        family="silence",
        meaning=f"{seconds:g} s of {words} {_SIDES[side]} the clip",
        apply=apply,
        parameters={"seconds": seconds, "side": side, "fill": fill},
    )


def _trim(name: str, sides: tuple[Side, ...]) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return trim(wave, sides, context.sample_rate_hz)

    return Condition(
        name=f"trim-{name}",
        family="silence",
        meaning=f"pauses {' and '.join(_SIDES[side] for side in sides)} the speech cut off",
        apply=apply,
        parameters={"sides": list(sides), "active_range_db": ACTIVE_RANGE_DB},
    )


def _padding(rule: Literal["zero", "reflect"], words: str) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return pad(wave, rule, context.n_samples)

    return Condition(
        name=f"pad-{rule}",
        family="padding",
        meaning=f"short clips are lengthened by {words}, not tiled",
        apply=apply,
        parameters={"rule": rule},
    )


def _offset(seconds: float) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return from_offset(wave, context.samples(seconds), context.samples(MIN_REST_SECONDS))

    return Condition(
        name=f"offset-{seconds:g}s",
        family="offset",
        meaning=f"scored from {seconds:g} s on",
        apply=apply,
        parameters={"seconds": seconds},
    )


def _window(where: Literal["middle", "last"]) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return window_at(wave, where, context.n_samples)

    return Condition(
        name=f"window-{where}",
        family="offset",
        meaning=f"the {where} window of a clip longer than one",
        apply=apply,
        parameters={"window": where},
    )


def _length(seconds: float) -> Condition:
    def apply(wave: Wave, context: Context) -> Wave:
        return as_wave(wave[: context.samples(seconds)])

    return Condition(
        name=f"length-{seconds:g}s",
        family="length",
        meaning=f"the first {seconds:g} s alone (tiled to the window)",
        apply=apply,
        parameters={"seconds": seconds},
    )
