"""Scores with their truth, joined from a score file and, where needed, a protocol."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._rows import Row, rows_of
from aasist_deploy.textfile import excerpt, few, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_DECISIONS: Final = ({0.0, 1.0}, {-1.0, 1.0})
_NOT_APPLICABLE: Final = "-"


class LabelledUtterance(Protocol):
    """What a key says of an utterance; protocol entries and trials of a dataset both fit."""

    @property
    def utterance(self) -> str: ...
    @property
    def label(self) -> Literal["bonafide", "spoof"]: ...
    @property
    def attack(self) -> str: ...
    @property
    def speaker(self) -> str | None: ...
    @property
    def conditions(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """The scores of one countermeasure; all fields have one entry for each utterance.

    Attributes:
        utterances: Unique names, in the file's order.
        scores: (n,) finite; higher means more bona fide.
        is_bonafide: (n,) the truth, or None when neither file nor protocol says it.
        attacks: Attack names, "-" for none or not known; None when nothing names any.
        speakers: Speakers, as `speaker_column`; None when no protocol was given.
        conditions: Condition name -> (n,) values, from the protocol; as `condition_columns`.
        failed: Utterances left out on the caller's wish, for they have an error and no score.
        missing: Utterances of the protocol without a score, left out on the caller's wish.
        extra: Scored utterances that the protocol does not list, left out on the caller's wish.
    """

    utterances: tuple[str, ...]
    scores: NDArray[np.float64]
    is_bonafide: NDArray[np.bool_] | None
    attacks: tuple[str, ...] | None
    speakers: tuple[str, ...] | None = None
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def negated(self) -> ScoreTable:
        """Return the table with the sign of all scores turned round."""
        return replace(self, scores=-self.scores)


def read_scores(
    path: Path,
    protocol: Iterable[LabelledUtterance] | None = None,
    *,
    skip_errors: bool = False,
    allow_missing: bool = False,
    allow_decisions: bool = False,
) -> ScoreTable:
    """Read the scores of a countermeasure in any known layout (docs/score-files.md).

    Args:
        path: A text file of 2 to 6 columns, with or without a header, or CSV or JSONL (where a
            path stands for an utterance, it is the file name without its ending); plain,
            gzip-compressed or alone in a zip.
        protocol: The truth, for layouts without it; must list exactly the scored utterances and,
            where the file has keys of its own, agree with them.
        skip_errors: Leave out lines that hold an error and no score, and name them.
        allow_missing: Leave out utterances that file and protocol do not share, and name them.
        allow_decisions: Take a file of decisions, all scores 0 or 1 (or -1 or 1).

    Raises:
        ScoresError: The layout is not known or not the same on all lines, scores are NaN or
            infinite or decisions, an utterance appears twice, lines hold errors, or file and
            protocol do not fit.
    """
    rows = list(rows_of(read_text(path, ScoresError), path))
    _refuse_duplicates(rows, path)
    _refuse_not_finite(rows, path)
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
    table = _table(rows, path)
    _check_decisions(table, path, allowed=allow_decisions)
    return table if protocol is None else _joined(table, protocol, path, allow_missing)


def condition_columns(
    entries: Sequence[LabelledUtterance],
) -> dict[str, tuple[str, ...]]:
    """Condition name -> value of each entry, "-" where a condition does not apply.

    A condition that is the same for all entries is left out: its figures are the pooled ones.
    """
    names = dict.fromkeys(name for entry in entries for name in entry.conditions)
    columns = {
        name: tuple(entry.conditions.get(name, _NOT_APPLICABLE) for entry in entries)
        for name in names
    }
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def speaker_column(entries: Sequence[LabelledUtterance]) -> tuple[str, ...] | None:
    """The speaker of each entry, or None when that of one is not known."""
    speakers = tuple(entry.speaker for entry in entries if entry.speaker is not None)
    return speakers if len(speakers) == len(entries) else None


def _refuse_duplicates(rows: Sequence[Row], path: Path) -> None:
    seen: dict[str, int] = {}
    again = [row for row in rows if seen.setdefault(row.utterance, row.line) != row.line]
    if again:
        first = again[0]
        raise ScoresError(
            f"{path}:{first.line} scores {excerpt(first.utterance)} again, after line "
            f"{seen[first.utterance]}; {len(again)} of {len(rows)} lines are such repeats.",
            fix="Keep one line for each utterance.",
        )


def _refuse_not_finite(rows: Sequence[Row], path: Path) -> None:
    bad = [row for row in rows if row.score is not None and not math.isfinite(row.score)]
    if bad:
        first = bad[0]
        raise ScoresError(
            f"{path}:{first.line}: the score is {first.score}; {len(bad)} of {len(rows)} scores "
            f"are NaN or infinite{few([row.utterance for row in bad])}.",
            fix="Score these utterances again; a metric cannot rank NaN and infinity.",
        )


def _table(rows: Sequence[Row], path: Path) -> ScoreTable:
    scored = [row for row in rows if row.score is not None]
    labelled, named = scored[0].label is not None, scored[0].attack is not None
    odd = next((row for row in scored if (row.label is not None) != labelled), None)
    if odd is not None:
        raise ScoresError(
            f"{path}:{odd.line} has {'no' if labelled else 'a'} key, unlike the lines before it.",
            fix="Give all lines a key, or none.",
        )
    return ScoreTable(
        utterances=tuple(row.utterance for row in scored),
        scores=np.array([row.score for row in scored], dtype=np.float64),
        is_bonafide=np.array([row.label == "bonafide" for row in scored]) if labelled else None,
        attacks=tuple(row.attack or "-" for row in scored) if named else None,
        failed=tuple(row.utterance for row in rows if row.score is None),
    )


def _check_decisions(table: ScoreTable, path: Path, *, allowed: bool) -> None:
    values = set(np.unique(table.scores)[:3].tolist())
    if len(values) != 2 or table.scores.size <= 2:
        return
    if values in _DECISIONS and not allowed:
        low, high = sorted(values)
        raise ScoresError(
            f"The {table.scores.size} scores of {path} are all {low:g} or {high:g}: decisions, "
            "not scores. An error rate that depends on a threshold means nothing for them.",
            fix="Give the scores from before the threshold; from Python, allow_decisions=True "
            "takes the file as it is.",
        )
    _log.warning("%s holds only two distinct scores: decisions, not scores", path)


def _joined(
    table: ScoreTable, protocol: Iterable[LabelledUtterance], path: Path, allow_missing: bool
) -> ScoreTable:
    truth = {entry.utterance: entry for entry in protocol}
    unknown = [name for name in table.utterances if name not in truth]
    scored = set(table.utterances)
    accounted = scored.union(table.failed)
    unscored = [name for name in truth if name not in accounted]
    if (unknown or unscored) and (not allow_missing or len(unknown) == len(scored)):
        raise ScoresError(
            f"{path} and the protocol do not list the same utterances: of {len(scored)} scored "
            f"{len(unknown)} are not in the protocol{few(unknown)}; of {len(truth)} in the "
            f"protocol {len(unscored)} have no score{few(unscored)}.",
            fix="Give the protocol of the split that was scored"
            + (
                "."
                if len(unknown) == len(scored)
                else ", or leave out what they do not share: metrics --allow-missing, "
                "allow_missing=True."
            ),
        )
    if unknown:
        kept = np.array([name in truth for name in table.utterances])
        table = replace(
            table,
            utterances=tuple(name for name in table.utterances if name in truth),
            scores=table.scores[kept],
            is_bonafide=None if table.is_bonafide is None else table.is_bonafide[kept],
        )
    entries = [truth[name] for name in table.utterances]
    is_bonafide = np.array([entry.label == "bonafide" for entry in entries])
    if table.is_bonafide is not None and (table.is_bonafide != is_bonafide).any():
        wrong = [table.utterances[i] for i in np.flatnonzero(table.is_bonafide != is_bonafide)]
        raise ScoresError(
            f"{path} and the protocol give {len(wrong)} of {len(entries)} utterances "
            f"different keys{few(wrong)}.",
            fix="Find out which of the two is right; give the protocol of the split that was "
            "scored.",
        )
    return replace(
        table,
        is_bonafide=is_bonafide,
        attacks=tuple(entry.attack for entry in entries),
        speakers=speaker_column(entries),
        conditions=condition_columns(entries),
        missing=tuple(unscored),
        extra=tuple(unknown),
    )
