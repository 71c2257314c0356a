"""Error rates over all thresholds; every threshold metric starts here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from aasist_deploy.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Compat = Literal["corrected", "official"]

# The official packages put their first threshold this far below the lowest score.
OFFICIAL_MARGIN: Final = 0.001


def det_curve(
    bonafide: ArrayLike, spoof: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the detection error trade-off, one point for each distinct score and one above all.

    Args:
        bonafide: (n,) scores of bona fide trials.
        spoof: (m,) scores of spoofed trials.

    Returns:
        (k,) thresholds, ascending; (k,) Pfa = share of spoof at or above the threshold, from 1
        to 0; (k,) Pmiss = share of bona fide below it, from 0 to 1.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.
    """
    thresholds, n_misses, n_false_alarms = operating_points(bonafide, spoof)
    return thresholds, n_false_alarms / n_false_alarms[0], n_misses / n_misses[-1]


def operating_points(
    bonafide: ArrayLike, spoof: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Count errors at each distinct threshold, so that equal scores are never told apart.

    Returns:
        (k,) thresholds, ascending, the last one above all scores; (k,) bona fide below each;
        (k,) spoof at or above each.
    """
    bonafide, spoof = checked_classes(bonafide, spoof)
    distinct = np.unique(np.concatenate((bonafide, spoof)))
    n_misses = np.searchsorted(np.sort(bonafide), distinct, side="left")
    n_rejected_spoofs = np.searchsorted(np.sort(spoof), distinct, side="left")
    return (
        np.append(distinct, np.nextafter(distinct[-1], np.inf)),
        np.append(n_misses, bonafide.size).astype(np.int64),
        np.append(spoof.size - n_rejected_spoofs, 0).astype(np.int64),
    )


def official_curve(
    positive: ArrayLike, negative: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the curve as the official packages do: one point for each trial, ties in list order.

    A tie is broken by a stable sort with the positive class first, so that of equal scores the
    positive ones count as lower. Kept for comparison with published figures; see docs/metrics.md.

    Returns:
        (n + m + 1,) thresholds; share of negative trials after each, and of positive ones up to it.

    Source: ASVspoof 2019 evaluation package, compute_det_curve (arithmetic, not code).
    """
    positive, negative = checked_classes(positive, negative)
    scores = np.concatenate((positive, negative))
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    n_positive = np.append(0, np.cumsum(order < positive.size))
    n_negative = np.arange(scores.size + 1) - n_positive
    return (
        np.append(ascending[0] - OFFICIAL_MARGIN, ascending),
        (negative.size - n_negative) / negative.size,
        n_positive / positive.size,
    )


def checked_classes(
    bonafide: ArrayLike, spoof: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both classes as vectors of float64.

    Raises:
        MetricError: A class is empty or no vector, or a score is NaN or infinite.
    """
    classes = np.asarray(bonafide, dtype=np.float64), np.asarray(spoof, dtype=np.float64)
    if any(scores.ndim != 1 for scores in classes):
        raise MetricError(
            f"Scores must be vectors; their shapes are {classes[0].shape} and {classes[1].shape}."
        )
    if any(scores.size == 0 for scores in classes):
        raise MetricError(
            f"There are {classes[0].size} bona fide and {classes[1].size} spoofed trials; "
            "error rates need at least one of each.",
            fix="Give trials of both classes.",
        )
    n_bad = sum(int(np.count_nonzero(~np.isfinite(scores))) for scores in classes)
    if n_bad:
        raise MetricError(
            f"{n_bad} of {classes[0].size + classes[1].size} scores are NaN or infinite.",
            fix="Score these trials again; they have no place in a ranking.",
        )
    return classes
