"""Scores of spoofing-robust speaker verification: ASVspoof 5 track 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._rows import number_of
from aasist_deploy.textfile import excerpt, few, numbered_fields, read_text, write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Pair = tuple[str, str]

# Source: ASVspoof 5 evaluation plan and submission pages, "score file" and "key file".
SASV_COLUMNS: Final = ("spk", "filename", "cm-score", "asv-score", "sasv-score")
SASV_KEY_COLUMNS: Final = ("spk", "filename", "cm-label", "asv-label")
_SCORES: Final = SASV_COLUMNS[2:]
_ABSENT: Final = "-"
_CM_LABEL_OF: Final = {"target": "bonafide", "nontarget": "bonafide", "spoof": "spoof"}


class _Truth(NamedTuple):
    is_bonafide: bool
    asv_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SasvScores:
    """Scores of pairs of a claimed speaker and a file, in the order of the key.

    Attributes:
        speakers: (n,) claimed speakers.
        utterances: (n,) files; a file is in several pairs.
        cm: (n,) countermeasure scores, higher means more bona fide; None when there are none.
        asv: (n,) speaker verification scores, higher means more the claimed speaker; or None.
        sasv: (n,) scores of the whole, higher means a bona fide target; or None.
        is_bonafide: (n,) cm-label.
        is_target: (n,) the claimed speaker, bona fide.
        is_nontarget: (n,) another speaker, bona fide.
        is_spoof: (n,) spoofed.
        missing: Pairs of the key without a score, left out on the caller's wish.
        extra: Scored pairs that the key does not list, left out on the caller's wish.
    """

    speakers: tuple[str, ...]
    utterances: tuple[str, ...]
    cm: NDArray[np.float64] | None
    asv: NDArray[np.float64] | None
    sasv: NDArray[np.float64] | None
    is_bonafide: NDArray[np.bool_]
    is_target: NDArray[np.bool_]
    is_nontarget: NDArray[np.bool_]
    is_spoof: NDArray[np.bool_]
    missing: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


def read_sasv_scores(
    score_path: Path, key_path: Path, *, allow_missing: bool = False
) -> SasvScores:
    """Read the scores of ASVspoof 5 track 2 and join them with their key.

    Args:
        score_path: Columns spk, filename, cm-score, asv-score, sasv-score under a header; a
            column that a system does not have is "-" on all lines.
        key_path: Columns spk, filename, cm-label, asv-label under a header; or the protocol
            ASVspoof5.{dev,eval}.track_2.trial.tsv, without one. Both plain, gzip or zip.
        allow_missing: Leave out pairs that the files do not share, and name them.

    Raises:
        ScoresError: A file is not so, a pair appears twice, a score is NaN or infinite, a column
            has scores on some lines only, or the files do not list the same pairs.
    """
    truth = _read_key(key_path)
    scores = _read_scores(score_path)
    missing = [pair for pair in truth if pair not in scores]
    extra = [pair for pair in scores if pair not in truth]
    if (missing or extra) and (not allow_missing or len(missing) == len(truth)):
        raise ScoresError(
            f"{score_path} and {key_path} do not list the same pairs: of {len(scores)} scored "
            f"{len(extra)} are not in the key{few([' '.join(p) for p in extra])}; of {len(truth)} "
            f"in the key {len(missing)} have no score{few([' '.join(p) for p in missing])}.",
            fix="Give the key of the split that was scored.",
        )
    pairs = [pair for pair in truth if pair in scores]
    values = [scores[pair] for pair in pairs]
    columns = [_column(values, index, score_path) for index in range(len(_SCORES))]
    labels = np.array([truth[pair].asv_label for pair in pairs])
    return SasvScores(
        speakers=tuple(speaker for speaker, _ in pairs),
        utterances=tuple(utterance for _, utterance in pairs),
        cm=columns[0],
        asv=columns[1],
        sasv=columns[2],
        is_bonafide=np.array([truth[pair].is_bonafide for pair in pairs]),
        is_target=labels == "target",
        is_nontarget=labels == "nontarget",
        is_spoof=labels == "spoof",
        missing=tuple(missing),
        extra=tuple(extra),
    )


def write_sasv_scores(path: Path, scores: SasvScores) -> None:
    """Write scores as ASVspoof 5 track 2 takes them; they read back to the same float64.

    Raises:
        ScoresError: A name is empty or holds blanks, or a score is not finite.
        OutputError: The place cannot be written.
    """
    n = len(scores.utterances)
    columns = [
        [_ABSENT] * n if of is None else [repr(score) for score in of.tolist()]
        for of in (scores.cm, scores.asv, scores.sasv)
    ]
    lines = ["\t".join(SASV_COLUMNS) + "\n"]
    for fields in zip(scores.speakers, scores.utterances, *columns, strict=True):
        if any(len(name.split()) != 1 or name != name.strip() for name in fields[:2]):
            raise ScoresError(
                f"{excerpt(' '.join(fields[:2]))} cannot be columns of a score file.",
                fix="Use names without blanks.",
            )
        if not all(f == _ABSENT or math.isfinite(float(f)) for f in fields[2:]):
            raise ScoresError(f"The scores of {' '.join(fields[:2])} are {' '.join(fields[2:])}.")
        lines.append("\t".join(fields) + "\n")
    write_text_atomically(path, lines)


def _pairs(
    path: Path, header: Sequence[str], *, optional: bool
) -> Iterator[tuple[int, Pair, list[str]]]:
    """(line, pair, further fields), after the header; without one where it is `optional`."""
    width = None
    seen: dict[Pair, int] = {}
    for number, fields in numbered_fields(read_text(path, ScoresError)):
        if width is None:
            width = len(fields)
            if tuple(fields) == tuple(header):
                continue
            if not optional or width != 5:
                raise ScoresError(
                    f"{path}:{number} is {excerpt(' '.join(fields))}; expected the header "
                    f"{' '.join(header)}.",
                    fix="Give a file of ASVspoof 5 track 2, with its header.",
                )
        if len(fields) != width:
            raise ScoresError(
                f"{path}:{number} has {len(fields)} columns: {excerpt(' '.join(fields))}; "
                f"expected {width}."
            )
        pair = (fields[0], fields[1])
        first = seen.setdefault(pair, number)
        if first != number:
            raise ScoresError(
                f"{path}:{number} lists {excerpt(' '.join(pair))} again, after line {first}.",
                fix="Keep one line for each pair of speaker and file.",
            )
        yield number, pair, fields[2:]
    if not seen:
        raise ScoresError(f"{path} lists no pairs.")


def _read_key(path: Path) -> dict[Pair, _Truth]:
    truth = {}
    for number, pair, fields in _pairs(path, SASV_KEY_COLUMNS, optional=True):
        asv_label = fields[-1]
        cm_label = fields[0] if len(fields) == 2 else _CM_LABEL_OF.get(asv_label, "")
        if asv_label not in _CM_LABEL_OF or cm_label != _CM_LABEL_OF[asv_label]:
            raise ScoresError(
                f"{path}:{number} has the labels {excerpt(' '.join(fields))}; expected "
                "bonafide target, bonafide nontarget or spoof spoof."
            )
        truth[pair] = _Truth(cm_label == "bonafide", asv_label)
    return truth


def _read_scores(path: Path) -> dict[Pair, tuple[float | None, ...]]:
    scores: dict[Pair, tuple[float | None, ...]] = {}
    bad: list[str] = []
    for number, pair, fields in _pairs(path, SASV_COLUMNS, optional=False):
        values = tuple(None if f == _ABSENT else number_of(f, path, number) for f in fields)
        if any(value is not None and not math.isfinite(value) for value in values):
            bad.append(f"line {number}: {' '.join(fields)}")
        scores[pair] = values
    if bad:
        raise ScoresError(
            f"{len(bad)} of {len(scores)} lines of {path} hold NaN or infinity{few(bad)}.",
            fix="Score these pairs again.",
        )
    return scores


def _column(
    values: Sequence[tuple[float | None, ...]], index: int, path: Path
) -> NDArray[np.float64] | None:
    column = [value[index] for value in values]
    absent = column.count(None)
    if absent == len(column):
        return None
    if absent:
        raise ScoresError(
            f"{path}: {absent} of {len(column)} lines have no {_SCORES[index]}, the others have.",
            fix="Give a column scores on all lines, or '-' on all.",
        )
    return np.array(column, dtype=np.float64)
