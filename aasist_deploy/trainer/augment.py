"""What is done to a training window beyond its crop: gain, RawBoost, and a drawn condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.degradations import Condition, Context, NotApplicableError, Wave, select
from aasist_deploy.degradations.level import gain
from aasist_deploy.errors import AudioError, EnvironmentLacks
from aasist_deploy.trainer.rawboost import RawBoostParameters, rawboost

if TYPE_CHECKING:
    from collections import Counter

    from aasist_deploy.trainer.recipe import Augmentation

NONE_APPLICABLE: Final = "conditions: none applicable"
_EPOCHS: Final = 1 << 32  # more than any run has: one number for a seed and an epoch


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of `augmentation.conditions`, and the conditions that it stands for."""

    entry: str
    conditions: tuple[Condition, ...]


class Augmenter:
    """Changes a window as a recipe says; the draws follow from its context alone.

    In this order, which is that of a call: the gain (how loud somebody speaks), RawBoost (what the
    device does), and one condition (room, noise, codec) for a part of the windows. An entry of
    `conditions` is drawn first and then a condition of it, so a family of many counts as much as
    one name. A condition that a clip cannot have gives way to the next draw.

    Args:
        settings: The section of the recipe.

    Raises:
        EnvironmentLacks: A condition, or one of a family, is not available on this machine.
        UsageError: A condition is not known, or RawBoost cannot draw from its ranges.
    """

    def __init__(self, settings: Augmentation) -> None:
        self._settings = settings
        self._choices = choices_of(settings.conditions)
        self._algorithm = None if settings.rawboost == "none" else int(settings.rawboost)
        self._parameters = rawboost_parameters(settings)

    def __reduce__(self) -> tuple[type[Augmenter], tuple[Augmentation]]:
        # Conditions hold functions made here: another process makes its own.
        return type(self), (self._settings,)

    @property
    def changes_anything(self) -> bool:
        """Whether any window can come out changed."""
        settings = self._settings
        return (
            settings.gain_db is not None
            or (self._algorithm is not None and settings.rawboost_probability > 0)
            or (bool(self._choices) and settings.conditions_probability > 0)
        )

    def __call__(self, wave: Wave, context: Context, counts: Counter[str]) -> Wave:
        """Change one window.

        Args:
            wave: (N,) the crop, not yet tiled; not written to.
            context: Of the clip in its epoch, see `context_seed`.
            counts: What was applied, and what could not be, is added to it.

        Returns:
            (M,) float32; M differs from N only for conditions that lengthen or shorten.

        Raises:
            AudioError: A condition failed, or gave samples that are not finite.
        """
        settings = self._settings
        random = context.random("augmentation")
        # All draws are made, used or not: one option does not change the draws of another.
        gain_at, rawboost_at, condition_at = random.random(3).tolist()
        if settings.gain_db is not None:
            low, high = settings.gain_db
            wave = gain(wave, low + (high - low) * gain_at)
            counts["gain"] += 1
        if self._algorithm is not None and rawboost_at < settings.rawboost_probability:
            wave = rawboost(
                wave,
                self._algorithm,
                context.random("rawboost"),
                sample_rate_hz=context.sample_rate_hz,
                parameters=self._parameters,
            )
            counts[f"rawboost {self._algorithm}"] += 1
        if self._choices and condition_at < settings.conditions_probability:
            wave = self._conditioned(wave, context, counts)
        return wave

    def _conditioned(self, wave: Wave, context: Context, counts: Counter[str]) -> Wave:
        random = context.random("condition")
        for choice in random.permutation(len(self._choices)).tolist():
            conditions = self._choices[choice].conditions
            for member in random.permutation(len(conditions)).tolist():
                condition = conditions[member]
                try:
                    changed: Wave = condition.apply(wave, context)
                except NotApplicableError:
                    counts[f"{condition.name}: not applicable"] += 1
                    continue
                if not np.isfinite(changed).all():
                    raise AudioError(
                        f"{context.utterance}: the condition {condition.name} gave NaN or "
                        "infinite samples.",
                        fix=f"leave {condition.name} out of augmentation.conditions",
                    )
                counts[condition.name] += 1
                return changed
        counts[NONE_APPLICABLE] += 1
        return wave


def context_seed(seed: int, epoch: int) -> int:
    """One seed for the draws of an epoch."""
    return seed * _EPOCHS + epoch


def choices_of(entries: tuple[str, ...]) -> tuple[Choice, ...]:
    """The conditions of each entry, all of them available.

    Raises:
        EnvironmentLacks: One is not.
        UsageError: An entry is neither a family nor a condition.
    """
    choices = tuple(Choice(entry, select([entry])) for entry in entries)
    for choice in choices:
        lacking = [each for each in choice.conditions if each.unavailable is not None]
        if lacking:
            names = [each.name for each in choice.conditions if each.unavailable is None]
            raise EnvironmentLacks(
                f"augmentation.conditions has {choice.entry!r}, of which "
                f"{len(lacking)} of {len(choice.conditions)} are not available here; first: "
                f"{lacking[0].name} ({lacking[0].unavailable}).",
                fix=f"name those that are: {', '.join(names)}"
                if names
                else f"leave out {choice.entry}",
            )
    return choices


def rawboost_parameters(settings: Augmentation) -> RawBoostParameters:
    """The ranges of a recipe."""
    low, high = settings.rawboost_gain_db
    least, most = settings.rawboost_nonlinear_gain_db  # by how much the higher powers are weaker
    return RawBoostParameters(
        n_powers=settings.rawboost_order,
        n_notches=settings.rawboost_bands,
        centre_hz=settings.rawboost_center_hz,
        width_hz=settings.rawboost_bandwidth_hz,
        taps=settings.rawboost_taps,
        gain_db=(low, high),
        nonlinear_gain_db=(low - most, high - least),
        impulse_percent=settings.rawboost_impulse_percent,
        impulse_gain=settings.rawboost_impulse_gain,
        snr_db=settings.rawboost_snr_db,
    )
