"""Long recordings, one after another: rows as they come, and places from which to go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.audio import Gap, Heard, file_blocks
from aasist_deploy.errors import AudioError
from aasist_deploy.streaming.journal import Place
from aasist_deploy.streaming.restarts import RestartingScorer
from aasist_deploy.streaming.rows import GAP_WORD, RowRules, StreamRows, WindowRow
from aasist_deploy.streaming.summary import Aggregate, Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from aasist_deploy.audio import Item
    from aasist_deploy.streaming.envelope import Envelope, ScoreCourse
    from aasist_deploy.streaming.rows import SpeechMeter
    from aasist_deploy.streaming.summary import Segment
    from aasist_deploy.streaming.windows import WindowScorer

MAX_KEPT_SEGMENTS: Final = 100
CLIPPED_PART: Final = 1e-3  # a normalised recording has one sample in thousands at full scale
_SKIP_ALL: Final = 1 << 62  # windows; no stretch has as many
_HEARD: Final = (
    "source_rate_hz",
    "source_channels",
    "decoder",
    "note",
    "n_read",
    "n_clipped",
    "n_zero",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRules:
    """How a recording is scanned.

    Attributes:
        new_scorer: Makes a scorer.
        new_meter: Makes a voice activity meter, or None.
        rows: What becomes of a score.
        sample_rate: Of the model.
        chunk_samples: What is pushed into a scorer at once.
        restart_every: Windows after which scoring begins anew; places to go on from lie there.
    """

    new_scorer: Callable[[], WindowScorer]
    new_meter: Callable[[], SpeechMeter] | None
    rows: RowRules
    sample_rate: int
    chunk_samples: int
    restart_every: int


@dataclass(slots=True)
class Recording:
    """One recording while it is scanned, and what is known of it afterwards.

    Attributes:
        path: The file.
        heard: What decoding it told.
        seconds: Its duration, gaps included.
        unscored_s: Seconds at its end that are in no window of their own.
        aggregate: Figures over its rows.
        envelope: Of its wave, when a picture is wanted.
        course: Of its scores, likewise.
        error: Why a part of it, or all, could not be scored, the first of such; a gap is none.
        spoof_segments: The first of its segments below the threshold, as many as a page shows.
        n_spoof_segments: How many it has.
    """

    path: Path
    heard: Heard = field(default_factory=Heard)
    seconds: float = 0.0
    unscored_s: float = 0.0
    aggregate: Aggregate = field(default_factory=Aggregate)
    envelope: Envelope | None = None
    course: ScoreCourse | None = None
    error: str | None = None
    spoof_segments: list[Segment] = field(default_factory=list)
    n_spoof_segments: int = 0
    _segments: Segments = field(default_factory=Segments)

    def count(self, row: WindowRow) -> Segment | None:
        """Take a row of this recording, computed or read back; return the segment it ended."""
        if row.error is not None and not row.error.startswith(GAP_WORD):
            self.error = self.error or row.error
        self.aggregate.add(row)
        if self.course is not None:
            self.course.add(row)
        return self._kept(self._segments.add(row))

    def close(self) -> Segment | None:
        """Return the segment that the end of the recording ends."""
        return self._kept(self._segments.close())

    def _kept(self, segment: Segment | None) -> Segment | None:
        if segment is not None and segment.decision == "spoof":
            self.n_spoof_segments += 1
            if len(self.spoof_segments) < MAX_KEPT_SEGMENTS:
                self.spoof_segments.append(segment)
        return segment

    def noted(self) -> dict[str, Any]:
        """What a journal keeps of it, so that it need not be decoded again."""
        heard = {name: getattr(self.heard, name) for name in _HEARD}
        return {"seconds": self.seconds, "unscored_s": self.unscored_s, **heard}

    def take(self, noted: dict[str, Any]) -> None:
        """Take over what a journal kept of it."""
        self.seconds, self.unscored_s = noted["seconds"], noted["unscored_s"]
        for name in _HEARD:
            setattr(self.heard, name, noted[name])

    def to_dict(self) -> dict[str, Any]:
        """Figures of the recording in plain JSON types."""
        heard = self.heard
        return {
            "path": str(self.path),
            "seconds": self.seconds,
            "unscored_s": self.unscored_s,
            "error": self.error,
            **self.aggregate.to_dict(),
            "source_rate_hz": heard.source_rate_hz or None,
            "source_channels": heard.source_channels or None,
            "clipped_part": _part(heard.n_clipped, heard),
            "zero_part": _part(heard.n_zero, heard),
            "note": heard.note,
        }


def scan(
    recording: Recording, rules: ScanRules, start: Place
) -> Iterator[tuple[list[WindowRow], float]]:
    """Score a recording from a place on.

    What is computed does not depend on the place: scoring begins anew at the same windows in any
    case. The recording is decoded from its start, so that its envelope and voice activity are
    whole.

    Args:
        recording: Is filled in, but for its rows, which the caller counts.
        rules: How.
        start: Where to go on, in this file; rows before it are not given.

    Returns:
        An iterator over what each block gave: rows, perhaps none, and the position in seconds. A
        file that cannot be decoded, or not to its end, has a last row with the error.
    """

    def new_scorer(stretch: int) -> WindowScorer:
        skip = 0 if stretch > start.stretch else start.window
        return RestartingScorer(
            rules.new_scorer,
            every=rules.restart_every,
            chunk_samples=rules.chunk_samples,
            skip=_SKIP_ALL if stretch < start.stretch else skip,
        )

    rows = StreamRows(new_scorer, rules.rows, rules.new_meter)
    try:
        for item in file_blocks(recording.path, recording.heard, sample_rate_hz=rules.sample_rate):
            draw(recording.envelope, item)
            yield _from(rows.push(item), start), rows.position_s
    except AudioError as error:
        begun = recording.heard.n_read > 0
        if begun:
            yield _from(rows.finish(), start), rows.position_s
        where = rows.position_s if begun else None
        yield [WindowRow(start_s=where, end_s=None, error=str(error))], rows.position_s
    else:
        yield _from(rows.finish(), start), rows.position_s
    recording.seconds = rows.position_s
    recording.unscored_s = rows.unscored_s


def _from(rows: list[WindowRow], start: Place) -> list[WindowRow]:
    return [row for row in rows if row.stretch >= start.stretch]


def draw(envelope: Envelope | None, item: Item) -> None:
    """Add a block or gap to an envelope, if there is one."""
    if envelope is None:
        return
    if isinstance(item, Gap):
        envelope.skip(item.seconds or 0.0)
    else:
        envelope.add(item)


def place_after(row: WindowRow, file: int, restart_every: int) -> Place | None:
    """The place that a written row reaches, or None where scoring does not begin anew behind it."""
    if row.is_gap:
        return Place(file, row.stretch + 1, 0)
    if row.index is not None and (row.index + 1) % restart_every == 0:
        return Place(file, row.stretch, row.index + 1)
    return None


def level_warnings(heard: Heard) -> list[str]:
    """What a listener should know of the level of the samples so far."""
    return _level_warnings(_part(heard.n_clipped, heard), _part(heard.n_zero, heard))


def warnings_of(figures: Mapping[str, Any]) -> list[str]:
    """What a reader of the scores of a recording should know, from `Recording.to_dict`."""
    found = [] if figures["error"] is None else [f"not scored whole: {figures['error']}"]
    found += _level_warnings(figures["clipped_part"], figures["zero_part"])
    if figures["n_gated"]:
        found.append(f"{figures['n_gated']} windows have too little speech, and no score")
    if figures["note"]:
        found.append(figures["note"])
    return found


def _level_warnings(clipped: float | None, zero: float | None) -> list[str]:
    found = []
    if clipped is not None and clipped >= CLIPPED_PART:
        found.append(f"clipped: {clipped:.2%} of the samples are at full scale")
    if zero == 1:
        found.append("all samples are zero: there was nothing to score")
    return found


def _part(n_samples: int, heard: Heard) -> float | None:
    return n_samples / heard.n_read if heard.n_read else None
