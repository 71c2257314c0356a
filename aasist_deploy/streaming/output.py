"""Rows of windows as text: JSONL or CSV, each whole and flushed before the next is computed."""

from __future__ import annotations

import csv
import io
import json
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal

from aasist_deploy.errors import UsageError
from aasist_deploy.streaming.rows import WindowRow
from aasist_deploy.textfile import excerpt, json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

WindowFormat = Literal["jsonl", "csv"]
_SUFFIXES: Final[dict[str, WindowFormat]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def window_format(output: Path | None, wanted: WindowFormat | None = None) -> WindowFormat:
    """The format asked for, or the one that the file's name says; JSONL on stdout.

    Raises:
        UsageError: the name says nothing known.
    """
    if wanted is not None:
        return wanted
    if output is None:
        return "jsonl"
    if output.suffix not in _SUFFIXES:
        raise UsageError(
            f"{output} does not say a format; known suffixes are {', '.join(_SUFFIXES)}.",
            fix="name it OUT.jsonl or OUT.csv",
        )
    return _SUFFIXES[output.suffix]


class RowText:
    """Makes the lines of rows.

    Args:
        format_: JSONL or CSV.
        path: Whether rows name their file.
        calibrated: Whether rows have llr and p_spoof.
        speech: Whether rows have the part that is speech.
        decided: Whether rows have the decision of a threshold.
    """

    def __init__(
        self,
        format_: WindowFormat,
        *,
        path: bool,
        calibrated: bool = False,
        speech: bool = False,
        decided: bool = False,
    ) -> None:
        self.format = format_
        self.columns = (
            *(("path",) if path else ()),
            *("start_s", "end_s", "score", "error"),
            *(("llr", "p_spoof") if calibrated else ()),
            *(("speech",) if speech else ()),
            *(("decision",) if decided else ()),
        )

    @property
    def header(self) -> str:
        """What comes before the first row; nothing in JSONL."""
        return "" if self.format == "jsonl" else _csv_line(self.columns)

    def line(self, row: WindowRow, path: str | None = None) -> str:
        """The line of a row, with its end."""
        values = {"path": path, **{c: getattr(row, c) for c in self.columns if c != "path"}}
        if self.format == "jsonl":
            return json.dumps({c: values[c] for c in self.columns}, allow_nan=False) + "\n"
        return _csv_line([_cell(values[c]) for c in self.columns])

    def read(self, lines: Iterable[str]) -> Iterator[tuple[str | None, WindowRow]]:
        """Lines that were made here, back to paths and rows; the header is left out.

        Raises:
            UsageError: A line was not made here, whatever the journal says of it.
        """
        try:
            for each in self._values(lines):
                path = each.pop("path", None)
                yield path, WindowRow(**each)
        except (ValueError, TypeError, csv.Error) as error:
            raise UsageError(
                f"The rows that are there cannot be read: {error}.",
                fix="remove them and their journal, and begin anew",
            ) from error

    def _values(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        if self.format == "jsonl":
            for line in lines:
                values = json_of(line)
                if not isinstance(values, dict) or tuple(values) != self.columns:
                    raise ValueError(f"{excerpt(line.strip())} has not the columns of a row")
                for column, value in values.items():
                    kinds = (str, NoneType) if column in _WORDS else (float, NoneType)
                    if not isinstance(value, kinds):
                        raise TypeError(f"{column} is {excerpt(repr(value))}")
                yield values
            return
        cells = csv.reader(lines)
        next(cells, None)
        for row in cells:
            yield {c: _value(c, cell) for c, cell in zip(self.columns, row, strict=True)}


_WORDS: Final = frozenset({"path", "error", "decision"})


def _value(column: str, cell: str) -> str | float | None:
    if not cell and column != "path":
        return None
    return cell if column in _WORDS else float(cell)


def _cell(value: str | float | None) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _csv_line(values: Sequence[str]) -> str:
    stream = io.StringIO(newline="")
    # The csv module leaves a carriage return in a name without the quotes that it needs.
    if any("\r" in value for value in values):
        csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(values)
    else:
        csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue()
