"""What a person watches while a stream is scored: score, history, level, gaps, on a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from rich.live import Live
from rich.text import Text

from aasist_deploy.cli.common import stderr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from aasist_deploy.audio import Heard
    from aasist_deploy.streaming.rows import WindowRow

HISTORY: Final = 60  # scores that are shown
_REFRESH_S: Final = 0.1
_BARS: Final = "▁▂▃▄▅▆▇█"
_METER: Final = 30  # cells, 2 dB each
_FLOOR_DBFS: Final = -60.0
_FULL_SCALE: Final = 0.999  # a peak at or above it is called clipped


class LiveView:
    """Four lines on stderr that follow a stream; nothing at all where stderr is no terminal.

    Args:
        heard: Of the source, kept up to date by it.
        threshold: Scores below it are shown as spoof.
        enabled: Whether it is shown on a terminal.
    """

    def __init__(self, heard: Heard, threshold: float | None, *, enabled: bool = True) -> None:
        self._heard, self._threshold = heard, threshold
        self._scores: deque[float] = deque(maxlen=HISTORY)
        self._last: WindowRow | None = None
        self._n_windows = self._n_gaps = 0
        self._gap = ""
        self._drawn = 0.0
        self._live = (
            Live(
                console=stderr,
                auto_refresh=False,
                transient=True,
                # rich would print on stderr what goes to stdout; only between its own pictures on
                # one terminal is that what anybody wants.
                redirect_stdout=sys.stdout.isatty(),
            )
            if enabled and stderr.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, position_s: float, rows: Sequence[WindowRow]) -> None:
        """Take the rows of a block; draw, if the last picture is a tenth of a second old."""
        for row in rows:
            if row.index is None and row.error is not None:
                self._n_gaps += row.is_gap
                self._gap = f"{_clock(row.start_s or 0)} {row.error}"
            else:
                self._n_windows += 1
                self._last = row
                if row.score is not None:
                    self._scores.append(row.score)
        now = time.monotonic()
        if self._live is not None and (rows or now - self._drawn >= _REFRESH_S):
            self._drawn = now
            self._live.update(self.picture(position_s), refresh=True)

    def picture(self, position_s: float) -> Text:
        """The lines as they are now."""
        lines = [self._score_line(position_s), self._history_line(), self._level_line()]
        counts = f"        {self._n_windows} windows, {self._n_gaps} gaps"
        lines.append(Text(f"{counts}; last: {self._gap}" if self._gap else counts, style="dim"))
        return Text("\n").join(lines)

    def _score_line(self, position_s: float) -> Text:
        row, clock = self._last, f"{_clock(position_s)}  "
        if row is None:
            return Text(f"{clock}waiting for the first window", style="dim")
        if row.score is None:
            reason = "not enough speech" if row.gated else row.error
            return Text(f"{clock}no score: {reason}")
        line = Text(clock).append(f"score {row.score:+8.3f}", style="bold")
        if row.decision is not None:
            style = "bold red" if row.decision == "spoof" else "bold green"
            line.append(f"  {row.decision}", style=style)
        if row.p_spoof is not None:
            line.append(f"  P(spoof) {row.p_spoof:.3f}")
        if row.speech is not None:
            line.append(f"  speech {row.speech:.0%}")
        return line

    def _history_line(self) -> Text:
        if not self._scores:
            return Text("history", style="dim")
        low, high = min(self._scores), max(self._scores)
        line = Text("history ")
        for score in self._scores:
            spoof = self._threshold is not None and score < self._threshold
            line.append(_bar(score, low, high), style="red" if spoof else "green")
        return line.append(f"  {low:+.2f} to {high:+.2f}", style="dim")

    def _level_line(self) -> Text:
        peak = self._heard.peak
        dbfs = 20 * float(np.log10(peak)) if peak > 0 else -np.inf
        cells = round(_METER * (1 - max(dbfs, _FLOOR_DBFS) / _FLOOR_DBFS))
        cells = min(_METER, max(0, cells))
        clipped = peak >= _FULL_SCALE
        line = Text("level   ")
        line.append("█" * cells, style="red" if clipped else "cyan")
        line.append("░" * (_METER - cells), style="dim")
        line.append(f" {dbfs:6.1f} dBFS" if peak > 0 else " silence")
        return line.append("  clipped", style="bold red") if clipped else line


def _bar(score: float, low: float, high: float) -> str:
    part = (score - low) / (high - low) if high > low else 0.5
    return _BARS[min(len(_BARS) - 1, int(part * len(_BARS)))]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"
