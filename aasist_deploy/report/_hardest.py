"""The trials that a person should listen to first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

N_HARDEST: Final = 50


def hardest_trials(
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    attacks: Sequence[str],
    utterances: Sequence[str],
    threshold: float,
    paths: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List up to 50 trials by their distance from the threshold, errors first.

    Args:
        scores: (n,) scores; higher means more likely bona fide.
        is_bonafide: (n,) truth of the same trials.
        attacks: Attack of each trial, "-" for bona fide.
        utterances: Name of each trial.
        threshold: A trial is accepted at or above it.
        paths: Audio file of each trial, where they are known.

    Returns:
        Objects as docs/report-json.md describes them under `hardest`; `margin` is negative on the
        wrong side.
    """
    margin = np.where(is_bonafide, scores - threshold, threshold - scores)
    order = np.argsort(margin, kind="stable")[:N_HARDEST]
    return [
        {
            "utterance": utterances[index],
            "label": "bonafide" if is_bonafide[index] else "spoof",
            "attack": attacks[index],
            "score": float(scores[index]),
            "margin": float(margin[index]),
            "path": None if paths is None else str(paths[index]),
        }
        for index in order.tolist()
    ]
