"""Equal error rate of each value of a condition: codec, transmission, vocoder, source, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.bootstrap import Bootstrap, Confidence, confidence
from aasist_deploy.metrics.eer import eer
from aasist_deploy.metrics.resampling import named_speakers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.metrics.rates import Compat
    from aasist_deploy.metrics.resampling import Speakers

NO_ERRORS: Final = (
    "No errors at the threshold of the rate, so no replicate has any: this interval does not say "
    "how many more trials would show."
)
# What corpora write where a trial has no attack, vocoder or replay device.
NOT_AN_ATTACK: Final = frozenset({"", "-", "bonafide"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionMetrics:
    """Metrics of the trials of one value.

    Attributes:
        eer: In [0, 1]; None when a class has no trial of this value.
        n_bonafide: Bona fide trials that it was computed with.
        n_spoof: Spoofed trials of this value.
        confidence: Interval of the equal error rate, when asked for.
        note: Why there is no rate.
    """

    eer: float | None
    n_bonafide: int
    n_spoof: int
    confidence: Confidence | None
    note: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON."""
        return {
            "eer_percent": None if self.eer is None else self.eer * 100,
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "confidence": None if self.confidence is None else self.confidence.to_dict(),
            "note": self.note,
        }


def metrics_by_condition(
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    conditions: Mapping[str, Sequence[str]],
    *,
    compat: Compat = "corrected",
    how: Bootstrap | None = None,
    speakers: Speakers | None = None,
) -> dict[str, dict[str, ConditionMetrics]]:
    """Compute the equal error rate of each value of each condition.

    A condition that no value but "-" is shared in by bona fide and spoofed trials describes the
    attack (attack, vocoder, replay device): each of its values has the spoofed trials of that value
    against all bona fide trials. Any other condition (codec, transmission, source) splits both.

    Args:
        scores: (n,) scores; higher means more bona fide.
        is_bonafide: (n,) the truth.
        conditions: Name -> (n,) value of each trial.
        compat: Arithmetic of the equal error rate.
        how: Bootstrap; no intervals unless given.
        speakers: (n,) speakers, to resample by speaker.

    Raises:
        MetricError: A condition does not have one value for each trial.
    """
    named = None if speakers is None else named_speakers(speakers)
    found: dict[str, dict[str, ConditionMetrics]] = {}
    for name, column in conditions.items():
        values = np.asarray(column, dtype=str)
        if values.shape != scores.shape:
            raise MetricError(
                f"The condition {name!r} has {values.size} values for {scores.size} trials."
            )
        of_attack = describes_the_attack(values, is_bonafide)
        every = set((values[~is_bonafide] if of_attack else values).tolist())
        found[name] = {}
        for value in sorted(every - NOT_AN_ATTACK if of_attack else every):
            chosen = values == value
            bonafide = is_bonafide if of_attack else is_bonafide & chosen
            found[name][value] = _metrics(
                scores, bonafide, ~is_bonafide & chosen, compat, how, named
            )
    return found


def describes_the_attack(values: NDArray[np.str_], is_bonafide: NDArray[np.bool_]) -> bool:
    """Whether bona fide and spoofed trials have no value in common; "-" is none.

    A spoofed trial may lack the value too: an attack without a vocoder has "-" in that column.
    """
    shared = set(values[is_bonafide].tolist()) & set(values[~is_bonafide].tolist())
    return shared <= NOT_AN_ATTACK


def _metrics(
    scores: NDArray[np.float64],
    bonafide: NDArray[np.bool_],
    spoof: NDArray[np.bool_],
    compat: Compat,
    how: Bootstrap | None,
    speakers: NDArray[np.str_] | None,
) -> ConditionMetrics:
    classes = scores[bonafide], scores[spoof]
    counts = classes[0].size, classes[1].size
    if min(counts) == 0:
        missing = "bona fide" if counts[0] == 0 else "spoofed"
        return ConditionMetrics(
            eer=None,
            n_bonafide=counts[0],
            n_spoof=counts[1],
            confidence=None,
            note=f"There are no {missing} trials of this value.",
        )
    intervals, note = eer_confidence(scores, bonafide, spoof, how, speakers)
    if intervals is not None and intervals.intervals["eer_percent"][1] == 0:
        note = NO_ERRORS
    return ConditionMetrics(
        eer=eer(*classes, compat=compat).eer,
        n_bonafide=counts[0],
        n_spoof=counts[1],
        confidence=intervals,
        note=note,
    )


def eer_confidence(
    scores: NDArray[np.float64],
    bonafide: NDArray[np.bool_],
    spoof: NDArray[np.bool_],
    how: Bootstrap | None,
    speakers: NDArray[np.str_] | None,
) -> tuple[Confidence | None, str | None]:
    """The interval of the equal error rate of some trials, or None and why.

    Args:
        scores: (n,) scores of all trials.
        bonafide: (n,) which of them are the bona fide trials.
        spoof: (n,) which of them are the spoofed trials.
        how: Bootstrap; no interval unless given.
        speakers: (n,) speakers, to resample by speaker.
    """
    if how is None:
        return None, None
    named = None if speakers is None else (speakers[bonafide], speakers[spoof])
    try:
        found = confidence(
            scores[bonafide], scores[spoof], how, speakers=named, metrics=("eer_percent",)
        )
    except MetricError as error:  # e.g. one speaker alone in this value
        return None, f"No interval: {error}"
    return found, None
