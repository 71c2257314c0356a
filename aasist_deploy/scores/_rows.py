"""Lines of score files: each layout yields the same rows, each with its line number."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from aasist_deploy.errors import ScoresError
from aasist_deploy.textfile import excerpt, numbered_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LABELS: Final = ("bonafide", "spoof")


class Row(NamedTuple):
    """One line of a score file; the score is None where scoring failed."""

    line: int
    utterance: str
    score: float | None
    label: str | None = None
    attack: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of a text layout by position; the score is always the last one."""

    columns: str
    utterance: int
    key: int | None = None
    attack: int | None = None


# By number of columns. ASVspoof 2019 evaluation package: 4; ASVspoof 2021: 2. The others are in
# the wild: protocol lines with a score behind them, whole (6) or with a column cut (5, 3).
_TWO = _Layout("utterance score", 0)
_THREE = _Layout("utterance key score", 0, 1)
_FOUR = _Layout("utterance attack key score", 0, 2, 1)
_FIVE_DASH = _Layout("utterance - attack key score", 0, 3, 2)
_FIVE_SPEAKER = _Layout("speaker utterance attack key score", 1, 3, 2)
_SIX = _Layout("speaker utterance - attack key score", 1, 4, 3)
_LAYOUTS: Final = (_TWO, _THREE, _FOUR, _FIVE_DASH, _FIVE_SPEAKER, _SIX)
_KNOWN: Final = (
    "Known layouts: " + "; ".join(layout.columns for layout in _LAYOUTS) + "; CSV with the header "
    "path,score,error,seconds; JSONL with the same names. Keys are bonafide or spoof; "
    "text layouts have no header."
)


def rows_of(text: str, path: Path) -> Iterator[Row]:
    """Yield the rows of a score file in whatever known layout it has.

    Raises:
        ScoresError: The layout is not known or changes, or a score is not a finite number.
    """
    first = text.lstrip()
    if first.startswith("{"):
        return _jsonl_rows(text, path)
    if {"path", "score"} <= set(first.partition("\n")[0].strip().split(",")):
        return _csv_rows(text, path)
    return _text_rows(text, path)


def _text_rows(text: str, path: Path) -> Iterator[Row]:
    layout: _Layout | None = None
    width = 0
    for number, fields in numbered_fields(text):
        if layout is None:
            layout, width = _detect(fields, path, number), len(fields)
        where = f"{path}:{number}"
        if len(fields) != width or ((layout is _FIVE_DASH) != (fields[1] == "-") and width == 5):
            raise ScoresError(
                f"{where} is {excerpt(' '.join(fields))}, but the lines before it are "
                f"{layout.columns}.",
                fix="Give all lines the same columns.",
            )
        label = None if layout.key is None else fields[layout.key]
        if label is not None and label not in _LABELS:
            raise ScoresError(f"{where}: the key is {excerpt(label)}; expected bonafide or spoof.")
        yield Row(
            number,
            fields[layout.utterance],
            finite_score(fields[-1], path, number),
            label,
            None if layout.attack is None else fields[layout.attack],
        )


def _detect(fields: Sequence[str], path: Path, number: int) -> _Layout:
    keys = [index for index, field in enumerate(fields) if field in _LABELS]
    of_width = [layout for layout in _LAYOUTS if len(layout.columns.split()) == len(fields)]
    for layout in of_width:
        if keys == ([] if layout.key is None else [layout.key]):
            if layout is _FIVE_DASH and fields[1] != "-":
                continue
            return layout
    raise ScoresError(
        f"{path}:{number} has {len(fields)} columns"
        f"{'' if keys else ' and no key'}: {excerpt(' '.join(fields))}; "
        "no known layout is like that.",
        fix=_KNOWN,
    )


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ScoresError(
                    f"{path}:{reader.line_num} does not have the "
                    f"{len(reader.fieldnames or ())} columns of the header."
                )
            yield _row_of_file(
                row["path"], row["score"] or None, row.get("error"), path, reader.line_num
            )
    except csv.Error as cause:
        raise ScoresError(f"{path}:{reader.line_num} is not valid CSV: {cause}.") from cause


def _jsonl_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise ScoresError(f"{path}:{number} is not valid JSON: {cause}.") from cause
        if not isinstance(row, dict) or not {"path", "score"} <= row.keys():
            raise ScoresError(
                f"{path}:{number} is {excerpt(line)}; expected an object with path and score."
            )
        yield _row_of_file(row["path"], row["score"], row.get("error"), path, number)


def _row_of_file(file: object, score: object, error: object, path: Path, number: int) -> Row:
    if not isinstance(file, str) or not PurePath(file).stem:
        raise ScoresError(f"{path}:{number}: {excerpt(str(file))} is not the path of a file.")
    utterance = PurePath(file).stem
    if error or score is None:
        return Row(number, utterance, None, error=str(error or "no error given"))
    return Row(number, utterance, finite_score(score, path, number))


def finite_score(field: object, path: Path, number: int) -> float:
    """Return the score as a number.

    Raises:
        ScoresError: It is none, or NaN or infinite.
    """
    try:
        # float() would take 1_000, True and the digits of other scripts; no score file means those.
        if isinstance(field, bool) or not (isinstance(field, int | float | str)):
            raise TypeError  # noqa: TRY301
        if isinstance(field, str) and ("_" in field or not field.isascii()):
            raise ValueError  # noqa: TRY301
        score = float(field)
    except (TypeError, ValueError, OverflowError) as cause:
        hint = "Remove the header line." if number == 1 else "Scores are the last column."
        raise ScoresError(
            f"{path}:{number}: the score {excerpt(str(field))} is not a number.", fix=hint
        ) from cause
    if not math.isfinite(score):
        raise ScoresError(
            f"{path}:{number}: the score is {score}.",
            fix="Score this utterance again; a metric cannot rank NaN and infinity.",
        )
    return score
