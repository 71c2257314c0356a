"""Scores with their truth, joined from a score file and, where needed, a protocol."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._rows import Row, rows_of
from aasist_deploy.textfile import excerpt, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_NAMES_SHOWN: Final = 3


class LabelledUtterance(Protocol):
    """What a key says of an utterance; protocol entries and trials of a dataset both fit."""

    @property
    def utterance(self) -> str: ...
    @property
    def label(self) -> Literal["bonafide", "spoof"]: ...
    @property
    def attack(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """The scores of one countermeasure; all fields have one entry for each utterance.

    Attributes:
        utterances: Unique names, in the file's order.
        scores: (n,) finite; higher means more bona fide.
        is_bonafide: (n,) the truth, or None when neither file nor protocol says it.
        attacks: Attack names, "-" for none or not known; None when nothing names any.
        failed: Utterances left out on the caller's wish, for they have an error and no score.
    """

    utterances: tuple[str, ...]
    scores: NDArray[np.float64]
    is_bonafide: NDArray[np.bool_] | None
    attacks: tuple[str, ...] | None
    failed: tuple[str, ...] = ()

    def negated(self) -> ScoreTable:
        """Return the table with the sign of all scores turned round."""
        return replace(self, scores=-self.scores)


def read_scores(
    path: Path, protocol: Iterable[LabelledUtterance] | None = None, *, skip_errors: bool = False
) -> ScoreTable:
    """Read the scores of a countermeasure, plain or gzip-compressed, in any known layout.

    Args:
        path: A text file of 2 to 6 columns, or what the `score` verb wrote as CSV or JSONL
            (there the utterance is the file name without its ending).
        protocol: The truth, for layouts without it; must list exactly the scored utterances and,
            where the file has keys of its own, agree with them.
        skip_errors: Leave out lines that hold an error and no score, and name them.

    Raises:
        ScoresError: The layout is not known or not the same on all lines, a score is not a
            finite number, an utterance appears twice, lines hold errors, or file and protocol
            do not fit.
    """
    rows = list(rows_of(read_text(path, ScoresError), path))
    _refuse_duplicates(rows, path)
    failed = [row for row in rows if row.score is None]
    if failed and not skip_errors:
        first = failed[0]
        raise ScoresError(
            f"{len(failed)} of {len(rows)} lines of {path} hold no score; "
            f"first: line {first.line}, {excerpt(first.utterance)}: {excerpt(str(first.error))}.",
            fix="Score these files again: metrics without them are metrics of other trials.",
        )
    if len(failed) == len(rows):
        raise ScoresError(f"{path} holds no scores.")
    table = _table(rows)
    if np.unique(table.scores).size == 2 < table.scores.size:
        _log.warning("%s holds only two distinct scores: decisions, not scores", path)
    return table if protocol is None else _joined(table, protocol, path)


def _refuse_duplicates(rows: Sequence[Row], path: Path) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        first = seen.setdefault(row.utterance, row.line)
        if first != row.line:
            raise ScoresError(
                f"{path}:{row.line} scores {excerpt(row.utterance)} again, after line {first}.",
                fix="Keep one line for each utterance.",
            )


def _table(rows: Sequence[Row]) -> ScoreTable:
    scored = [row for row in rows if row.score is not None]
    labelled, named = scored[0].label is not None, scored[0].attack is not None
    return ScoreTable(
        utterances=tuple(row.utterance for row in scored),
        scores=np.array([row.score for row in scored], dtype=np.float64),
        is_bonafide=np.array([row.label == "bonafide" for row in scored]) if labelled else None,
        attacks=tuple(row.attack or "-" for row in scored) if named else None,
        failed=tuple(row.utterance for row in rows if row.score is None),
    )


def _joined(table: ScoreTable, protocol: Iterable[LabelledUtterance], path: Path) -> ScoreTable:
    truth = {entry.utterance: entry for entry in protocol}
    unknown = [name for name in table.utterances if name not in truth]
    scored = set(table.utterances)
    accounted = scored.union(table.failed)
    unscored = [name for name in truth if name not in accounted]
    if unknown or unscored:
        raise ScoresError(
            f"{path} and the protocol do not list the same utterances: of {len(scored)} scored "
            f"{len(unknown)} are not in the protocol{_few(unknown)}; of {len(truth)} in the "
            f"protocol {len(unscored)} have no score{_few(unscored)}.",
            fix="Give the protocol of the split that was scored.",
        )
    entries = [truth[name] for name in table.utterances]
    is_bonafide = np.array([entry.label == "bonafide" for entry in entries])
    if table.is_bonafide is not None and (table.is_bonafide != is_bonafide).any():
        wrong = [table.utterances[i] for i in np.flatnonzero(table.is_bonafide != is_bonafide)]
        raise ScoresError(
            f"{path} and the protocol give {len(wrong)} of {len(scored)} utterances "
            f"different keys{_few(wrong)}."
        )
    return replace(table, is_bonafide=is_bonafide, attacks=tuple(entry.attack for entry in entries))


def _few(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f" ({', '.join(excerpt(name) for name in names[:_NAMES_SHOWN])}{more})"
