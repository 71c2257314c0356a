"""The journal beside a scan's rows: how far they reach, and for what they were computed.

It is made of the lines of every journal here (`aasist_deploy.journal`): first what the run is, then
each input as it is begun, and a place to go on from each time that rows up to it are on disk.
Unlike the rows of `score`, rows of one input have places within it, hours apart from its ends, and
what is known of an input that is done is kept, so that it need not be decoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.journal import (
    check_bytes,
    differences,
    journal_of,
    line_of,
    whole_entries,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

SCHEMA: Final = "aasist-deploy/scan-journal/1"
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a run goes on: everything before it is in the rows.

    Attributes:
        file: Number of the input.
        stretch: Gaps before it in that input.
        window: Windows before it in that stretch.
    """

    file: int = 0
    stretch: int = 0
    window: int = 0


@dataclass(slots=True)
class _State:
    """What a journal says."""

    place: Place = field(default_factory=Place)
    n_bytes: int = 0
    crc: int = 0
    inputs: dict[int, dict[str, Any]] = field(default_factory=dict)
    ended: dict[int, dict[str, Any]] = field(default_factory=dict)


class RowsFile:
    """The rows of a scan on disk, with their journal; a context manager.

    Args:
        output: File of the rows; the journal lies beside it.
        run: What the rows depend on, as plain JSON types; a run goes on only where this is equal.
        header: What a new file starts with.
        resume: Whether to go on with a run, or, where there is none, to begin one.

    Raises:
        UsageError: there are rows already and `resume` is false; or the run is another one, its
            rows were changed, or it has no journal.
        OutputError: the place cannot be written, or another process writes there.
    """

    def __init__(self, output: Path, run: dict[str, Any], header: str, *, resume: bool) -> None:
        self._output, self._run = output, json.loads(json.dumps(run))
        self._journal = journal_of(output)
        self._state = _State()
        had_journal = self._journal.exists()
        if (output.exists() or had_journal) and not resume:
            raise UsageError(
                f"{output} exists, and a scan may have taken long.",
                fix="--resume goes on with it; or remove it, or choose another -o",
            )
        with ExitStack() as opened:  # closes what is open when something is refused
            try:
                if not had_journal:
                    opened.callback(self._journal.unlink, missing_ok=True)
                self._lines = opened.enter_context(self._journal.open("ab", buffering=0))
                self._lock()
                begun = self._read()
                mode = "r+b" if output.exists() else "x+b"
                self._rows = opened.enter_context(output.open(mode, buffering=0))
                self._rows.truncate(self._state.n_bytes)
                self._rows.seek(self._state.n_bytes)
                if not begun:
                    self._note({"schema": SCHEMA, "run": self._run})
                if not self._state.n_bytes:
                    self.write(header)
                    self.reach(Place())
            except OSError as error:
                raise _not_writable(output, error) from error
            opened.pop_all()

    @property
    def place(self) -> Place:
        """Where to go on."""
        return self._state.place

    def ended(self, file: int) -> dict[str, Any] | None:
        """What was noted of an input that is done, or None."""
        return self._state.ended.get(file)

    def begin(self, file: int, path: Path) -> None:
        """Note an input, or check that it is the one that was begun before.

        Raises:
            UsageError: it was changed since.
        """
        held = self._state.inputs.get(file)
        if held is not None and file < self.place.file:
            return
        found = {"file": file, "path": str(path), "sha256": sha256_of(path)}
        if held is None:
            self._note({"input": found})
        elif held != found:
            raise UsageError(
                f"{path} has changed since the run that {self._output} holds.",
                fix="choose another -o, and scan it anew",
            )

    def write(self, line: str) -> None:
        """Append a row and hand it to the system at once.

        Raises:
            OutputError: it cannot be written.
        """
        data = line.encode("utf-8", "surrogateescape")
        try:
            write_all(self._rows.fileno(), data)
        except OSError as error:
            raise _not_writable(self._output, error) from error
        self._state.n_bytes += len(data)
        self._state.crc = zlib.crc32(data, self._state.crc)

    def reach(self, place: Place, ended: dict[str, Any] | None = None) -> None:
        """Note that all rows before a place are written.

        Args:
            place: Where a later run may go on.
            ended: What is to be kept of the input that ends there, or None.

        Raises:
            OutputError: it cannot be made certain.
        """
        state = {"bytes": self._state.n_bytes, "crc32": self._state.crc}
        self._note({"place": asdict(place), **state, **({"ended": ended} if ended else {})})
        self._state.place = place

    def lines(self) -> Iterator[str]:
        """The rows up to the place, with the header, read back line by line."""
        with self._output.open("rb") as file:
            left = self._state.n_bytes
            for line in file:
                left -= len(line)
                if left < 0:
                    return
                yield line.decode("utf-8", "surrogateescape")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # of a row that a full disk cut in half
            self._rows.truncate(self._state.n_bytes)
        self._rows.close()
        self._lines.close()

    def _note(self, entry: dict[str, Any]) -> None:
        """Add a line, which is true once the rows are on disk."""
        try:
            os.fsync(self._rows.fileno())
            write_all(self._lines.fileno(), line_of(entry))
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise _not_writable(self._output, error) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"Another process is writing {self._output}.",
                fix="wait for it, or choose another -o",
            ) from error

    def _read(self) -> bool:
        """Take over what journal and rows say, if anything.

        Raises:
            UsageError: they do not belong together, or to this run.
        """
        entries, n_whole = [], 0
        with self._journal.open("rb") as lines:
            is_begun = lines.readline().endswith(b"\n")
            lines.seek(0)
            for entry, end in whole_entries(lines):
                entries.append(entry)
                n_whole = end
        if is_begun and (not entries or entries[0].get("schema") != SCHEMA):
            raise UsageError(f"{self._journal} is no journal of a scan.", fix="choose another -o")
        try:
            begun = self._take(entries)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UsageError(
                f"{self._journal} was changed: a line of it is none of a scan ({error}).",
                fix="remove it and the rows, or choose another -o",
            ) from error
        os.truncate(self._journal, n_whole)  # of a line that was being written
        return begun

    def _take(self, entries: list[dict[str, Any]]) -> bool:
        if not entries:  # it ended before it wrote a line
            if self._output.exists() and self._output.stat().st_size:
                raise UsageError(
                    f"{self._output} has no journal that says what it holds.",
                    fix="choose another -o",
                )
            return False
        if differ := differences(entries[0]["run"], self._run):
            raise UsageError(
                f"The rows in {self._output} are of another run: {'; '.join(differ)}.",
                fix="give the options and files of that run, or choose another -o",
            )
        state = self._state
        for entry in entries[1:]:
            if "input" in entry:
                state.inputs[entry["input"]["file"]] = entry["input"]
            else:
                state.place = Place(**entry["place"])
                state.n_bytes, state.crc = entry["bytes"], entry["crc32"]
                numbers = (*asdict(state.place).values(), state.n_bytes, state.crc)
                if any(type(number) is not int or number < 0 for number in numbers):
                    raise ValueError(f"{numbers!r:.80} are no whole numbers")
                if "ended" in entry:
                    state.ended[state.place.file - 1] = entry["ended"]
        if state.n_bytes:
            check_bytes(self._output, state.n_bytes, state.crc)
        return True


def sha256_of(path: Path) -> str | None:
    """Hash of a file's bytes; None where it cannot be read, which decoding it will say."""
    digest = hashlib.sha256()
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _not_writable(output: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{output} cannot be written: {error.strerror or error}.",
        fix="make room or choose another -o; --resume goes on where a run ended",
    )
