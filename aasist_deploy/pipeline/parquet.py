"""Parquet of a run: made of the rows in a file of lines, which can be cut and appended to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.scores import open_parquet
from aasist_deploy.textfile import json_of, whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.scores import RowColumns


def work_file(output: Path) -> Path:
    """The file of rows that a Parquet file is made from; it stays beside it for a later run."""
    return output.with_name(f"{output.name}.rows.jsonl")


def write_parquet(rows: Path, output: Path, columns: RowColumns, n_bytes: int) -> None:
    """Write the first bytes of a file of rows as Parquet, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
        UsageError: a row is none, whatever the journal says of it.
    """
    try:
        with (
            whole_file(output) as part,
            rows.open("rb") as lines,
            open_parquet(part, columns) as writer,
        ):
            for line in lines:
                n_bytes -= len(line)
                if n_bytes < 0:
                    break
                writer.write_values(json_of(line))
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}. Its rows are in {rows}.",
            fix="make room, and give the same command with --resume",
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        # The journal's check sum is no signature: whoever can write both files can write any row.
        raise UsageError(
            f"A row in {rows} cannot be read: {error}.",
            fix="remove the file and its journal, and begin anew",
        ) from error
