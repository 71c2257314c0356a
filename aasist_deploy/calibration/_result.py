"""Calibration of a score table as one result: the fit, its thresholds, figures before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aasist_deploy.calibration._affine import Calibration, fit_affine
from aasist_deploy.calibration._figures import LlrFigures, llr_figures
from aasist_deploy.calibration._thresholds import (
    CONFIDENCE,
    OperatingPoint,
    operating_point,
    threshold_for_false_alarms,
    threshold_for_misses,
    trials_to_show,
)
from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.eer import eer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.metrics.dcf import DetectionCosts
    from aasist_deploy.scores import ScoreTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures on one set of trials.

    Attributes:
        before: The scores taken for log-likelihood ratios as they are.
        after: The calibrated ones.
        points: Errors at each named threshold.
    """

    before: LlrFigures
    after: LlrFigures
    points: tuple[OperatingPoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures in plain JSON types."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "thresholds": [point.to_dict() for point in self.points],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """What `calibrate` found.

    Attributes:
        calibration: Score to log-likelihood ratio.
        costs: Prior and costs of the Bayes threshold and of the detection costs.
        thresholds: Name -> threshold on the raw score.
        fit: On the trials of the fit; better than on any others.
        held: On trials that had no part in the fit, or None.
        notes: What a reader must know to take the figures for what they are.
    """

    calibration: Calibration
    costs: DetectionCosts
    thresholds: dict[str, float]
    fit: Measured
    held: Measured | None
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether held trials, if there are any, have a Cllr no higher than before."""
        return self.held is None or self.held.after.cllr <= self.held.before.cllr

    def to_dict(self) -> dict[str, Any]:
        """The result in plain JSON types."""
        return {
            "calibration": self.calibration.to_dict(),
            "prior_spoof": self.costs.p_spoof,
            "cost_miss": self.costs.cost_miss,
            "cost_fa": self.costs.cost_fa,
            "confidence": CONFIDENCE,
            "thresholds": self.thresholds,
            "fit": self.fit.to_dict(),
            "held": None if self.held is None else self.held.to_dict(),
            "holds": self.holds,
            "notes": list(self.notes),
        }


def calibrate(
    table: ScoreTable,
    held: ScoreTable | None = None,
    *,
    costs: DetectionCosts,
    false_alarm_rates: Sequence[float] = (),
    miss_rates: Sequence[float] = (),
    scores_sha256: str | None = None,
) -> CalibrationResult:
    """Fit a calibration, set thresholds on the trials of the fit, and measure both.

    Args:
        table: Scores with their truth, to fit on.
        held: Scores with their truth, to measure on alone.
        costs: For the Bayes threshold and the detection costs.
        false_alarm_rates: Shares of spoof accepted that thresholds are wanted for, in [0, 1).
        miss_rates: Shares of bona fide rejected that thresholds are wanted for, in [0, 1).
        scores_sha256: Hash of the score file of the fit, kept in the result.

    Raises:
        MetricError: The truth of a table is not known, or `fit_affine` refuses the scores.
        UsageError: A rate is out of its range.
    """
    false_alarm_rates = tuple(dict.fromkeys(false_alarm_rates))
    miss_rates = tuple(dict.fromkeys(miss_rates))
    scores, truth = _labelled(table, "fit")
    calibration = fit_affine(scores, truth, scores_sha256=scores_sha256)
    bonafide, spoof = scores[truth], scores[~truth]
    bayes = (
        f"bayes(prior_spoof={costs.p_spoof:g}, cost_miss={costs.cost_miss:g}, "
        f"cost_fa={costs.cost_fa:g})"
    )
    thresholds = {
        bayes: calibration.score_at(costs.bayes_threshold),
        "eer": eer(bonafide, spoof).threshold,
        **{
            f"far({r:g})": threshold_for_false_alarms(bonafide, spoof, r) for r in false_alarm_rates
        },
        **{f"miss({r:g})": threshold_for_misses(bonafide, spoof, r) for r in miss_rates},
    }
    fit = _measured(scores, truth, calibration, costs, thresholds)
    on_held = (
        None
        if held is None
        else _measured(*_labelled(held, "held"), calibration, costs, thresholds)
    )
    notes = [_separable_note(calibration)] if calibration.separable else []
    notes += _rate_notes(fit, false_alarm_rates, miss_rates)
    if on_held is None:
        notes.append(
            "All figures are on the trials of the fit and too good for others; "
            "held trials measure it."
        )
    elif held is not None and (shared := set(table.utterances) & set(held.utterances)):
        notes.append(
            f"{len(shared)} of the {len(held.utterances)} held trials have the names of trials of "
            "the fit: what they say is too good if they are the same."
        )
    if on_held is not None and on_held.after.cllr > on_held.before.cllr:
        notes.append(
            f"On the held trials Cllr rose from {on_held.before.cllr:.4f} to "
            f"{on_held.after.cllr:.4f}: they are not like those of the fit, and this calibration "
            "does not hold on them."
        )
    return CalibrationResult(
        calibration=calibration,
        costs=costs,
        thresholds=thresholds,
        fit=fit,
        held=on_held,
        notes=tuple(notes),
    )


def _labelled(table: ScoreTable, which: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if table.is_bonafide is None:
        raise MetricError(
            f"The truth of the {len(table.scores)} scores ({which}) is not known.",
            fix="Give the protocol of the split that was scored.",
        )
    return table.scores, table.is_bonafide


def _measured(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    calibration: Calibration,
    costs: DetectionCosts,
    thresholds: dict[str, float],
) -> Measured:
    return Measured(
        before=llr_figures(scores, truth, costs),
        after=llr_figures(calibration.llr(scores), truth, costs),
        points=tuple(
            operating_point(
                scores[truth],
                scores[~truth],
                threshold,
                llr=float(calibration.llr(threshold)),
                name=name,
            )
            for name, threshold in thresholds.items()
        ),
    )


def _separable_note(calibration: Calibration) -> str:
    return (
        f"A threshold tells the {calibration.n_bonafide} bona fide and {calibration.n_spoof} "
        "spoofed trials apart without error: they do not say how strong a score is, and the scale "
        f"rests on {calibration.pseudo_trials:g} pseudo-trial of each class."
    )


def _rate_notes(
    fit: Measured, false_alarm_rates: Sequence[float], miss_rates: Sequence[float]
) -> list[str]:
    by_name = {point.name: point for point in fit.points}
    notes = []
    for rate in false_alarm_rates:
        point = by_name[f"far({rate:g})"]
        if point.false_alarm_bound > rate:
            counts = (point.n_false_alarms, point.n_spoof, "spoofed", point.false_alarm_bound)
            notes.append(_rate_note(point.name, rate, *counts))
    for rate in miss_rates:
        point = by_name[f"miss({rate:g})"]
        if point.miss_bound > rate:
            counts = (point.n_misses, point.n_bonafide, "bona fide", point.miss_bound)
            notes.append(_rate_note(point.name, rate, *counts))
    return notes


def _rate_note(
    name: str, rate: float, n_errors: int, n_trials: int, what: str, bound: float
) -> str:
    enough = (
        f"to show that takes {trials_to_show(rate)} trials without an error."
        if rate > 0
        else "no number of trials shows a rate of 0."
    )
    return (
        f"{name}: {n_errors} of {n_trials} {what} trials are wrong there, so the rate is below "
        f"{bound:.2%} at {CONFIDENCE:.0%}, not {rate:.2%}; {enough}"
    )
