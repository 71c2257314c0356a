"""Axes on which error rates can be read: normal deviates, ticks, and no more points than show."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from numpy.typing import NDArray

TICKS_PERCENT: Final = (0.001, 0.01, 0.1, 1, 5, 20, 50, 80, 95, 99, 99.9)
_GRID: Final = 1 / 400  # of the axis: what the eye can tell apart on a wide screen


def probit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal deviates of probabilities strictly between 0 and 1."""
    unique, index = np.unique(p, return_inverse=True)
    inverse = NormalDist().inv_cdf
    return np.array([inverse(value) for value in unique.tolist()], dtype=np.float64)[index]


def clipped_probit(
    rate: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the deviates of rates, and those of the ends of an axis from `low` to `high`.

    Rates of 0 and 1 lie at infinity; they come out just outside the frame, where they are as
    invisible.
    """
    return probit(np.clip(rate, low / 2, (1 + high) / 2)), probit(np.array([low, high]))


def thin(
    x: NDArray[np.float64], y: NDArray[np.float64], width: float, height: float
) -> NDArray[np.bool_]:
    """Choose the points of a curve that can be told apart on axes of this extent; keep the last."""
    cells = np.round(np.stack([x / (width * _GRID), y / (height * _GRID)]))
    keep: NDArray[np.bool_] = np.append(True, np.any(np.diff(cells, axis=1) != 0, axis=0))
    keep[-1] = True
    return keep


def rate_limits(n_trials: int, eers_percent: list[float]) -> tuple[float, float]:
    """Ends of an axis of error rates: fine enough for the smallest rate, wide enough for the EERs.

    Args:
        n_trials: Of the larger class.
        eers_percent: One or more equal error rates that must be seen.

    Returns:
        Two rates in (0, 1).
    """
    lowest, highest = min(eers_percent), max(eers_percent)
    smallest = max(50 / n_trials, lowest / 50)
    lows = [tick for tick in TICKS_PERCENT if tick <= min(1.0, smallest, 100 - highest)]
    high = 60.0 if highest < 40 else next(
        (tick for tick in (80, 95, 99) if tick > highest + 2), 99.9
    )  # fmt: skip
    return (lows[-1] if lows else TICKS_PERCENT[0]) / 100, high / 100


def probit_ticks(axis: Axis, low: float, high: float) -> None:
    """Label an axis of normal deviates in percent."""
    ticks = [tick for tick in TICKS_PERCENT if low <= tick / 100 <= high]
    axis.set_ticks(list(probit(np.array(ticks) / 100)), [f"{tick:g}" for tick in ticks])


def percent(value: float) -> str:
    """Two decimals, or two significant digits when those would be zeros."""
    return f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"
