"""A file that grows row by row, and beside it a journal of how far the rows are certain.

The journal is `OUTPUT.journal`: first a line that says which run this is, then a line whenever the
rows before it are on disk. Both files are only appended to, the rows first, and each is synced
before the next is touched. Whatever cuts a run off (a signal, the power, a full disk), the last
line of the journal that is whole is true; what the output holds beyond it is dropped and made
again.

The scan of long recordings keeps places within an input and figures of those that are done in its
journal (`streaming.journal`); lines, checks and the name of the file are the same, from here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMA: Final = "aasist-deploy/journal/1"
SYNC_EVERY_S: Final = (
    1.0  # what a cut run computes again; syncing each batch would slow fast models
)
_BLOCK: Final = 1 << 20
_LONG: Final = 300  # characters of a phrase that is still read
_MOST: Final = 2**53  # of bytes and rows, in JSON that every reader takes
_KINDS: Final = {"int": int, "str": str, "bool": bool}  # of the fields of Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a run has come.

    Attributes:
        n_inputs: Inputs whose rows are in the output.
        n_failed: Of them, those without a score.
        n_bytes: Length of the output with these rows.
        crc32: Of these bytes.
        inputs: Hash of what these inputs were, in their order (`chained`).
        done: There are no further inputs.
    """

    n_inputs: int = 0
    n_failed: int = 0
    n_bytes: int = 0
    crc32: int = 0
    inputs: str = ""
    done: bool = False


def chained(before: str, stamp: str) -> str:
    """The hash of a sequence that is longer by `stamp`."""
    text = f"{before}\0{stamp}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def journal_of(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(f"{output.name}.journal")


def read_journal(output: Path) -> tuple[dict[str, Any], Reached] | None:
    """What the journal beside an output says: which run, and how far; None where there is none.

    The run is an empty mapping when the journal was cut off before it could say.

    Raises:
        UsageError: it is none of ours, or damaged in its first line.
    """
    path = journal_of(output)
    try:
        with path.open("rb") as lines:
            first = lines.readline()
            if not first.endswith(b"\n"):  # stopped before it had begun
                return {}, Reached()
            head = entry_of(first)
            if (
                head is None
                or head.get("schema") != SCHEMA
                or not isinstance(head.get("run"), dict)
            ):
                raise UsageError(
                    f"{path} is no journal of a run, or is damaged from its first line on.",
                    fix=f"remove it and {output.name}, and begin anew",
                )
            reached = None
            for entry, _ in whole_entries(lines):
                reached = _reached(entry, path)
    except (FileNotFoundError, NotADirectoryError):  # opening it for writing says what is wrong
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return ({}, Reached()) if reached is None else (head["run"], reached)


def check_output(output: Path, reached: Reached) -> None:
    """Check that an output still begins with the bytes that its journal speaks of.

    Raises:
        UsageError: it does not.
    """
    check_bytes(output, reached.n_bytes, reached.crc32)


def check_bytes(output: Path, n_bytes: int, crc32: int) -> None:
    """Check that a file still begins with so many bytes of this checksum.

    Raises:
        UsageError: it does not, or is gone.
    """
    crc, left = 0, n_bytes
    try:
        with output.open("rb") as file:
            while left and (block := file.read(min(_BLOCK, left))):
                crc, left = zlib.crc32(block, crc), left - len(block)
    except FileNotFoundError as error:
        raise UsageError(
            f"{output} is gone, and its journal says that it held {n_bytes} bytes.",
            fix=f"remove {journal_of(output)} and begin anew",
        ) from error
    if left or crc != crc32:
        what = f"is {left} bytes shorter than" if left else "differs from"
        raise UsageError(
            f"{output} {what} what was written: it was changed after the run that wrote it.",
            fix=f"put it back as it was, or remove it and {journal_of(output).name}",
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What distinguishes two runs, one phrase for each key whose values differ."""
    phrases = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            phrase = f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
            phrases.append(phrase if len(phrase) <= _LONG else f"{key} differs")  # a list of files
    return phrases


def line_of(entry: Mapping[str, Any]) -> bytes:
    """A line of a journal: a checksum and JSON."""
    text = json.dumps(entry, sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def entry_of(line: bytes) -> dict[str, Any] | None:
    """What `line_of` made a line of; None where it is not whole."""
    check, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def whole_entries(lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    """Entries, and the bytes up to the end of each; a line that was cut off ends them.

    It was cut off while it was written, so that nothing comes behind it.
    """
    end = 0
    for line in lines:
        entry = entry_of(line)
        if entry is None:
            return
        end += len(line)
        yield entry, end


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
    if resume:
        if found is None and output.exists() and output.stat().st_size:
            raise UsageError(
                f"{output} is there, but no journal beside it that says what it holds.",
                fix="name another output, or leave out --resume, which begins anew",
            )
        if found is not None and found[0] and (differ := differences(found[0], dict(run))):
            raise UsageError(
                f"{output} was begun by another run: {'; '.join(differ)}.",
                fix="give the options and inputs of that run, or name another output",
            )
    elif found is not None and found[1].n_inputs and not found[1].done:
        raise UsageError(
            f"{output} holds {found[1].n_inputs} rows of a run that was stopped.",
            fix=f"add --resume to go on, or remove {journal_of(output)} to begin anew",
        )
    reached = found[1] if resume and found is not None and found[0] else None
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


def _reached(entry: dict[str, Any], path: Path) -> Reached:
    kinds = {field.name: _KINDS[str(field.type)] for field in fields(Reached)}
    right = entry.keys() == kinds.keys() and all(type(entry[n]) is kinds[n] for n in kinds)
    numbers = (entry["n_inputs"], entry["n_failed"], entry["n_bytes"]) if right else (-1,)
    if min(numbers) < 0 or max(numbers) >= _MOST:
        raise UsageError(f"{path} was changed: a line of it is none of a run.")
    return Reached(**entry)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the bytes; the system may take them in parts."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_folder(folder: Path) -> None:
    """Make certain that new names are on disk."""
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
