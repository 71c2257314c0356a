"""From clean and changed scores of the same trials to the figures of a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aasist_deploy.metrics import eer
from aasist_deploy.metrics.rank_correlation import spearman

if TYPE_CHECKING:
    from collections.abc import Sequence

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionFigures:
    """What one condition changed; what is not known is None (docs/robustness.md).

    Drift is score less clean score. Percentages are in percent, `eer_change` in percentage points.
    """

    n: int
    n_unchanged: int
    n_not_applicable: int
    n_failed: int
    first_note: str | None
    mean_abs_drift: float | None
    max_abs_drift: float | None
    max_drift_utterance: str | None
    mean_drift_bonafide: float | None
    mean_drift_spoof: float | None
    rank_correlation: float | None
    flips: int | None
    flips_to_spoof: int | None
    flips_to_bonafide: int | None
    pmiss_percent: float | None
    pfa_percent: float | None
    eer_percent: float | None
    eer_change: float | None


def clean_figures(
    clean: Scores, is_bonafide: Mask, threshold: float | None
) -> tuple[dict[str, Any], float | None]:
    """The figures of the clips as they are, and the threshold that decisions are taken at.

    Args:
        clean: (T,) scores; NaN or infinite where there is none.
        is_bonafide: (T,) truth.
        threshold: As given, or None for that of the EER.

    Returns:
        `clean` of robustness.json, and the threshold; None when a class has no score.
    """
    scored = np.isfinite(clean)
    genuine, fake = clean[scored & is_bonafide], clean[scored & ~is_bonafide]
    rate = None
    if len(genuine) and len(fake):
        found = eer(genuine, fake)
        rate = 100 * found.eer
        threshold = found.threshold if threshold is None else threshold
    pmiss, pfa = _errors(genuine, fake, threshold)
    figures = {
        "n": int(scored.sum()),
        "n_bonafide": len(genuine),
        "n_spoof": len(fake),
        "n_failed": int((~scored).sum()),
        "eer_percent": rate,
        "pmiss_percent": pmiss,
        "pfa_percent": pfa,
        "mean_bonafide": _mean(genuine),
        "mean_spoof": _mean(fake),
    }
    return figures, threshold


def figures_of(
    clean: Scores,
    changed: Scores,
    is_bonafide: Mask,
    threshold: float | None,
    *,
    utterances: Sequence[str],
    n_unchanged: int,
    n_not_applicable: int,
    n_failed: int,
    first_note: str | None,
) -> ConditionFigures:
    """The figures of one condition, over the trials that have both scores.

    Args:
        clean: (T,) clean scores; NaN where there is none.
        changed: (T,) scores under the condition; NaN where there is none.
        is_bonafide: (T,) truth.
        threshold: Trials at or above it are accepted; None when there is none.
        utterances: (T,) names.
        n_unchanged: Trials whose window the condition left as it was.
        n_not_applicable: Trials it has no meaning for.
        n_failed: Trials that should have a score and have none.
        first_note: Why the first trial without a score has none.
    """
    both = np.isfinite(clean) & np.isfinite(changed)
    before, after, genuine = clean[both], changed[both], is_bonafide[both]
    drift = after - before
    largest = int(np.argmax(np.abs(drift))) if len(drift) else None
    flips = to_spoof = to_bonafide = None
    if threshold is not None and len(drift):
        accepted, accepts = before >= threshold, after >= threshold
        to_spoof = int(np.count_nonzero(accepted & ~accepts))
        to_bonafide = int(np.count_nonzero(~accepted & accepts))
        flips = to_spoof + to_bonafide
    rate = change = None
    if genuine.any() and not genuine.all():
        rate = 100 * eer(after[genuine], after[~genuine]).eer
        change = rate - 100 * eer(before[genuine], before[~genuine]).eer
    pmiss, pfa = _errors(after[genuine], after[~genuine], threshold)
    return ConditionFigures(
        n=int(both.sum()),
        n_unchanged=n_unchanged,
        n_not_applicable=n_not_applicable,
        n_failed=n_failed,
        first_note=first_note,
        mean_abs_drift=_mean(np.abs(drift)),
        max_abs_drift=None if largest is None else float(np.abs(drift[largest])),
        max_drift_utterance=(
            None
            if largest is None or not drift[largest]
            else utterances[np.flatnonzero(both)[largest]]
        ),
        mean_drift_bonafide=_mean(drift[genuine]),
        mean_drift_spoof=_mean(drift[~genuine]),
        rank_correlation=spearman(before, after) if len(drift) > 2 else None,
        flips=flips,
        flips_to_spoof=to_spoof,
        flips_to_bonafide=to_bonafide,
        pmiss_percent=pmiss,
        pfa_percent=pfa,
        eer_percent=rate,
        eer_change=change,
    )


def _errors(
    genuine: Scores, fake: Scores, threshold: float | None
) -> tuple[float | None, float | None]:
    """Percent of bona fide rejected and of spoof accepted."""
    if threshold is None:
        return None, None
    pmiss, pfa = _mean((genuine < threshold) * 100.0), _mean((fake >= threshold) * 100.0)
    return pmiss, pfa


def _mean(values: NDArray[np.floating[Any]]) -> float | None:
    return float(values.mean()) if len(values) else None
