"""EER where two conditions cross, such as attack and codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.metrics import eer
from aasist_deploy.metrics.conditions import NOT_AN_ATTACK, describes_the_attack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.metrics import Compat

ATTACK: Final = "attack"
MAX_TABLES: Final = 3
MAX_COLUMNS: Final = 24
MAX_ROWS: Final = 200


def cross_conditions(
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    attacks: Sequence[str],
    conditions: Mapping[str, Sequence[str]],
    *,
    compat: Compat = "corrected",
) -> list[dict[str, Any]]:
    """Compute the EER of every cell of up to three tables of two conditions.

    Attack is crossed with each of the other conditions; where no attack is named, the others are
    crossed with one another. A condition has a table when it takes 2 to 24 values (200 down).

    The bona fide trials of a cell are those with its values; a condition that describes the
    attack tells only spoofed trials apart, and all bona fide trials count.

    Args:
        scores: (n,) higher means more bona fide.
        is_bonafide: (n,) the truth.
        attacks: (n,) attack of each trial, "-" for none.
        conditions: Name -> value of each trial, "-" where there is none; "attack" is not needed.
        compat: Arithmetic of the EER.

    Returns:
        Objects of `rows`, `columns` (names of conditions) and `cells`: row value -> column value
        -> {"eer_percent", "n_bonafide", "n_spoof"}; the rate is None when a class is missing.
    """
    truth = np.asarray(is_bonafide, dtype=np.bool_)
    factors = {ATTACK: _Factor(attacks, truth)}
    for name, values in conditions.items():
        if name != ATTACK:
            factors[name] = _Factor(values, truth)
    usable = [name for name, factor in factors.items() if 2 <= len(factor.names) <= MAX_ROWS]
    tables = []
    for index, down in enumerate(usable):
        for across in usable[index + 1 :]:
            # Attack names are many and go down; of two others the one with more values does.
            first, second = down, across
            if down != ATTACK and len(factors[across].names) > len(factors[down].names):
                first, second = across, down
            if len(factors[second].names) <= MAX_COLUMNS:
                tables.append((first, second))
    return [
        {
            "rows": first,
            "columns": second,
            "cells": _cells(scores, truth, factors[first], factors[second], compat),
        }
        for first, second in tables[:MAX_TABLES]
    ]


class _Factor:
    """One condition: its values in order, and the number of the value of each trial.

    What stands for no attack has no row of its own.
    """

    def __init__(self, values: Sequence[str], truth: NDArray[np.bool_]) -> None:
        column = np.asarray(values, dtype=np.str_)
        names, self.codes = np.unique(column, return_inverse=True)
        self.all_names: list[str] = names.tolist()
        of_spoof = set(names[self.codes[~truth]].tolist())
        self.of_spoof_only = describes_the_attack(column, truth)
        self.names = [
            name for name in self.all_names if name in of_spoof and name not in NOT_AN_ATTACK
        ]  # fmt: skip

    def has(self, name: str) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = self.codes == self.all_names.index(name)
        return chosen


def _cells(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    down: _Factor,
    across: _Factor,
    compat: Compat,
) -> dict[str, dict[str, Any]]:
    of_column = {name: across.has(name) for name in across.names}
    found: dict[str, dict[str, Any]] = {}
    for row in down.names:
        in_row = down.has(row)
        found[row] = {}
        for column, in_column in of_column.items():
            spoof = scores[~truth & in_row & in_column]
            of_bonafide = truth
            if not down.of_spoof_only:
                of_bonafide = of_bonafide & in_row
            if not across.of_spoof_only:
                of_bonafide = of_bonafide & in_column
            bonafide = scores[of_bonafide]
            both = len(bonafide) > 0 and len(spoof) > 0
            found[row][column] = {
                "eer_percent": eer(bonafide, spoof, compat=compat).eer * 100 if both else None,
                "n_bonafide": len(bonafide),
                "n_spoof": len(spoof),
            }
    return found
