"""From the rows of a recording, one by one, to what a reader wants first: figures, segments."""

from __future__ import annotations

import heapq
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aasist_deploy.streaming.rows import Decision, WindowRow

EXTREMES: Final = 5  # windows whose mean stands for the worst and best of a recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Neighbouring windows on one side of the threshold, as one stretch of time.

    Windows overlap, so the end of a segment may lie behind the start of the next one: the windows
    in between hold both.

    Attributes:
        start_s: Where its first window starts.
        end_s: Where its last window ends.
        decision: What the threshold says of them.
        n_windows: How many they are.
        mean: Mean of their scores.
        min: Lowest of them.
        max: Highest of them.
    """

    start_s: float
    end_s: float
    decision: Decision
    n_windows: int
    mean: float
    min: float
    max: float

    def to_dict(self) -> dict[str, Any]:
        """The segment as plain JSON types."""
        return asdict(self)


class Segments:
    """Finds segments as rows come; a window without score, a gap and an error end one."""

    def __init__(self) -> None:
        self._open: Segment | None = None
        self._sum = 0.0

    def add(self, row: WindowRow) -> Segment | None:
        """Take the next row; return the segment that it ended."""
        held = self._open
        if row.score is None or row.decision is None or row.start_s is None or row.end_s is None:
            self._open = None
            return held
        score = row.score
        if held is not None and held.decision == row.decision:
            self._sum += score
            n_windows = held.n_windows + 1
            self._open = Segment(
                start_s=held.start_s,
                end_s=row.end_s,
                decision=held.decision,
                n_windows=n_windows,
                mean=self._sum / n_windows,
                min=min(held.min, score),
                max=max(held.max, score),
            )
            return None
        self._sum = score
        self._open = Segment(
            start_s=row.start_s,
            end_s=row.end_s,
            decision=row.decision,
            n_windows=1,
            mean=score,
            min=score,
            max=score,
        )
        return held

    def close(self) -> Segment | None:
        """Return the segment that the end of the recording ends."""
        held, self._open = self._open, None
        return held


@dataclass(slots=True)
class Aggregate:
    """Figures of one recording over its scored windows, kept in constant memory.

    Attributes:
        n_windows: Windows, scored or not.
        n_scored: Windows with a score.
        n_gated: Windows without one for their lack of speech.
        n_errors: Rows with an error: gaps, damage, windows without a finite score.
        n_spoof: Scored windows below the threshold; 0 without one.
        low: Lowest score and where its window starts.
        high: Highest score and where its window starts.
    """

    n_windows: int = 0
    n_scored: int = 0
    n_gated: int = 0
    n_errors: int = 0
    n_spoof: int = 0
    low: tuple[float, float | None] = (math.inf, None)
    high: tuple[float, float | None] = (-math.inf, None)
    _sum: float = 0.0
    _lowest: list[float] = field(default_factory=list)  # heaps, the lowest ones negated
    _highest: list[float] = field(default_factory=list)

    def add(self, row: WindowRow) -> None:
        """Count one row."""
        self.n_errors += row.error is not None
        self.n_gated += row.gated
        self.n_windows += row.score is not None or row.gated
        if row.score is None:
            return
        self.n_scored += 1
        self.n_spoof += row.decision == "spoof"
        self._sum += row.score
        if row.score < self.low[0]:
            self.low = (row.score, row.start_s)
        if row.score > self.high[0]:
            self.high = (row.score, row.start_s)
        _keep(self._lowest, -row.score)
        _keep(self._highest, row.score)

    def to_dict(self) -> dict[str, Any]:
        """The figures; each key of a score is the rule that made it, null without a score."""
        none = self.n_scored == 0
        return {
            "n_windows": self.n_windows,
            "n_scored": self.n_scored,
            "n_gated": self.n_gated,
            "n_errors": self.n_errors,
            "n_spoof": self.n_spoof,
            "mean": None if none else self._sum / self.n_scored,
            "min": None if none else self.low[0],
            "min_start_s": self.low[1],
            "max": None if none else self.high[0],
            "max_start_s": self.high[1],
            f"mean_of_{EXTREMES}_lowest": None
            if none
            else -math.fsum(self._lowest) / len(self._lowest),
            f"mean_of_{EXTREMES}_highest": None
            if none
            else math.fsum(self._highest) / len(self._highest),
        }


def _keep(heap: list[float], value: float) -> None:
    """Keep the largest values."""
    if len(heap) < EXTREMES:
        heapq.heappush(heap, value)
    else:
        heapq.heappushpop(heap, value)


def audacity_label(segment: Segment) -> str:
    """One line of an Audacity label track: start, end, text, with tabs between."""
    text = f"{segment.decision} {segment.mean:.2f}"
    return f"{segment.start_s:.6f}\t{segment.end_s:.6f}\t{text}\n"
