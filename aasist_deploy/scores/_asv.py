"""Scores of the speaker verification system that a tandem metric needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._rows import finite_score
from aasist_deploy.textfile import excerpt, numbered_fields, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_ASV_KEYS: Final = ("target", "nontarget", "spoof")
# ASVspoof 2021 ASV/trial_metadata.txt: number of columns -> attack, key, trim, subset.
_METADATA_2021: Final[dict[int, tuple[int | None, int, int, int]]] = {
    8: (4, 5, 6, 7),  # LA
    12: (None, 9, 10, 11),  # PA names no attacks
}
_HIDDEN_TRIM: Final = {"hidden1": "notrim", "hidden2": "trim"}  # of the PA track


@dataclass(frozen=True, slots=True, kw_only=True)
class AsvScores:
    """Scores of a speaker verification system; higher means more the claimed speaker."""

    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    spoof: NDArray[np.float64]
    spoof_by_attack: dict[str, NDArray[np.float64]]


class _Collected:
    def __init__(self) -> None:
        self._scores: dict[str, list[float]] = {key: [] for key in _ASV_KEYS}
        self._by_attack: dict[str, list[float]] = {}

    def add(self, key: str, attack: str, score: float) -> None:
        self._scores[key].append(score)
        if key == "spoof":
            self._by_attack.setdefault(attack, []).append(score)

    def result(self, where: str) -> AsvScores:
        empty = [key for key in _ASV_KEYS if not self._scores[key]]
        if empty:
            raise ScoresError(f"{where} holds no {' and no '.join(empty)} scores.")
        return AsvScores(
            target=np.array(self._scores["target"]),
            nontarget=np.array(self._scores["nontarget"]),
            spoof=np.array(self._scores["spoof"]),
            spoof_by_attack={name: np.array(of) for name, of in sorted(self._by_attack.items())},
        )


def read_asv_scores(path: Path) -> AsvScores:
    """Read ASV scores, lines of `attack key score` with the key target, nontarget or spoof.

    Raises:
        ScoresError: A line is not so, or one of the three keys is missing.

    Source: ASVspoof 2019, …asv.{dev,eval}.gi.trl.scores.txt.
    """
    collected = _Collected()
    for number, fields in numbered_fields(read_text(path, ScoresError)):
        if len(fields) != 3 or fields[1] not in _ASV_KEYS:
            raise ScoresError(
                f"{path}:{number} is {excerpt(' '.join(fields))}; expected attack key score "
                f"with the key {', '.join(_ASV_KEYS)}.",
                fix="Give the ASV scores of the corpus (ASVspoof2019_LA_asv_scores).",
            )
        attack, key, field = fields
        collected.add(key, attack, finite_score(field, path, number))
    return collected.result(str(path))


def read_asv_scores_2021(path: Path, key: Path, subset: str) -> AsvScores:
    """Read the ASV scores of a subset of ASVspoof 2021 LA or PA.

    Args:
        path: ASV/<system>/score.txt, lines of `claimed-speaker trial score`.
        key: ASV/trial_metadata.txt, the same trials on the same lines, with their truth.
        subset: eval, progress, hidden, hidden1 or hidden2 (PA: simulated, trimmed), or all.

    Raises:
        ScoresError: A line is not so, the files do not list the same trials, or one of the three
            keys is missing in the subset.

    Source: ASVspoof 2021 evaluation package, which joins the two files line by line.
    """
    collected = _Collected()
    width: int | None = None
    scores = numbered_fields(read_text(path, ScoresError))
    truth = numbered_fields(read_text(key, ScoresError))
    for of_scores, of_truth in zip_longest(scores, truth):
        if of_scores is None or of_truth is None:
            shorter, longer = (path, key) if of_scores is None else (key, path)
            raise ScoresError(
                f"{shorter} has fewer trials than {longer}.",
                fix="Give the two files of one release of the keys.",
            )
        (number, score_fields), (key_number, key_fields) = of_scores, of_truth
        width = width or len(key_fields)
        if len(key_fields) != width or width not in _METADATA_2021:
            raise ScoresError(
                f"{key}:{key_number} has {len(key_fields)} columns; expected 8 (LA) or 12 (PA), "
                "the same on all lines."
            )
        if len(score_fields) != 3:
            raise ScoresError(
                f"{path}:{number} is {excerpt(' '.join(score_fields))}; expected "
                "claimed-speaker trial score."
            )
        if score_fields[1] != key_fields[1]:
            raise ScoresError(
                f"{path}:{number} scores {excerpt(score_fields[1])}, but {key}:{key_number} is "
                f"{excerpt(key_fields[1])}: the files do not list the same trials.",
                fix="Give the two files of one release of the keys, in their order.",
            )
        attack_at, key_at, trim_at, subset_at = _METADATA_2021[width]
        label = key_fields[key_at]
        if label not in _ASV_KEYS:
            raise ScoresError(
                f"{key}:{key_number}: the key is {excerpt(label)}; expected {', '.join(_ASV_KEYS)}."
            )
        if _in_subset(subset, key_fields[subset_at], key_fields[trim_at]):
            attack = "-" if attack_at is None else key_fields[attack_at]
            collected.add(label, attack, finite_score(score_fields[2], path, number))
    return collected.result(f"{path}, subset {subset},")


def _in_subset(wanted: str, subset: str, trim: str) -> bool:
    if wanted in _HIDDEN_TRIM:
        return subset == "hidden" and trim == _HIDDEN_TRIM[wanted]
    return wanted in {"all", subset}
