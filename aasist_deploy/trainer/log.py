"""What a run writes down of itself: log.jsonl, log.csv, and event files for TensorBoard.

log.jsonl has one row for each step that is logged and one for each epoch, e.g.

    {"kind": "step", "epoch": 1, "step": 10, "loss": 0.31, "lr": 9.9e-05}
    {"kind": "epoch", "epoch": 1, "step": 1057, "train_loss": 0.2, "dev_eer_percent": 4.1, ...}

and is the whole truth; log.csv has the epochs alone. Steps and epochs count from 1.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from typing import TYPE_CHECKING, Any, Final, Self

from aasist_deploy.errors import EnvironmentLacks, OutputError
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Figure = float | str | bool | None
Row = dict[str, Any]

JSONL: Final = "log.jsonl"
CSV: Final = "log.csv"
TENSORBOARD: Final = "tensorboard"


class RunLog:
    """The log of one run; one process of a run has it.

    On resume it first removes what was logged beyond the resumed position, and the last line when
    a kill cut it off, so that each step and each epoch is there once. TensorBoard is told to forget
    the same steps.

    A context manager; closing it twice does nothing. Not to be used by several threads.

    Args:
        out: The run folder; it is made.
        resume_at_step: Steps that lie behind; 0 for a run that begins, which empties the log.
        tensorboard: Whether to write event files.

    Raises:
        OutputError: the folder cannot be written, or its log is no log.
        EnvironmentLacks: event files are wanted and the package that writes them is missing.
    """

    def __init__(self, out: Path, resume_at_step: int = 0, *, tensorboard: bool = True) -> None:
        self._path, self._csv = out / JSONL, out / CSV
        # First what can be missing: nothing of an old log is touched then.
        events = _event_file_class() if tensorboard else None
        try:
            out.mkdir(parents=True, exist_ok=True)
            rows = read_rows(self._path) if resume_at_step and self._path.exists() else []
        except OSError as error:
            raise _unwritable(out, error) from error
        self._rewrite([row for row in rows if row["step"] <= resume_at_step])
        try:
            self._events = events and events(out / TENSORBOARD, resume_at_step + 1)
        except OSError as error:
            raise _unwritable(out / TENSORBOARD, error) from error

    def step(self, *, epoch: int, step: int, **figures: Figure) -> None:
        """Write the row of a step of the optimizer.

        Args:
            epoch: From 1.
            step: From 1, over all epochs.
            figures: E.g. loss, lr; NaN, infinity and None become null.
        """
        self._append({"kind": "step", "epoch": epoch, "step": step} | _finite(figures))

    def epoch(self, *, epoch: int, step: int, **figures: Figure) -> None:
        """Write the row of an epoch; one that is there already (resumed after it) is replaced.

        Args:
            epoch: From 1.
            step: The last step of it.
            figures: E.g. train_loss, dev_loss, dev_eer_percent, dev_min_tdcf, best, seconds.
        """
        row = {"kind": "epoch", "epoch": epoch, "step": step} | _finite(figures)
        if any(earlier["epoch"] == epoch for earlier in self._epochs):
            self._file.close()
            self._rewrite(
                row
                for row in read_rows(self._path)
                if row["kind"] != "epoch" or row["epoch"] != epoch
            )
        self._append(row)
        self._epochs.append(row)
        self._write_csv()
        self.flush()

    def flush(self) -> None:
        """Bring every row to the disk; to be called before a state to resume from is saved.

        Each row reaches the operating system when it is written: a killed process loses none of
        log.jsonl. This is for event files, and for a machine that loses its power.
        """
        try:
            os.fsync(self._file.fileno())
            if self._events:
                self._events.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Write what is left, and close the files."""
        if not self._file.closed:
            self.flush()
            self._file.close()
            if self._events:
                self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rewrite(self, rows: Iterable[Row]) -> None:
        kept = list(rows)
        write_text_atomically(self._path, (_line(row) for row in kept))
        self._epochs = [row for row in kept if row["kind"] == "epoch"]
        self._write_csv()
        try:
            self._file = self._path.open("ab", buffering=0)  # a row is one write
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _append(self, row: Row) -> None:
        line = _line(row).encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError("only a part of a row was written")  # noqa: TRY301  # as a full disk
            if self._events:
                self._events.add(row)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _write_csv(self) -> None:
        columns = list(dict.fromkeys(name for row in self._epochs for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, [c for c in columns if c != "kind"], lineterminator="\n",
                                extrasaction="ignore")  # fmt: skip
        writer.writeheader()
        writer.writerows(self._epochs)
        write_text_atomically(self._csv, [text.getvalue()] if columns else [])


def read_rows(path: Path) -> list[Row]:
    """The rows of a log.jsonl, without a last line that a kill cut off.

    Raises:
        OutputError: it cannot be read, or a line before the last is no row of a log.
    """
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}.") from error
    del rest  # empty, or cut off
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            _ = row["kind"], int(row["step"]), int(row["epoch"])
            rows.append(row)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise OutputError(
                f"{path}, line {number}, is no row of a training log: {line[:60]!r}.",
                fix="move the file away to begin a new log, or repair the line",
            ) from error
    return rows


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _finite(figures: dict[str, Figure]) -> Row:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}.",
        fix="free some space or give a folder that you may write to; the run can be resumed",
    )


def _event_file_class() -> type[Any]:
    """The class of event files, when its package is here."""
    try:
        from aasist_deploy.trainer._event_file import EventFile
    except ImportError as error:
        raise EnvironmentLacks(
            f"Writing event files for TensorBoard needs the package {error.name}, which is not "
            "installed.",
            fix="pip install 'aasist-deploy[train]', or set run.tensorboard = false",
        ) from error
    return EventFile
