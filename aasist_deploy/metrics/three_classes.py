"""Error rates of scores with three classes: targets, nontargets and spoofs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.rates import OFFICIAL_MARGIN, Compat

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class ThreeClasses(NamedTuple):
    """Scores of each class; higher means more a target."""

    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    spoof: NDArray[np.float64]


class ThreeRates(NamedTuple):
    """Rates at each threshold, ascending: Pmiss from 0 to 1, both Pfa from 1 to 0."""

    thresholds: NDArray[np.float64]
    pmiss: NDArray[np.float64]
    pfa: NDArray[np.float64]
    pfa_spoof: NDArray[np.float64]


def three_classes(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> ThreeClasses:
    """Return the classes as vectors of float64.

    Raises:
        MetricError: A class is empty or no vector, or a score is NaN or infinite.
    """
    classes = ThreeClasses(
        *(np.asarray(scores, dtype=np.float64) for scores in (target, nontarget, spoof))
    )
    if any(scores.ndim != 1 for scores in classes):
        shapes = ", ".join(str(scores.shape) for scores in classes)
        raise MetricError(f"Scores must be vectors; their shapes are {shapes}.")
    if any(scores.size == 0 for scores in classes):
        counts = [scores.size for scores in classes]
        raise MetricError(
            f"There are {counts[0]} target, {counts[1]} nontarget and {counts[2]} spoofed trials; "
            "error rates need at least one of each.",
            fix="Give trials of all three classes.",
        )
    n_bad = sum(int(np.count_nonzero(~np.isfinite(scores))) for scores in classes)
    if n_bad:
        raise MetricError(
            f"{n_bad} of {sum(scores.size for scores in classes)} scores are NaN or infinite.",
            fix="Score these trials again; they have no place in a ranking.",
        )
    return classes


def split_by_label(scores: ArrayLike, labels: ArrayLike) -> ThreeClasses:
    """Split scores by their labels target, nontarget and spoof.

    Raises:
        MetricError: There are other labels, or not as many as scores, or a class is empty.
    """
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.shape != names.shape or values.ndim != 1:
        raise MetricError(
            f"There are scores of shape {values.shape} and labels of shape {names.shape}; "
            "they must be vectors of one length."
        )
    unknown = sorted(set(names.tolist()) - set(ThreeClasses._fields))
    if unknown:
        raise MetricError(
            f"There is the label {unknown[0]!r}; expected target, nontarget or spoof."
        )
    return three_classes(*(values[names == name] for name in ThreeClasses._fields))


def three_rates(classes: ThreeClasses, *, compat: Compat = "corrected") -> ThreeRates:
    """Compute the rates at each threshold.

    corrected: one point for each distinct score and one above all. official: one point for each
    trial and one below all; of equal scores targets count as lower than nontargets, and those as
    lower than spoofs.

    Source: official: ASVspoof 5 evaluation package, compute_Pmiss_Pfa_Pspoof_curves (arithmetic,
    not code).
    """
    together = np.concatenate(classes)
    if compat == "official":
        order = np.argsort(together, kind="stable")
        of_class = np.repeat(np.arange(3), [scores.size for scores in classes])[order]
        thresholds = np.concatenate(([together[order[0]] - OFFICIAL_MARGIN], together[order]))
        below = [np.append(0, np.cumsum(of_class == number)) for number in range(3)]
    else:
        distinct = np.unique(together)
        thresholds = np.append(distinct, np.nextafter(distinct[-1], np.inf))
        below = [np.searchsorted(np.sort(scores), thresholds, side="left") for scores in classes]
    shares = [n / scores.size for n, scores in zip(below, classes, strict=True)]
    return ThreeRates(thresholds, shares[0], 1 - shares[1], 1 - shares[2])
