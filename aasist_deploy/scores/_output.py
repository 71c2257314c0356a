"""Rows of the verb `score`: a scored file or its error, as CSV, JSONL, Parquet, ASVspoof text.

Rows are written as they come, so that what is computed is on disk when a run is stopped. The
columns are stable: path, score (empty or null on error), error, seconds (duration of the audio).
"""

from __future__ import annotations

import csv
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TextIO

from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

RowFormat = Literal["csv", "jsonl", "parquet", "txt"]

COLUMNS: Final = ("path", "score", "error", "seconds")
_SUFFIXES: Final[dict[str, RowFormat]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
_PARQUET_ROWS: Final = 4_096  # rows of one group: bounded memory, good compression


class FileRow(Protocol):
    """What a row is made from; `pipeline.ScoredFile` is one."""

    @property
    def path(self) -> Path: ...
    @property
    def score(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def seconds(self) -> float | None: ...


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


@contextmanager
def open_rows(output: Path | None, row_format: RowFormat) -> Iterator[RowWriter]:
    """A writer to a file, or to stdout when `output` is None.

    Raises:
        OutputError: the place cannot be written.
        EnvironmentLacks: Parquet without pyarrow.
    """
    if row_format == "parquet":
        with _parquet(output or Path("scores.parquet")) as writer:
            yield writer
        return
    kinds: dict[str, type[_Csv | _Jsonl | _Txt]] = {"csv": _Csv, "jsonl": _Jsonl, "txt": _Txt}
    if output is None:
        # File names need not be UTF-8; what Python read comes out as it was.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield kinds[row_format](sys.stdout)
        return
    try:
        with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield kinds[row_format](stream)
    except OSError as error:
        raise _not_writable(output, error) from error


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    score: float | None
    error: str | None
    seconds: float | None

    @classmethod
    def of(cls, row: FileRow) -> _Row:
        return cls(str(row.path), row.score, row.error, row.seconds)


class _Csv:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._csv = csv.writer(stream, lineterminator="\n")
        # The csv module leaves a carriage return in a name without the quotes that it needs.
        self._quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._csv.writerow(COLUMNS)

    def write(self, row: FileRow) -> None:
        values = _Row.of(row)
        writer = self._quoted if "\r" in values.path + (values.error or "") else self._csv
        writer.writerow(
            "" if value is None else repr(value) if isinstance(value, float) else value
            for value in (getattr(values, column) for column in COLUMNS)
        )
        self._stream.flush()


class _Jsonl:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: FileRow) -> None:
        values = _Row.of(row)
        as_dict = {column: getattr(values, column) for column in COLUMNS}
        self._stream.write(json.dumps(as_dict, allow_nan=False) + "\n")
        self._stream.flush()


class _Txt:
    """ASVspoof text: `utterance score`; a file with an error has no line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: FileRow) -> None:
        if row.score is None:
            return
        if len(row.path.stem.split()) != 1:
            raise UsageError(
                f"{str(row.path)!r} has blanks in its name, which ASVspoof text cannot hold.",
                fix="use --format csv",
            )
        self._stream.write(f"{row.path.stem} {row.score!r}\n")
        self._stream.flush()


@contextmanager
def _parquet(output: Path) -> Iterator[RowWriter]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise EnvironmentLacks(
            "Writing Parquet needs the package pyarrow, which is not installed.",
            fix="pip install 'aasist-deploy[parquet]'",
        ) from error
    types = (pa.string(), pa.float64(), pa.string(), pa.float64())
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        if rows:
            table.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

    class Writer:
        def write(self, row: FileRow) -> None:
            values = _Row.of(row)
            as_dict = {column: getattr(values, column) for column in COLUMNS}
            # Parquet text is UTF-8: bytes of a name that are not become \udcXX in letters.
            for column in ("path", "error"):
                if as_dict[column] is not None:
                    as_dict[column] = as_dict[column].encode(errors="backslashreplace").decode()
            rows.append(as_dict)
            if len(rows) >= _PARQUET_ROWS:
                flush()

    try:
        with pq.ParquetWriter(output, schema) as table:
            try:
                yield Writer()
            finally:
                flush()
    except OSError as error:
        raise _not_writable(output, error) from error


def _not_writable(output: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{output} cannot be written: {error.strerror or error}.",
        fix="choose another place with -o",
    )
