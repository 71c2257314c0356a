"""Scores of the speaker verification system that a tandem metric needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._rows import finite_score
from aasist_deploy.textfile import excerpt, numbered_fields, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_ASV_KEYS: Final = ("target", "nontarget", "spoof")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsvScores:
    """Scores of a speaker verification system; higher means more the claimed speaker."""

    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    spoof: NDArray[np.float64]
    spoof_by_attack: dict[str, NDArray[np.float64]]


def read_asv_scores(path: Path) -> AsvScores:
    """Read ASV scores, lines of `attack key score` with the key target, nontarget or spoof.

    Raises:
        ScoresError: A line is not so, or one of the three keys is missing.

    Source: ASVspoof 2019, …asv.{dev,eval}.gi.trl.scores.txt.
    """
    scores: dict[str, list[float]] = {key: [] for key in _ASV_KEYS}
    by_attack: dict[str, list[float]] = {}
    for number, fields in numbered_fields(read_text(path, ScoresError)):
        if len(fields) != 3 or fields[1] not in scores:
            raise ScoresError(
                f"{path}:{number} is {excerpt(' '.join(fields))}; expected attack key score "
                f"with the key {', '.join(_ASV_KEYS)}.",
                fix="Give the ASV scores of the corpus (ASVspoof2019_LA_asv_scores).",
            )
        attack, key, field = fields
        score = finite_score(field, path, number)
        scores[key].append(score)
        if key == "spoof":
            by_attack.setdefault(attack, []).append(score)
    empty = [key for key in _ASV_KEYS if not scores[key]]
    if empty:
        raise ScoresError(f"{path} holds no {' and no '.join(empty)} scores.")
    return AsvScores(
        target=np.array(scores["target"]),
        nontarget=np.array(scores["nontarget"]),
        spoof=np.array(scores["spoof"]),
        spoof_by_attack={attack: np.array(of) for attack, of in sorted(by_attack.items())},
    )
