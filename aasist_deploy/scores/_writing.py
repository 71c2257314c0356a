"""Score files out, in the official layouts and our own, so that they read back exactly."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._columns import LABELS
from aasist_deploy.textfile import excerpt, write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from aasist_deploy.scores._table import ScoreTable

ScoreLayout = Literal["2019", "2021", "asvspoof5-t1", "csv", "jsonl"]

T1_HEADER: Final = "filename\tcm-score\n"  # ASVspoof 5 track 1 submissions, score.tsv


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One line `utterance attack key score` to write."""

    utterance: str
    attack: str
    label: Literal["bonafide", "spoof"]
    score: float


def write_scores_txt(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write lines `utterance attack key score` that read back to the same float64, or nothing.

    Raises:
        ScoresError: A score is not finite, or a name is empty, holds blanks or is a key.
        OutputError: The place cannot be written.
    """

    def lines() -> Iterator[str]:
        for row in rows:
            _check_finite(row.utterance, row.score)
            _check_fields(row.utterance, row.attack)
            yield f"{row.utterance} {row.attack} {row.label} {float(row.score)!r}\n"

    write_text_atomically(path, lines())


def write_scores(path: Path, table: ScoreTable, layout: ScoreLayout) -> None:
    """Write a score table so that `read_scores` gives the same names and float64, or nothing.

    Args:
        path: Where to.
        table: 2019 needs its truth; csv and jsonl write key and attack where they are known.
        layout: 2019: `utterance attack key score`. 2021: `utterance score`. asvspoof5-t1: the
            columns filename and cm-score, with a tab between and a header. csv, jsonl: the
            columns utterance, attack, key, score.

    Raises:
        ScoresError: The truth is needed and not known, a score is not finite, or a name cannot
            be written in this layout.
        OutputError: The place cannot be written.
    """
    for utterance, score in zip(table.utterances, table.scores.tolist(), strict=True):
        _check_finite(utterance, score)
    write_text_atomically(path, _LINES[layout](table))


def _lines_2019(table: ScoreTable) -> Iterator[str]:
    if table.is_bonafide is None:
        raise ScoresError(
            "The layout of 2019 has a column for the key, and the truth of these "
            f"{len(table.utterances)} scores is not known.",
            fix="Give the protocol of the split that was scored (--protocol).",
        )
    for row in _records(table):
        attack = row.get("attack", "-")
        _check_fields(row["utterance"], attack)
        yield f"{row['utterance']} {attack} {row['key']} {row['score']!r}\n"


def _lines_2021(table: ScoreTable) -> Iterator[str]:
    for row in _records(table):
        _check_fields(row["utterance"])
        yield f"{row['utterance']} {row['score']!r}\n"


def _lines_asvspoof5(table: ScoreTable) -> Iterator[str]:
    yield T1_HEADER
    for row in _records(table):
        _check_fields(row["utterance"])
        yield f"{row['utterance']}\t{row['score']!r}\n"


def _lines_csv(table: ScoreTable) -> Iterator[str]:
    stream = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for row in _records(table):
        if writer is None:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            writer.writeheader()
        _check_text(row["utterance"])
        writer.writerow({**row, "score": repr(row["score"])})
        yield stream.getvalue()
        stream.seek(0)
        stream.truncate()


def _lines_jsonl(table: ScoreTable) -> Iterator[str]:
    for row in _records(table):
        yield json.dumps(row, allow_nan=False) + "\n"


_LINES: Final[Mapping[ScoreLayout, Callable[[ScoreTable], Iterator[str]]]] = {
    "2019": _lines_2019,
    "2021": _lines_2021,
    "asvspoof5-t1": _lines_asvspoof5,
    "csv": _lines_csv,
    "jsonl": _lines_jsonl,
}


def _records(table: ScoreTable) -> Iterator[dict[str, str]]:
    """utterance, attack and key where known, score (a float) of each utterance."""
    for index, (utterance, score) in enumerate(
        zip(table.utterances, table.scores.tolist(), strict=True)
    ):
        row = {"utterance": utterance}
        if table.attacks is not None:
            row["attack"] = table.attacks[index]
        if table.is_bonafide is not None:
            row["key"] = LABELS[0] if table.is_bonafide[index] else LABELS[1]
        row["score"] = score
        yield row


def _check_finite(utterance: str, score: float) -> None:
    if not math.isfinite(score):
        raise ScoresError(f"The score of {utterance} is {score}.")


def _check_fields(*names: str) -> None:
    """Check names between blanks, the first of which starts its line."""
    for name in names:
        _check_text(name)
        if len(name.split()) != 1 or name != name.strip() or name in LABELS:
            raise ScoresError(
                f"{excerpt(name)} cannot be a column of a score file.",
                fix="Use names without blanks that are no keys, and - for no attack.",
            )
    if names[0].startswith("{"):
        raise ScoresError(
            f"{excerpt(names[0])} at the start of a file reads as JSON.", fix="Write it as csv."
        )


def _check_text(name: str) -> None:
    # The csv module leaves a lone carriage return without quotes, and reads it as a line's end.
    if name.startswith("\ufeff") or "\r" in name or not _is_utf8(name):
        raise ScoresError(f"{excerpt(name)} cannot be written to a text file and read back.")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
