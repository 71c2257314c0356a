"""An output and its journal, written so that the journal never says too much."""

from __future__ import annotations

import fcntl
import os
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.journal._lines import journal_of, line_of, whole_entries, write_all
from aasist_deploy.journal._reading import SCHEMA, Reached, check_output, differences, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# What a cut run computes again; syncing each batch would slow fast models.
SYNC_EVERY_S: Final = 1.0


class JournaledFile:
    """An output and its journal, open for appending; made by `open_journaled`."""

    def __init__(self, output: Path, rows: int, journal: int, reached: Reached) -> None:
        self._output, self._rows, self._journal = output, rows, journal
        self._synced = self.reached = reached
        self._n_certain = os.fstat(journal).st_size
        self._last_sync = monotonic()

    def append(self, data: bytes, *, n_inputs: int, n_failed: int, inputs: str) -> None:
        """Write the rows of some inputs.

        Args:
            data: Whole rows.
            n_inputs: How many inputs they are of.
            n_failed: How many of those have no score.
            inputs: Hash of all inputs up to the last of these.

        Raises:
            OutputError: they cannot be written; the output then ends with the rows before them.
        """
        with self._errors():
            write_all(self._rows, data)
            before = self.reached
            self.reached = Reached(
                n_inputs=before.n_inputs + n_inputs,
                n_failed=before.n_failed + n_failed,
                n_bytes=before.n_bytes + len(data),
                crc32=zlib.crc32(data, before.crc32),
                inputs=inputs,
            )
            if monotonic() - self._last_sync >= SYNC_EVERY_S:
                self.sync()

    def finish(self) -> None:
        """Say that there are no further inputs."""
        with self._errors():
            self.reached = replace(self.reached, done=True)
            self.sync()

    def sync(self) -> None:
        """Make certain what was written: the rows, then the line that vouches for them."""
        if self.reached == self._synced:
            return
        os.fsync(self._rows)
        line = line_of(asdict(self.reached))
        os.ftruncate(self._journal, self._n_certain)  # an attempt may have ended within the line
        write_all(self._journal, line)
        os.fsync(self._journal)
        self._n_certain += len(line)
        self._synced, self._last_sync = self.reached, monotonic()

    def close(self) -> None:
        """Drop a row that was cut in half, make certain the rest, and close."""
        try:
            with self._errors():
                os.ftruncate(self._rows, self.reached.n_bytes)
                self.sync()
        finally:
            os.close(self._rows)
            os.close(self._journal)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            n_rows = self.reached.n_inputs
            raise OutputError(
                f"{self._output} cannot be written: {error.strerror or error}. It holds the rows "
                f"of {n_rows} inputs.",
                fix="make room, and give the same command with --resume",
            ) from error


@contextmanager
def open_journaled(
    output: Path, run: Mapping[str, Any], header: bytes, *, resume: bool
) -> Iterator[JournaledFile]:
    """Open an output anew, or where a run of the same kind left it.

    Args:
        output: A regular file, or none yet.
        run: What the rows depend on, in JSON types. A run is continued only by one that says the
            same.
        header: What the output begins with.
        resume: Go on with an output that is there; one that is not there is begun.

    Raises:
        UsageError: the output holds another run, was changed, has no journal, or holds rows of a
            stopped run that would be lost without `resume`; or another process is writing it.
        OutputError: the place cannot be written.
    """
    found = read_journal(output)
    reached = _begun(output, run, found, resume=resume)
    journal = journal_of(output)
    try:
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        lines = os.open(journal, flags, 0o666)
        try:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if reached is not None:
                check_output(output, reached)
            rows = os.open(output, flags, 0o666)
        except BaseException:
            os.close(lines)
            if found is None:
                with suppress(OSError):
                    journal.unlink()
            raise
        try:
            if reached is None:
                reached = _begin(rows, lines, run, header)
                _sync_folder(output.parent)
            else:
                _cut(rows, lines, reached)
        except BaseException:
            os.close(rows)
            os.close(lines)
            raise
    except BlockingIOError as error:
        raise UsageError(
            f"Another process is writing {output}.", fix="wait for it, or name another output"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}.",
            fix="choose another place with -o",
        ) from error
    file = JournaledFile(output, rows, lines, reached)
    try:
        yield file
    finally:
        file.close()


def _begun(
    output: Path,
    run: Mapping[str, Any],
    found: tuple[dict[str, Any], Reached] | None,
    *,
    resume: bool,
) -> Reached | None:
    """Where to go on, or None to begin anew; `found` is what the journal says.

    Raises:
        UsageError: what is there is another run, none that is known, or would be lost.
    """
    if not resume:
        if found is not None and found[1].n_inputs and not found[1].done:
            raise UsageError(
                f"{output} holds {found[1].n_inputs} rows of a run that was stopped.",
                fix=f"add --resume to go on, or remove {journal_of(output)} to begin anew",
            )
        return None
    if found is None:
        if output.exists() and output.stat().st_size:
            raise UsageError(
                f"{output} is there, but no journal beside it that says what it holds.",
                fix="name another output, or leave out --resume, which begins anew",
            )
        return None
    before, reached = found
    if not before:
        return None
    if differ := differences(before, dict(run)):
        raise UsageError(
            f"{output} was begun by another run: {'; '.join(differ)}.",
            fix="give the options and inputs of that run, or name another output",
        )
    return reached


def _begin(rows: int, lines: int, run: Mapping[str, Any], header: bytes) -> Reached:
    os.ftruncate(lines, 0)
    os.ftruncate(rows, 0)
    reached = Reached(n_bytes=len(header), crc32=zlib.crc32(header))
    write_all(rows, header)
    os.fsync(rows)
    write_all(lines, line_of({"schema": SCHEMA, "run": dict(run)}) + line_of(asdict(reached)))
    os.fsync(lines)
    return reached


def _cut(rows: int, lines: int, reached: Reached) -> None:
    """Drop rows that no line vouches for, and a line that was cut in half."""
    os.ftruncate(rows, reached.n_bytes)
    size, whole = os.fstat(lines).st_size, 0
    with open(os.dup(lines), "rb") as file:  # noqa: PTH123  # a descriptor
        file.seek(0)
        for _, end in whole_entries(file):
            whole = end
    if whole < size:
        os.ftruncate(lines, whole)


def _sync_folder(folder: Path) -> None:
    """Make certain that new names are on disk."""
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
