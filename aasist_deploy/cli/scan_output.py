"""What `scan` writes beside its rows: segments, progress, the table, the result as JSON."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import stderr
from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.streaming.journal import Place
from aasist_deploy.streaming.output import window_format
from aasist_deploy.streaming.scan import warnings_of
from aasist_deploy.streaming.summary import EXTREMES, Segment, audacity_label
from aasist_deploy.textfile import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from aasist_deploy.cli.windows import WindowModel
    from aasist_deploy.streaming.rows import RowRules, WindowRow
    from aasist_deploy.streaming.scan import Recording

SCHEMA: Final = "aasist-deploy/scan/1"
MAX_PLOTTED: Final = 50  # recordings of one picture
_SEGMENT_COLUMNS: Final = ("path", *Segment.__slots__)


def check_outputs(
    output: Path | None,
    paths: list[Path],
    threshold: str | None,
    segments: Path | None,
    labels: Path | None,
    plot: Path | None,
    *,
    json_: bool,
    resume: bool,
) -> None:
    """Refuse what cannot be written, before hours of scoring.

    Raises:
        UsageError: options that do not go together.
    """
    if resume and output is None:
        raise UsageError("--resume goes on with a file of rows.", fix="name it with -o")
    if json_ and output is None:
        raise UsageError("Rows and --json would both go to stdout.", fix="name a file with -o")
    for option, place in (("--segments", segments), ("--labels", labels)):
        if place is not None and threshold is None:
            raise UsageError(f"{option} needs a threshold.", fix="--threshold 0")
    if segments is not None:
        window_format(segments)
    if labels is not None and len(paths) > 1:
        raise UsageError(
            f"--labels is of one recording; {len(paths)} were named.", fix="--segments FILE.csv"
        )
    if plot is not None and plot.suffix not in (".png", ".html"):
        raise UsageError(f"--plot {plot} does not say what it is.", fix="name it .png or .html")
    if plot is not None and len(paths) > MAX_PLOTTED:
        raise UsageError(
            f"--plot shows at most {MAX_PLOTTED} recordings; {len(paths)} were named.",
            fix="scan them in parts, or leave --plot out",
        )
    given = [place for place in (output, segments, labels, plot) if place is not None]
    for place in given:
        if not place.parent.is_dir():
            raise OutputError(f"{place.parent} is no folder.", fix="make it, or choose another")
        if any(place.exists() and place.samefile(path) for path in paths if path.exists()):
            raise UsageError(f"{place} is one of the recordings.", fix="choose another name")
    if len({place.absolute() for place in given}) < len(given):
        raise UsageError("Two outputs have the same name.", fix="give each a name of its own")


class StdoutSink:
    """Rows to stdout, from the beginning; a `Sink`."""

    place = Place()

    def lines(self) -> Iterator[str]:
        """Nothing: what was printed cannot be read back."""
        return iter(())

    def begin(self, file: int, path: Path) -> None:
        """Nothing to note."""

    def ended(self, file: int) -> None:  # noqa: ARG002
        """Nothing was noted."""
        return

    def write(self, line: str) -> None:
        """Print a row at once."""
        sys.stdout.write(visible(line) if sys.stdout.isatty() else line)
        sys.stdout.flush()

    def reach(self, place: Place, ended: dict[str, Any] | None = None) -> None:
        """Nothing to note."""


class SegmentFiles:
    """Segments to files as they are found; each file is begun anew.

    Args:
        segments: JSONL or CSV by its name, or None.
        labels: Audacity label file, or None.

    Raises:
        OutputError: a file cannot be written.
    """

    def __init__(self, segments: Path | None, labels: Path | None) -> None:
        self._segments, self._labels = _open(segments), _open(labels)
        self._is_csv = segments is not None and window_format(segments) == "csv"
        if self._segments is not None and self._is_csv:
            csv.writer(self._segments, lineterminator="\n").writerow(_SEGMENT_COLUMNS)

    def add(self, recording: Recording, segment: Segment) -> None:
        """Write one segment."""
        row = {"path": str(recording.path), **segment.to_dict()}
        if self._segments is not None:
            if self._is_csv:
                csv.writer(self._segments, lineterminator="\n").writerow(row.values())
            else:
                self._segments.write(json.dumps(row, allow_nan=False) + "\n")
        if self._labels is not None:
            self._labels.write(audacity_label(segment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._segments, self._labels):
            if file is not None:
                file.close()


def _open(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


class _Position(ProgressColumn):
    """Position and duration of the recording, and how many times faster than it is heard."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else clock(task.total)
        speed = f"  {task.speed:.0f}x" if task.speed else ""
        return Text(f"{clock(task.completed)} / {total}{speed}", style="cyan")


