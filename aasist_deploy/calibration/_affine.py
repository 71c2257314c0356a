"""Affine calibration: LLR = scale * score + offset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.calibration._logistic import (
    PSEUDO_TRIALS,
    checked_fit_data,
    fit_logistic,
    sigmoid,
)
from aasist_deploy.errors import MetricError, ModelFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Score to log-likelihood ratio, and what it was fitted on.

    Attributes:
        scale: Positive, so that the order of trials stays.
        offset: The LLR of the score 0, in nats.
        n_bonafide: Bona fide trials of the fit; None when not known, as for all below.
        n_spoof: Spoofed trials of the fit.
        separable: A threshold told the fitted trials apart without error. Then the scale rests on
            `pseudo_trials` and not on errors that were seen.
        prior_bonafide: Effective prior of the fit.
        pseudo_trials: Regularisation of the fit; see `fit_affine`.
        scores_sha256: Hash of the score file of the fit.
    """

    scale: float
    offset: float
    n_bonafide: int | None = None
    n_spoof: int | None = None
    separable: bool | None = None
    prior_bonafide: float | None = None
    pseudo_trials: float | None = None
    scores_sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse a function that is no calibration."""
        # Read from a file: the types are not known.
        numbers = all(
            type(value) in (int, float) and math.isfinite(value)
            for value in (self.scale, self.offset)
        )
        if not numbers or self.scale <= 0:
            raise ModelFileError(
                f"A calibration has a scale above 0 and a finite offset; this one has "
                f"{self.scale!r} and {self.offset!r}.",
                fix="calibrate the model again with: aasist-deploy calibrate",
            )

    def llr(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores of any shape -> log-likelihood ratios in nats, in double precision."""
        return self.scale * np.asarray(scores, dtype=np.float64) + self.offset

    def score_at(self, llr: float) -> float:
        """The score that has this log-likelihood ratio: a threshold on one is one on the other."""
        return (llr - self.offset) / self.scale

    def to_dict(self) -> dict[str, Any]:
        """What the contract holds as `calibration`, in plain JSON types."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read `calibration` of a contract; keys that are not known are left out.

        Raises:
            ModelFileError: scale or offset is missing or makes no calibration.
        """
        if not isinstance(values, dict) or not {"scale", "offset"} <= values.keys():
            raise ModelFileError(
                f"The contract's calibration is {values!r}; it must hold scale and offset.",
                fix="calibrate the model again with: aasist-deploy calibrate",
            )
        known = cls.__dataclass_fields__.keys() & values.keys()
        return cls(**{name: values[name] for name in known})


def fit_affine(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    prior_bonafide: float = 0.5,
    pseudo_trials: float = PSEUDO_TRIALS,
    scores_sha256: str | None = None,
) -> Calibration:
    """Fit LLR = scale * score + offset by prior-weighted logistic regression.

    The prior says for which priors and costs the fit is best; 0.5 minimises Cllr. The classes
    weigh as the prior says, however many trials each has. When a threshold separates the classes
    the likelihood has no maximum: ever larger scales fit ever better. The minimum with
    `pseudo_trials` exists nevertheless, and the result says that it was needed (`separable`).

    Args:
        scores: (n,) finite; higher means more bona fide.
        is_bonafide: (n,) the truth.
        prior_bonafide: In (0, 1).
        pseudo_trials: Share of a trial of each class that counts as wrongly labelled; 0 is plain
            maximum likelihood, 1 Platt's choice.
        scores_sha256: Hash of the score file, to be kept with the result.

    Raises:
        MetricError: A class is missing, a score is NaN or infinite, all are equal, the scores are
            reversed or tell nothing, or there is no maximum (separated, without pseudo-trials).

    Source: see `fit_logistic`.
    """
    values, truth = checked_fit_data(
        scores, is_bonafide, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials, axes=1
    )
    separable = separates(values, truth)
    if separable and pseudo_trials == 0:
        raise MetricError(
            f"All {int(truth.sum())} bona fide scores lie above all {int((~truth).sum())} spoofed "
            "ones: the likelihood has no maximum.",
            fix="Give harder trials, or keep the pseudo-trials.",
        )
    fit = fit_logistic(
        values[:, None], truth, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials
    )
    scale = float(fit.weights[0])
    if scale <= 0:
        raise MetricError(
            f"The fitted scale is {scale:.3g}: higher scores are not more often bona fide "
            f"(means {values[truth].mean():.4g} and {values[~truth].mean():.4g} of spoof).",
            fix="Higher must mean more bona fide: check the polarity of the scores and the key.",
        )
    return Calibration(
        scale=scale,
        offset=fit.offset,
        n_bonafide=int(np.count_nonzero(truth)),
        n_spoof=int(np.count_nonzero(~truth)),
        separable=separable,
        prior_bonafide=prior_bonafide,
        pseudo_trials=pseudo_trials,
        scores_sha256=scores_sha256,
    )


def separates(scores: NDArray[np.float64], is_bonafide: NDArray[np.bool_]) -> bool:
    """Whether some threshold has no error, or errors at one tied score only.

    Source: complete and quasi-complete separation (Albert and Anderson, On the existence of
    maximum likelihood estimates in logistic regression models, Biometrika 71, 1984).
    """
    lowest, highest = scores[is_bonafide].min(), scores[~is_bonafide].max()
    return bool(lowest >= highest and scores.min() < scores.max())


def p_spoof(llr: ArrayLike, prior_spoof: float = 0.5) -> NDArray[np.float64]:
    """Probability that a trial is spoofed, by Bayes' rule.

        p_spoof = 1 / (1 + exp(llr + ln((1 - prior_spoof) / prior_spoof)))

    Args:
        llr: Log-likelihood ratios in nats, any shape; of a calibrated score, else the result is no
            probability.
        prior_spoof: How likely a trial is spoofed before it is heard, in (0, 1).

    Raises:
        UsageError: The prior is not in (0, 1).
    """
    if not 0 < prior_spoof < 1:
        raise UsageError(f"The prior of spoof is {prior_spoof}; it must be between 0 and 1.")
    llr = np.asarray(llr, dtype=np.float64)
    return sigmoid(-(llr + math.log((1 - prior_spoof) / prior_spoof)))
