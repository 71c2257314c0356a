"""The section [augmentation] of a recipe: what is done to training audio."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from aasist_deploy.degradations import select
from aasist_deploy.errors import RecipeError, UsageError
from aasist_deploy.trainer.recipe_values import at_least, typed


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What is done to training audio, after the crop; the dev split is never changed."""

    rawboost: Literal["none", "1", "2", "3", "4", "5", "6", "7", "8"] = "none"
    """Algorithm of RawBoost (Tak et al., ICASSP 2022): 1 convolutive, 2 impulsive, 3 stationary
    noise; in series 4 all, 5 1 and 2, 6 1 and 3, 7 2 and 3; 8 the sum of 1 and 2."""
    rawboost_probability: float = 1.0
    """Part of the windows that RawBoost changes, 0 to 1."""
    rawboost_order: int = 5
    """Highest power of the wave in 1 (N_f), >= 1."""
    rawboost_bands: int = 5
    """Notch filters in each cascade of 1 and 3 (nBands), >= 1."""
    rawboost_center_hz: tuple[float, float] = (20.0, 8000.0)
    """Range of their centres (minF, maxF), 0 to 8000 Hz."""
    rawboost_bandwidth_hz: tuple[float, float] = (100.0, 1000.0)
    """Range of their widths (minBW, maxBW), > 0 Hz."""
    rawboost_taps: tuple[int, int] = (10, 100)
    """Range of their lengths in taps (minCoeff, maxCoeff), >= 3."""
    rawboost_gain_db: tuple[float, float] = (0.0, 0.0)
    """Range of the peak gain of the filter of the wave itself (minG, maxG), dB."""
    rawboost_nonlinear_gain_db: tuple[float, float] = (5.0, 20.0)
    """By how much the filters of higher powers are weaker in 1 (min and maxBiasLinNonLin), dB."""
    rawboost_impulse_percent: float = 10.0
    """Most samples that 2 changes (P), 0 to 100 %."""
    rawboost_impulse_gain: float = 2.0
    """Level of 2 relative to the sample (g_sd), >= 0."""
    rawboost_snr_db: tuple[float, float] = (10.0, 40.0)
    """Range of the ratio of wave to noise in 3 (SNRmin, SNRmax), dB."""
    conditions: tuple[str, ...] = ()
    """Conditions or families of `robustness`, one of which is drawn for a window."""
    conditions_probability: float = 0.5
    """Part of the windows that get one, 0 to 1."""
    gain_db: tuple[float, float] | None = None
    """Range of a random gain of every window, dB; left out: none."""

    def __post_init__(self) -> None:
        """Check values, and that the conditions exist on this machine."""
        typed(self, "augmentation")
        for name in ("rawboost_probability", "conditions_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(
                    f"augmentation.{name} is {getattr(self, name)}; it must be 0 to 1."
                )
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "conditions" and isinstance(value, tuple) and value[0] > value[1]:
                raise RecipeError(
                    f"augmentation.{each.name} is {list(value)}; the lower end comes first."
                )
        at_least("augmentation", self, rawboost_order=1, rawboost_bands=1)
        low_hz, high_hz = self.rawboost_center_hz
        for name, value, within, limits in (
            ("center_hz", list(self.rawboost_center_hz), low_hz >= 0 and high_hz <= 8000,
             "within 0 to 8000, which is what audio at 16 kHz holds"),
            ("bandwidth_hz", list(self.rawboost_bandwidth_hz), self.rawboost_bandwidth_hz[0] > 0,
             "above 0"),
            ("taps", list(self.rawboost_taps), self.rawboost_taps[0] >= 3, "3 or more"),
            ("impulse_percent", self.rawboost_impulse_percent,
             0 <= self.rawboost_impulse_percent <= 100, "0 to 100"),
            ("impulse_gain", self.rawboost_impulse_gain, self.rawboost_impulse_gain >= 0,
             "0 or more"),
        ):  # fmt: skip
            if not within:
                raise RecipeError(f"augmentation.rawboost_{name} is {value}; it must be {limits}.")
        if self.conditions:  # looking for the encoders takes a moment
            try:
                select(self.conditions)
            except UsageError as error:
                raise RecipeError(f"augmentation.conditions: {error}", fix=error.fix) from error
