"""Lines of score files: each layout yields the same rows, each with its line number."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._columns import (
    FIVE_DASH,
    LABELS,
    Layout,
    detect,
    header_layout,
    meaning,
)
from aasist_deploy.textfile import excerpt, numbered_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME_COLUMNS: Final = ("utterance", "path")  # of CSV and JSONL; of a path its stem is the name


class Row(NamedTuple):
    """One line of a score file; the score is None where scoring failed, and may be NaN."""

    line: int
    utterance: str
    score: float | None
    label: str | None = None
    attack: str | None = None
    error: str | None = None


def rows_of(text: str, path: Path) -> Iterator[Row]:
    """Yield the rows of a score file in whatever known layout it has.

    Raises:
        ScoresError: The layout is not known or changes, or a score is no number.
    """
    first = text.lstrip()
    if first.startswith("{"):
        return _jsonl_rows(text, path)
    if _csv_columns(first.partition("\n")[0].strip().split(",")) is not None:
        return _csv_rows(text, path)
    return _text_rows(text, path)


def _text_rows(text: str, path: Path) -> Iterator[Row]:
    layout: Layout | None = None
    width = 0
    has_header = False
    for number, fields in numbered_fields(text):
        if layout is None:
            layout, width = header_layout(fields, path), len(fields)
            if layout is not None:
                has_header = True
                continue
            layout = detect(fields, path, number)
        if len(fields) != width or (
            width == 5 and not has_header and (layout is FIVE_DASH) != (fields[1] == "-")
        ):
            raise ScoresError(
                f"{path}:{number} is {excerpt(' '.join(fields))}, but the lines before it are "
                f"{layout.columns}.",
                fix="Give all lines the same columns.",
            )
        yield Row(
            number,
            fields[layout.utterance],
            number_of(fields[layout.score], path, number),
            None if layout.key is None else _label(fields[layout.key], path, number),
            None if layout.attack is None else _attack(fields[layout.attack]),
        )


def _csv_columns(header: list[str]) -> dict[str, str] | None:
    """Meaning -> column of a CSV header, or None when it names no utterance or no score."""
    found: dict[str, str] = {}
    for column in header:
        kind = "path" if column == "path" else "error" if column == "error" else meaning(column)
        if kind is not None:
            found.setdefault(kind, column)
    return found if "score" in found and not found.keys().isdisjoint(_NAME_COLUMNS) else None


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _csv_columns(list(reader.fieldnames or ()))
        if columns is None:
            raise ScoresError(f"{path}:1 names no utterance and score: {reader.fieldnames}.")
        for row in reader:
            if None in row or None in row.values():
                raise ScoresError(
                    f"{path}:{reader.line_num} does not have the "
                    f"{len(reader.fieldnames or ())} columns of the header."
                )
            values: dict[str, object] = {kind: row[column] for kind, column in columns.items()}
            values["score"] = values["score"] or None
            yield _row_of(values, path, reader.line_num)
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
        if not isinstance(row, dict) or "score" not in row or row.keys().isdisjoint(_NAME_COLUMNS):
            raise ScoresError(
                f"{path}:{number} is {excerpt(line)}; expected an object with path and score, or "
                "utterance and score."
            )
        yield _row_of(row, path, number)


def _row_of(values: Mapping[str, object], path: Path, number: int) -> Row:
    if "utterance" in values:
        name = values["utterance"]
        utterance = name if isinstance(name, str) else ""
    else:
        name = values["path"]
        utterance = PurePath(name).stem if isinstance(name, str) else ""
    if not utterance:
        raise ScoresError(f"{path}:{number}: {excerpt(str(name))} is not the path of a file.")
    key, attack, score = values.get("key"), values.get("attack"), values["score"]
    error = values.get("error")
    failed = bool(error) or score is None
    return Row(
        number,
        utterance,
        None if failed else number_of(score, path, number),
        None if key in {None, ""} else _label(str(key), path, number),
        None if attack in {None, ""} else _attack(str(attack)),
        str(error or "no error given") if failed else None,
    )


def _label(key: str, path: Path, number: int) -> str:
    if key not in LABELS:
        raise ScoresError(
            f"{path}:{number}: the key is {excerpt(key)}; expected bonafide or spoof."
        )
    return key


def _attack(name: str) -> str:
    return "-" if name == "bonafide" else name


def number_of(field: object, path: Path, number: int) -> float:
    """Return the score as a number, which may be NaN or infinite.

    Raises:
        ScoresError: It is none.
    """
    try:
        # float() would take 1_000, True and the digits of other scripts; no score file means those.
        if isinstance(field, bool) or not (isinstance(field, int | float | str)):
            raise TypeError  # noqa: TRY301
        if isinstance(field, str) and ("_" in field or not field.isascii()):
            raise ValueError  # noqa: TRY301
        return float(field)
    except (TypeError, ValueError, OverflowError) as cause:
        hint = (
            "Remove the header line, or name the columns as docs/score-files.md lists them."
            if number == 1 and not any(character.isdigit() for character in str(field))
            else "Give each line a score, as a number with a decimal point."
        )
        raise ScoresError(
            f"{path}:{number}: the score {excerpt(str(field))} is not a number.", fix=hint
        ) from cause


def finite_score(field: object, path: Path, number: int) -> float:
    """Return the score as a finite number.

    Raises:
        ScoresError: It is none, or NaN or infinite.
    """
    score = number_of(field, path, number)
    if not math.isfinite(score):
        raise ScoresError(
            f"{path}:{number}: the score is {score}.",
            fix="Score this utterance again; a metric cannot rank NaN and infinity.",
        )
    return score
