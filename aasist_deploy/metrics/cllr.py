"""Cost of log-likelihood ratios (Cllr), as given and after the best monotone calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.metrics.pav import pav
from aasist_deploy.metrics.rates import checked_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Compute the cost of taking the scores for log-likelihood ratios.

        Cllr = 1/2 [mean over bona fide of log2(1 + exp(-s)) + mean over spoof of log2(1 + exp(s))]

    Args:
        bonafide: (n,) natural-log likelihood ratios of bona fide trials.
        spoof: (m,) of spoofed trials.

    Returns:
        In bits: 0 for perfect ratios, 1 for ratios that say nothing (all 0), above 1 for ratios
        that mislead.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: Brummer and du Preez, Application-independent evaluation of speaker detection, Computer
    Speech and Language 20, 2006; ASVspoof 5 evaluation plan.
    """
    bonafide, spoof = checked_classes(bonafide, spoof)
    return float((bits(bonafide).mean() + bits(-spoof).mean()) / 2)


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Compute Cllr after the best non-decreasing calibration on these very trials (PAV).

    What is left is the part of Cllr that no calibration can take away; Cllr - minCllr is the
    loss of calibration.

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.

    Returns:
        In bits, in [0, 1], and never above `cllr` (but for rounding).

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: as `cllr`; the sum over bins is written out in docs/metrics.md.
    """
    bins = pav(bonafide, spoof)
    return bits_of_bins(bins.n_bonafide, bins.n_spoof)


def bits(llr: NDArray[np.float64]) -> NDArray[np.float64]:
    """log2(1 + exp(-llr)), without overflow."""
    return np.asarray(np.logaddexp(0, -llr) / np.log(2), dtype=np.float64)


def bits_of_bins(n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]) -> float:
    """Cllr when each bin has the log-likelihood ratio of its own counts.

    With x and y the shares of all bona fide and of all spoofed trials that are in a bin, its ratio
    is x / y, and its trials cost x log2(1 + y / x) + y log2(1 + x / y); a pure bin costs nothing.
    """
    x, y = n_bonafide / n_bonafide.sum(), n_spoof / n_spoof.sum()
    mixed = (x > 0) & (y > 0)
    x, y = x[mixed], y[mixed]
    return float((x * np.log2((x + y) / x) + y * np.log2((x + y) / y)).sum() / 2)
