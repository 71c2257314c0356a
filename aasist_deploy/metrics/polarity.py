"""A check that higher scores mean bona fide; it tells, and never turns scores round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.metrics.eer import eer
from aasist_deploy.metrics.rates import Compat, checked_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarity:
    """Whether the scores look turned round.

    Attributes:
        reversed: The negated scores have the lower equal error rate, ties treated as ties.
        negated_eer: Equal error rate of the negated scores, in [0, 1].
        message: What to tell the user, or None when all is well.
    """

    reversed: bool
    negated_eer: float
    message: str | None


def check_polarity(
    bonafide: ArrayLike, spoof: ArrayLike, *, compat: Compat = "corrected"
) -> Polarity:
    """Compare the equal error rate of the scores with that of the negated scores.

    The verdict rests on the corrected rate alone, where the two always add up to 1; `compat`
    governs only the rates that are told.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.
    """
    bonafide, spoof = checked_classes(bonafide, spoof)
    negated = eer(np.negative(bonafide), np.negative(spoof), compat=compat).eer
    if eer(bonafide, spoof).eer <= 0.5:
        return Polarity(reversed=False, negated_eer=negated, message=None)
    given = eer(bonafide, spoof, compat=compat).eer
    return Polarity(
        reversed=True,
        negated_eer=negated,
        message=(
            f"The scores look reversed: EER is {given:.2%} as given and {negated:.2%} negated; "
            "higher must mean more bona fide. Nothing was turned round."
        ),
    )