class ScanProgress:
    """A bar on stderr for the recording that is being scanned; errors are printed above it."""

    def __init__(self, paths: list[Path]) -> None:
        self._n_files = len(paths)
        self._number = -1
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Position(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
            redirect_stdout=sys.stdout.isatty(),  # rows that go to a file are none of rich's
        )

    def __enter__(self) -> Self:
        self._task = self._progress.add_task("scanning", total=None)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def at(self, number: int, recording: Recording, position_s: float) -> None:
        """Show how far a recording is scanned."""
        heard = recording.heard
        if number != self._number:
            self._number = number
            name = f"{recording.path.name} ({number + 1}/{self._n_files})"
            self._progress.reset(self._task, description=name)
        known = heard.n_frames is not None and heard.source_rate_hz
        total = (heard.n_frames or 0) / heard.source_rate_hz if known else None
        self._progress.update(self._task, completed=position_s, total=total)

    def row(self, row: WindowRow) -> None:
        """Print what could not be scored."""
        if row.error is not None:
            at = "" if row.start_s is None else f"{clock(row.start_s)} "
            style = "yellow" if row.is_gap else "red"
            stderr.print(f"{at}{row.error}", style=style, markup=False)


def scan_result(
    opened: WindowModel,
    rules: RowRules,
    recordings: list[Recording],
    output: Path | None,
    *,
    vad: bool,
) -> dict[str, Any]:
    """The result of a scan in plain JSON types."""
    rate = opened.contract.sample_rate_hz
    files = [recording.to_dict() for recording in recordings]
    return {
        "schema": SCHEMA,
        "output": None if output is None else str(output),
        "model": str(opened.path),
        "backend": opened.backend,
        "device": opened.device,
        "way": opened.way,
        "window_s": opened.window_samples / rate,
        "hop_s": opened.hop_samples / rate,
        "threshold": rules.threshold,
        "vad_min_speech": rules.min_speech if vad else None,
        "n_windows": sum(file["n_windows"] for file in files),
        "n_failed": sum(file["error"] is not None for file in files),
        "files": files,
    }


def show_table(result: dict[str, Any]) -> None:
    """Print the figures of each recording on stderr."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    for name in ("duration", "windows", "mean", "lowest", "at", f"{EXTREMES} lowest"):
        table.add_column(name, justify="right", no_wrap=True)
    if result["threshold"] is not None:
        table.add_column("spoof", justify="right", no_wrap=True)
    for file in result["files"]:
        cells = [
            str(file["path"]),
            clock(file["seconds"]),
            str(file["n_windows"]),
            *(_number(file[name]) for name in ("mean", "min")),
            "" if file["min_start_s"] is None else clock(file["min_start_s"]),
            _number(file[f"mean_of_{EXTREMES}_lowest"]),
        ]
        if result["threshold"] is not None:
            scored = file["n_scored"]
            cells.append(f"{file['n_spoof'] / scored:.1%}" if scored else "")
        table.add_row(*map(Text, cells))
    stderr.print(table)
    for file in result["files"]:
        for warning in warnings_of(file):
            stderr.print(f"{file['path']}: {warning}", style="yellow", markup=False)
    if result["n_failed"]:
        stderr.print(
            f"{result['n_failed']} of {len(result['files'])} recordings could not be scored whole.",
            markup=False,
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}"
