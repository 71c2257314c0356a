"""Rows of the verb `score`: a scored file or its error, as CSV, JSONL, Parquet, ASVspoof text.

Rows are written as they come, so that what is computed is on disk when a run is stopped. The
columns are stable: path, score (empty or null on error), error, seconds (duration of the audio);
of a calibrated model also llr and p_spoof (empty or null on error); window, which part of the file
the score is of; and, when asked for, window_scores.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol

from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError
from aasist_deploy.textfile import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RowFormat = Literal["csv", "jsonl", "parquet", "txt"]

COLUMNS: Final = ("path", "score", "error", "seconds")
CALIBRATED_COLUMNS: Final = (*COLUMNS, "llr", "p_spoof")
_SUFFIXES: Final[dict[str, RowFormat]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
_PARQUET_ROWS: Final = 4_096  # rows of one group: bounded memory, good compression


class Named(Protocol):
    """A file's path, or what stands for it; `str` of it is written."""

    @property
    def stem(self) -> str: ...


class FileRow(Protocol):
    """What a row is made from; `pipeline.ScoredFile` is one.

    Rows with `calibrated` columns must have `llr` and `p_spoof` too.
    """

    @property
    def path(self) -> Named: ...
    @property
    def score(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def seconds(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """Which columns rows have beside path, score, error and seconds.

    Attributes:
        calibrated: llr and p_spoof, which the rows must then have as attributes.
        window: Value of the column `window`, which part of each file is scored; None for no such
            column.
        window_scores: The scores of all windows, which the rows must then have as a tuple.
    """

    calibrated: bool = False
    window: str | None = None
    window_scores: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in their order."""
        names: tuple[str, ...] = CALIBRATED_COLUMNS if self.calibrated else COLUMNS
        names += ("window",) if self.window is not None else ()
        return names + (("window_scores",) if self.window_scores else ())


class RowWriter(Protocol):
    """Writes rows one by one."""

    def write(self, row: FileRow) -> None:
        """Append one row."""
        ...


def format_of(output: Path | None, wanted: RowFormat | None) -> RowFormat:
    """The format asked for, or the one that the file's name says; CSV on stdout.

    Raises:
        UsageError: the name says nothing known, or Parquet is to go to stdout.
    """
    if wanted is None:
        if output is None:
            return "csv"
        if output.suffix not in _SUFFIXES:
            raise UsageError(
                f"{output} does not say a format; known suffixes are {', '.join(_SUFFIXES)}.",
                fix="add --format csv",
            )
        return _SUFFIXES[output.suffix]
    if wanted == "parquet" and output is None:
        raise UsageError(
            "Parquet is binary and is not written to a terminal.", fix="-o scores.parquet"
        )
    return wanted


class RowLines:
    """Rows as bytes; what is written depends on the row alone.

    Args:
        row_format: csv, jsonl or txt.
        columns: Which there are; txt has the score alone.
    """

    def __init__(self, row_format: RowFormat, columns: RowColumns) -> None:
        self._columns = columns
        self._names = columns.names
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text, lineterminator="\n")
        # The csv module leaves a carriage return in a name without the quotes that it needs.
        self._quoted = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        of_format: dict[str, Callable[[FileRow], str]]
        of_format = {"csv": self._csv_line, "jsonl": self._jsonl_line, "txt": _txt_line}
        self._line = of_format[row_format]
        self.header = b""
        if row_format == "csv":
            self._csv.writerow(self._names)
            self.header = self._taken().encode()

    def line(self, row: FileRow) -> bytes:
        """One row; of txt nothing for a file with an error.

        Raises:
            UsageError: its name cannot be written in this format.
        """
        # File names need not be UTF-8; what Python read comes out as it was.
        return self._line(row).encode(errors="surrogateescape")

    def values(self, row: FileRow) -> dict[str, Any]:
        """The row by column."""
        return {name: self._value(row, name) for name in self._names}

    def _value(self, row: FileRow, name: str) -> Any:  # noqa: ANN401
        if name == "path":
            return str(row.path)
        if name == "window":
            return self._columns.window
        value = getattr(row, name, None)
        if name == "window_scores":
            return None if row.score is None else list(value or ())
        return value

    def _jsonl_line(self, row: FileRow) -> str:
        return json.dumps(self.values(row), allow_nan=False) + "\n"

    def _csv_line(self, row: FileRow) -> str:
        values = self.values(row)
        texts = [
            "" if value is None else _csv_text(value) if not isinstance(value, str) else value
            for value in values.values()
        ]
        writer = self._quoted if any("\r" in text for text in texts) else self._csv
        writer.writerow(texts)
        return self._taken()

    def _taken(self) -> str:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


def _csv_text(value: object) -> str:
    return " ".join(map(repr, value)) if isinstance(value, list) else repr(value)


def _txt_line(row: FileRow) -> str:
    """ASVspoof text: `utterance score`; a file with an error has no line."""
    if row.score is None:
        return ""
    if len(row.path.stem.split()) != 1:
        raise UsageError(
            f"{str(row.path)!r} has blanks in its name, which ASVspoof text cannot hold.",
            fix="use --format csv",
        )
    return f"{row.path.stem} {row.score!r}\n"


@contextmanager
def open_rows(
    output: Path | None,
    row_format: RowFormat,
    *,
    calibrated: bool = False,
    columns: RowColumns | None = None,
) -> Iterator[RowWriter]:
    """A writer to a file, or to stdout when `output` is None.

    Args:
        output: The file.
        row_format: Its format; txt has no column but the score in any case.
        calibrated: Whether rows have the columns llr and p_spoof; `columns` says it otherwise.
        columns: Which columns there are.

    Raises:
        OutputError: the place cannot be written.
        EnvironmentLacks: Parquet without pyarrow.
    """
    columns = columns or RowColumns(calibrated=calibrated)
    if row_format == "parquet":
        with open_parquet(output or Path("scores.parquet"), columns) as writer:
            yield writer
        return
    lines = RowLines(row_format, columns)
    if output is None:
        sys.stdout.flush()
        yield (_ShownLines if sys.stdout.isatty() else _Lines)(sys.stdout.buffer, lines)
        return
    try:
        with output.open("wb") as stream:
            yield _Lines(stream, lines)
    except OSError as error:
        raise _not_writable(output, error) from error


class _Lines:
    def __init__(self, stream: BinaryIO, lines: RowLines) -> None:
        self._stream, self._lines = stream, lines
        stream.write(lines.header)
        stream.flush()

    def write(self, row: FileRow) -> None:
        self._stream.write(self._lines.line(row))
        self._stream.flush()


class _ShownLines(_Lines):
    """Rows on a terminal, which file names must not steer."""

    def write(self, row: FileRow) -> None:
        text = self._lines.line(row).decode(errors="surrogateescape")
        self._stream.write(visible(text).encode())
        self._stream.flush()


class ParquetRows:
    """Writes rows to Parquet in groups of 4,096; made by `open_parquet`."""

    def __init__(self, table: Any, schema: Any, columns: RowColumns) -> None:  # noqa: ANN401
        self._table, self._schema = table, schema
        self._lines = RowLines("jsonl", columns)
        self._rows: list[dict[str, Any]] = []

    def write(self, row: FileRow) -> None:
        """Append one row."""
        self.write_values(self._lines.values(row))

    def write_values(self, values: dict[str, Any]) -> None:
        """Append one row, given by column."""
        # Parquet text is UTF-8: bytes of a name that are not become \udcXX in letters.
        for column in ("path", "error"):
            if values[column] is not None:
                values[column] = values[column].encode(errors="backslashreplace").decode()
        self._rows.append(values)
        if len(self._rows) >= _PARQUET_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        import pyarrow as pa

        if self._rows:
            self._table.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


@contextmanager
def open_parquet(output: Path, columns: RowColumns) -> Iterator[ParquetRows]:
    """A writer of Parquet.

    Raises:
        OutputError: the place cannot be written.
        EnvironmentLacks: pyarrow is not installed.
    """
    require_pyarrow("Writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"window_scores": pa.list_(pa.float64())}
    kinds |= dict.fromkeys(("path", "error", "window"), pa.string())
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns.names])
    try:
        with pq.ParquetWriter(output, schema) as table:
            writer = ParquetRows(table, schema, columns)
            try:
                yield writer
            finally:
                writer.flush()
    except OSError as error:
        raise _not_writable(output, error) from error


def require_pyarrow(what: str) -> None:
    """Check that pyarrow is there; `what` needs it.

    Raises:
        EnvironmentLacks: it is not.
    """
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise EnvironmentLacks(
            f"{what} needs the package pyarrow, which is not installed.",
            fix="pip install 'aasist-deploy[parquet]'",
        ) from error


def _not_writable(output: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{output} cannot be written: {error.strerror or error}.",
        fix="choose another place with -o",
    )
