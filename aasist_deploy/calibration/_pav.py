"""Isotonic calibration, as a check on the affine one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.calibration._logistic import checked_fit_data
from aasist_deploy.metrics.pav import pav

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def pav_llr(scores: ArrayLike, is_bonafide: ArrayLike) -> NDArray[np.float64]:
    """The log-likelihood ratio of each trial after the best non-decreasing calibration.

    It knows only the trials that it was fitted on, says -inf and +inf where a class is absent, and
    is not stored with a model: its Cllr is minCllr, the part that no calibration can take away.

    Args:
        scores: (n,) finite; higher means more bona fide.
        is_bonafide: (n,) the truth.

    Returns:
        (n,) in nats, in the order of the scores.

    Raises:
        MetricError: A class is missing, or a score is NaN or infinite.

    Source: `aasist_deploy.metrics.pav`.
    """
    values, truth = checked_fit_data(
        scores, is_bonafide, prior_bonafide=0.5, pseudo_trials=0.0, axes=1
    )
    bins = pav(values[truth], values[~truth])
    return bins.llr[np.searchsorted(bins.thresholds, values, side="right") - 1]
