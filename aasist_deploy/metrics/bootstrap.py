"""Confidence intervals by bootstrap: the scores are sorted once, only weights are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.rates import checked_classes
from aasist_deploy.metrics.resampling import (
    Draws,
    SpeakerDraws,
    Unit,
    UtteranceDraws,
    named_speakers,
)
from aasist_deploy.metrics.weighted import WeightedMetrics

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from aasist_deploy.metrics.resampling import Speakers
    from aasist_deploy.metrics.tandem import TandemRates

DEFAULT_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Percentile intervals of the metrics of one set of trials.

    Attributes:
        level: Confidence of each interval by itself, e.g. 0.95.
        n_bootstrap: Replicates.
        unit: What was drawn: utterances, or speakers with all of their trials.
        seed: Of the random numbers; the same seed gives the same intervals.
        intervals: Name of a metric as in the summary -> (low, high).
    """

    level: float
    n_bootstrap: int
    unit: Unit
    seed: int
    intervals: Mapping[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON."""
        return {
            "level": self.level,
            "n_bootstrap": self.n_bootstrap,
            "unit": self.unit,
            "seed": self.seed,
            **{name: list(interval) for name, interval in self.intervals.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How to resample.

    Attributes:
        n: Replicates, at least 1; 1,000 give the ends of a 95 % interval to about a tenth of it.
        unit: utterance, or speaker, which is the honest one where a speaker has many trials.
        seed: Of the random numbers.
        level: Confidence, in (0, 1).
    """

    n: int = 1000
    unit: Unit = "utterance"
    seed: int = 0
    level: float = DEFAULT_LEVEL

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n < 1 or not 0 < self.level < 1 or self.seed < 0:
            raise MetricError(
                f"{self.n} replicates, seed {self.seed} and level {self.level}: replicates must "
                "be 1 or more, the seed 0 or more, and the level between 0 and 1."
            )


def confidence(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    how: Bootstrap,
    *,
    speakers: tuple[Speakers, Speakers] | None = None,
    asv: TandemRates | None = None,
    metrics: Collection[str] | None = None,
) -> Confidence:
    """Compute percentile intervals of the metrics, in their corrected form.

    Each replicate holds as many bona fide and as many spoofed trials as there are (by utterance),
    or as many speakers (by speaker). Without errors in the data there are none in any replicate:
    an interval of [0, 0] says nothing of the errors that more trials would show.

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.
        how: Replicates, unit, seed and level.
        speakers: Speaker of each bona fide and of each spoofed trial; needed by speaker.
        asv: Rates of the ASV system, for the t-DCF; they are held fixed.
        metrics: Names to compute (`weighted.METRICS`); all that can be, unless given.

    Raises:
        MetricError: A class is empty, a score is NaN or infinite, or a speaker is not known.

    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13.
    """
    replicates = bootstrap_replicates(
        bonafide, spoof, how, speakers=speakers, asv=asv, metrics=metrics
    )
    return Confidence(
        level=how.level,
        n_bootstrap=how.n,
        unit=how.unit,
        seed=how.seed,
        intervals={name: interval(of, how.level) for name, of in replicates.items()},
    )


def bootstrap_replicates(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    how: Bootstrap,
    *,
    speakers: tuple[Speakers, Speakers] | None = None,
    asv: TandemRates | None = None,
    metrics: Collection[str] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the metrics of all replicates; arguments and errors as `confidence`.

    Returns:
        Name of a metric -> (how.n,) its values.
    """
    classes = checked_classes(bonafide, spoof)
    order = tuple(np.argsort(scores, kind="stable") for scores in classes)
    draw = draws(
        how.unit,
        classes[0].size,
        classes[1].size,
        _speakers_in_order(speakers, order),
    )
    compute = WeightedMetrics(classes[0][order[0]], classes[1][order[1]], asv=asv, metrics=metrics)
    random = np.random.default_rng(how.seed)
    found = {name: np.empty(how.n) for name in compute.names}
    for replicate in range(how.n):
        for name, value in compute(*draw(random)).items():
            found[name][replicate] = value
    return found


def draws(
    unit: Unit,
    n_bonafide: int,
    n_spoof: int,
    speakers: tuple[NDArray[np.str_], NDArray[np.str_]] | None,
) -> Draws:
    """The way to draw for a unit.

    Raises:
        MetricError: By speaker, and the speakers are not known or not as many as trials.
    """
    if unit == "utterance":
        return UtteranceDraws(n_bonafide, n_spoof)
    if speakers is None:
        raise MetricError(
            "Resampling by speaker needs the speaker of each trial, and none is known.",
            fix="Give a protocol that names the speakers (--protocol), or resample by utterance.",
        )
    return SpeakerDraws(*speakers)


def _speakers_in_order(
    speakers: tuple[Speakers, Speakers] | None, order: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.str_], NDArray[np.str_]] | None:
    if speakers is None:
        return None
    named = named_speakers(speakers[0]), named_speakers(speakers[1])
    if [of.size for of in named] != [of.size for of in order]:
        raise MetricError(
            f"There are speakers of {named[0].size} bona fide and {named[1].size} spoofed trials, "
            f"but {order[0].size} and {order[1].size} trials."
        )
    return named[0][order[0]], named[1][order[1]]


def interval(replicates: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The middle part of the replicates that holds `level` of them."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
