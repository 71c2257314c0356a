"""A scan of several recordings into one file of rows, from its beginning or from where it ended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aasist_deploy.audio import file_blocks
from aasist_deploy.errors import AudioError, UsageError
from aasist_deploy.streaming.journal import Place
from aasist_deploy.streaming.scan import draw, place_after, scan
from aasist_deploy.textfile import excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aasist_deploy.streaming.output import RowText
    from aasist_deploy.streaming.rows import WindowRow
    from aasist_deploy.streaming.scan import Recording, ScanRules
    from aasist_deploy.streaming.summary import Segment


class Sink(Protocol):
    """Where rows go; `journal.RowsFile` is one."""

    @property
    def place(self) -> Place:
        """Where to go on."""
        ...

    def lines(self) -> Iterator[str]:
        """What is there already."""
        ...

    def begin(self, file: int, path: Path) -> None:
        """Note an input."""
        ...

    def ended(self, file: int) -> dict[str, Any] | None:
        """What was noted of an input that is done."""
        ...

    def write(self, line: str) -> None:
        """Append a row."""
        ...

    def reach(self, place: Place, ended: dict[str, Any] | None = None) -> None:
        """Note that rows before a place are written."""
        ...


def run_scan(
    recordings: Sequence[Recording],
    rules: ScanRules,
    sink: Sink,
    text: RowText,
    *,
    on_segment: Callable[[Recording, Segment], None],
    on_progress: Callable[[int, Recording, float], None],
    on_row: Callable[[WindowRow], None] = lambda _: None,
) -> None:
    """Score all recordings, one after another, and write a row for each window.

    Args:
        recordings: In the order of the rows; they are filled in.
        rules: How.
        sink: Where rows go, and where to go on.
        text: Makes the lines of rows, and reads back what the sink has.
        on_segment: Called with each segment, in order, also of rows that were there before.
        on_progress: Called with the number of a recording, itself, and the seconds that are done.
        on_row: Called with each new row.

    Raises:
        OutputError: the sink cannot be written.
        UsageError: a recording has changed since the run that the sink holds.
    """

    def count(recording: Recording, row: WindowRow) -> None:
        if (segment := recording.count(row)) is not None:
            on_segment(recording, segment)

    def close(recording: Recording) -> None:
        if (segment := recording.close()) is not None:
            on_segment(recording, segment)

    number = 0
    for path, row in text.read(sink.lines()):
        while number < len(recordings) and str(recordings[number].path) != path:
            close(recordings[number])
            number += 1
        if number == len(recordings):
            raise UsageError(
                f"The rows that are there name {excerpt(str(path))}, which is not scanned.",
                fix="remove them and their journal, and begin anew",
            )
        count(recordings[number], row)
    begin = sink.place
    for number, recording in enumerate(recordings):
        noted = sink.ended(number)
        sink.begin(number, recording.path)
        if noted is not None:
            if recording.envelope is not None:
                _look_again(recording, rules)
            recording.take(noted)
            close(recording)
            continue
        start = begin if number == begin.file else Place(number)
        for rows, position_s in scan(recording, rules, start):
            for row in rows:
                sink.write(text.line(row, str(recording.path)))
                count(recording, row)
                on_row(row)
                if (place := place_after(row, number, rules.restart_every)) is not None:
                    sink.reach(place)
            on_progress(number, recording, position_s)
        close(recording)
        sink.reach(Place(number + 1), recording.noted())


def _look_again(recording: Recording, rules: ScanRules) -> None:
    """Decode a recording whose rows are there, for its picture alone."""
    with suppress(AudioError):  # it is one of the rows
        for item in file_blocks(recording.path, recording.heard, sample_rate_hz=rules.sample_rate):
            draw(recording.envelope, item)
