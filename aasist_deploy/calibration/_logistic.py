"""Prior-weighted logistic regression by Newton's method, with an answer for separated classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# How much of a trial of each class counts as wrongly labelled. Measured on held trials of three
# systems, fitted on 10 to 1,000 trials of a class: of 0.02 to 1 this is within 8 % of the lowest
# Cllr everywhere; Platt's 1 is up to three times as high (docs/calibration.md).
PSEUDO_TRIALS: Final = 0.1

_MAX_STEPS: Final = 100  # 8 to 12 are usual; a wanted maximum that does not exist takes them all
_MAX_HALVINGS: Final = 40
_DECREMENT: Final = 1e-13  # of the objective: what is left is then below its own rounding
_SUFFICIENT: Final = 1e-4  # Armijo's constant, as usual
_RANK: Final = 1e-11  # below this share of the largest curvature a direction carries nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticFit:
    """The minimum: LLR = features @ weights + offset."""

    weights: NDArray[np.float64]
    offset: float


def fit_logistic(
    features: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    *,
    prior_bonafide: float,
    pseudo_trials: float,
) -> LogisticFit:
    """Minimise the prior-weighted cross-entropy of an affine function of the features.

    With x = features @ weights + offset + logit(P) and P the prior of bona fide,

        P / n_bonafide * sum over bona fide of [(1 - e) softplus(-x) + e softplus(x)]
        + (1 - P) / n_spoof * sum over spoof of [(1 - e) softplus(x) + e softplus(-x)]

    where e = c / (n + 2 c) for c pseudo-trials and n trials of the class. With c = 0 this is the
    likelihood itself, which has no maximum when a threshold separates the classes; with c > 0 the
    minimum always exists, and e vanishes as trials are added. Features are standardised inside, so
    an affine change of them changes nothing in x.

    Args:
        features: (n, k) finite, no column constant.
        is_bonafide: (n,) the truth; both classes are there.
        prior_bonafide: P, in (0, 1).
        pseudo_trials: c >= 0.

    Raises:
        MetricError: A column is constant, or there is no minimum.

    Source: Brümmer and du Preez, Application-independent evaluation of speaker detection, Computer
    Speech and Language 20, 2006 (the weighting, as in the authors' train_llr_fusion); Platt,
    Probabilistic outputs for support vector machines, 1999 (targets (n + 1) / (n + 2): c = 1);
    Boyd and Vandenberghe, Convex Optimization, 2004, 9.5 (damped Newton).
    """
    standard, scale, centre = _standardised(features)
    design = np.column_stack((standard, np.ones(len(standard))))
    n_bonafide = int(np.count_nonzero(is_bonafide))
    n_spoof = len(is_bonafide) - n_bonafide
    wrong_bonafide, wrong_spoof = (
        pseudo_trials / (n + 2 * pseudo_trials) for n in (n_bonafide, n_spoof)
    )
    target = np.where(is_bonafide, 1 - wrong_bonafide, wrong_spoof)
    weight = np.where(is_bonafide, prior_bonafide / n_bonafide, (1 - prior_bonafide) / n_spoof)
    parameters = _newton(design, target, weight, math.log(prior_bonafide / (1 - prior_bonafide)))
    with np.errstate(over="ignore", invalid="ignore"):
        weights = parameters[:-1] / scale
        offset = float(parameters[-1] - (parameters[:-1] * (centre / scale)).sum())
    if not (np.isfinite(weights).all() and math.isfinite(offset)):
        raise MetricError(
            "The scores are too close together or too far apart for double precision: "
            f"they run from {float(features.min())!r} to {float(features.max())!r}.",
            fix="Scale the scores to a usual range first.",
        )
    return LogisticFit(weights=weights, offset=offset)


def checked_fit_data(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    prior_bonafide: float,
    pseudo_trials: float,
    axes: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and truth as arrays.

    Raises:
        MetricError: The shapes do not fit, a class is missing, a score is NaN or infinite, the
            prior is not in (0, 1), or the number of pseudo-trials is negative.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(is_bonafide, dtype=np.bool_)
    if values.ndim != axes or truth.ndim != 1 or len(values) != len(truth):
        raise MetricError(
            f"The shapes of scores and truth are {values.shape} and {truth.shape}; "
            f"they must be {'(n,)' if axes == 1 else '(n, systems)'} and (n,)."
        )
    n_bonafide = int(np.count_nonzero(truth))
    if n_bonafide in (0, len(truth)):
        raise MetricError(
            f"There are {n_bonafide} bona fide and {len(truth) - n_bonafide} spoofed trials; "
            "calibration needs at least one of each.",
            fix="Give trials of both classes.",
        )
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise MetricError(
            f"{n_bad} of {values.size} scores are NaN or infinite.",
            fix="Score these trials again, or leave them out.",
        )
    if not 0 < prior_bonafide < 1:
        raise MetricError(f"The prior of bona fide is {prior_bonafide}; it must be in (0, 1).")
    if not (0 <= pseudo_trials < math.inf):
        raise MetricError(f"The number of pseudo-trials is {pseudo_trials}; it must be >= 0.")
    return values, truth


def softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(1 + exp(x)), without overflow."""
    return np.logaddexp(0.0, x)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow and exact in both tails."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _standardised(
    features: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Columns of mean 0 and deviation 1, with (k,) scale and (k,) centre of what they were."""
    constant = np.flatnonzero(features.max(axis=0) == features.min(axis=0))
    if len(constant):
        raise MetricError(
            f"All {len(features)} scores{_of_system(constant[0], features)} are "
            f"{float(features[0, constant[0]])!r}: they tell nothing apart.",
            fix="Check that the file holds scores.",
        )
    largest = np.abs(features).max(axis=0)
    unit = features / largest  # so that no square overflows or vanishes
    centre = unit.mean(axis=0)
    deviation = unit.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = (unit - centre) / deviation
    return standard, deviation * largest, centre * largest


def _of_system(column: int, features: NDArray[np.float64]) -> str:
    return f" of system {column + 1}" if features.shape[1] > 1 else ""


def _newton(
    design: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    logit_prior: float,
) -> NDArray[np.float64]:
    """The parameters at the minimum; of several (collinear columns) those of the least norm."""

    def objective(parameters: NDArray[np.float64]) -> float:
        x = design @ parameters + logit_prior
        return float((weight * (target * softplus(-x) + (1 - target) * softplus(x))).sum())

    parameters = np.zeros(design.shape[1])
    value = objective(parameters)
    for _ in range(_MAX_STEPS):
        posterior = sigmoid(design @ parameters + logit_prior)
        gradient = design.T @ (weight * (posterior - target))
        curvature = weight * posterior * (1 - posterior)
        hessian = (design * curvature[:, None]).T @ design
        step = np.linalg.lstsq(hessian, gradient, rcond=_RANK)[0]
        decrement = float(gradient @ step)
        if decrement <= _DECREMENT * value:
            return parameters - step
        for halving in range(_MAX_HALVINGS):
            share = 0.5**halving
            lower = objective(parameters - share * step)
            if lower <= value - _SUFFICIENT * share * decrement:
                break
        else:
            break
        parameters, value = parameters - share * step, lower
    raise MetricError(
        f"Logistic regression did not settle within {_MAX_STEPS} steps; its cross-entropy is "
        f"{value:.3g} and still falls.",
        fix="Give more trials, or keep pseudo-trials above 0: separated classes have no maximum.",
    )
