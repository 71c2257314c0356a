"""Trials whose calibration is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from aasist_deploy.scores import ScoreTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS = st.lists(st.floats(-50, 50), min_size=1, max_size=30)


def gaussian_llr(n: int, separation: float, seed: int = 0) -> tuple[NDArray[np.float64], Any]:
    """LLRs that are calibrated by construction: N(+-d/2, d) of the classes gives LLR = x."""
    random = np.random.default_rng(seed)
    truth = np.arange(2 * n) < n
    mean = np.where(truth, separation / 2, -separation / 2)
    return random.normal(mean, math.sqrt(separation)), truth


def table_of(scores: Any, truth: Any, prefix: str = "u") -> ScoreTable:
    return ScoreTable(
        utterances=tuple(f"{prefix}{i}" for i in range(len(scores))),
        scores=np.asarray(scores, np.float64),
        is_bonafide=None if truth is None else np.asarray(truth),
        attacks=None,
    )
