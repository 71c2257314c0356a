"""From the blocks and gaps of one stream to rows: a row for each window, and for what has none.

A window never spans a gap: the samples on both sides of it were not neighbours, and a score of them
would be a score of something nobody heard. So scoring starts anew after a gap, and the gap is a row
with its error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from aasist_deploy.audio import Gap
from aasist_deploy.calibration import p_spoof

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.calibration import Calibration
    from aasist_deploy.streaming.windows import WindowScore, WindowScorer

GAP_WORD: Final = "gap: "  # what the error of a gap begins with, and no other

Decision = Literal["bonafide", "spoof"]


class SpeechMeter(Protocol):
    """Says how much of a window is speech; `voice.VoiceActivity` is one."""

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the samples that the scorer takes next."""
        ...

    def speech(self, start: int, end: int) -> float:
        """Part of the samples from `start` to `end` that is speech; starts never go back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """One row: a window with its score, one that was gated, or a part that could not be scored.

    Attributes:
        start_s: Where it starts, in seconds of the stream; None when an error concerns all of it.
        end_s: Where it ends.
        score: As the contract defines it, or None.
        error: Why there is no score; None where there is one, and for a gated window.
        llr: Log-likelihood ratio in nats, when the model is calibrated and there is a score.
        p_spoof: Probability of spoof at a prior of 0.5, as `llr`.
        speech: Part of the window that is speech, in [0, 1], when voice activity is measured.
        decision: What the threshold makes of the score, when there are both.
        stretch: How many gaps were before it; a place to go on from.
        index: Which window of its stretch, from 0, or None where the row is no window.
        is_gap: Whether the row is a gap.
    """

    start_s: float | None
    end_s: float | None
    score: float | None = None
    error: str | None = None
    llr: float | None = None
    p_spoof: float | None = None
    speech: float | None = None
    decision: Decision | None = None
    stretch: int = 0
    index: int | None = None
    is_gap: bool = False

    @property
    def gated(self) -> bool:
        """Whether the window was left without a score for its lack of speech."""
        return self.score is None and self.error is None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """What becomes of a score.

    Attributes:
        calibration: Of the model, or None.
        threshold: Scores at or above it are decided for bona fide; None for no decision.
        min_speech: Windows with a smaller part of speech have no score.
    """

    calibration: Calibration | None = None
    threshold: float | None = None
    min_speech: float = 0.0


class StreamRows:
    """Rows of one stream as its samples come.

    Args:
        new_scorer: Makes a scorer for a stretch without gaps; is called with the stretch's number.
        rules: What becomes of a score.
        new_meter: Makes a voice activity meter for a stretch, or None.
    """

    def __init__(
        self,
        new_scorer: Callable[[int], WindowScorer],
        rules: RowRules,
        new_meter: Callable[[], SpeechMeter] | None = None,
    ) -> None:
        self._new_scorer, self._new_meter, self._rules = new_scorer, new_meter, rules
        self._stretch = 0
        self._offset_s = 0.0  # where the stretch starts
        self._is_tiled = False  # it ended shorter than a window, and has one all the same
        self._begin()

    def _begin(self) -> None:
        self._scorer = self._new_scorer(self._stretch)
        self._meter = self._new_meter() if self._new_meter else None
        self._n_pushed = 0

    @property
    def position_s(self) -> float:
        """Seconds of the stream until now, gaps included."""
        return self._offset_s + self._n_pushed / self._scorer.sample_rate

    @property
    def unscored_s(self) -> float:
        """Seconds at the end of the stretch that no window has reached."""
        scorer = self._scorer
        if self._is_tiled:
            return 0.0
        n_past = self._n_pushed - scorer.window_samples
        if n_past < 0:
            return self._n_pushed / scorer.sample_rate
        return (n_past % scorer.hop_samples) / scorer.sample_rate

    def push(self, item: NDArray[np.float32] | Gap) -> list[WindowRow]:
        """Take the next block, (n,) float32, or gap; return the rows that it completed."""
        if isinstance(item, Gap):
            return self._after_gap(item)
        if self._meter is not None:
            self._meter.push(item)
        self._n_pushed += len(item)
        return [self._row(score) for score in self._scorer.push(item)]

    def finish(self) -> list[WindowRow]:
        """End the stream; return the rows that were left.

        A stream shorter than a window is tiled as files are, and has a row; what follows the last
        gap and is shorter has one that says so.
        """
        if self._stretch and self._n_pushed < self._scorer.window_samples:
            return self._too_short()
        left = self._scorer.finish()
        self._is_tiled = bool(left) and self._n_pushed < self._scorer.window_samples
        return [self._row(score) for score in left]

    def _after_gap(self, gap: Gap) -> list[WindowRow]:
        short = self._n_pushed < self._scorer.window_samples
        rows = self._too_short() if short else [self._row(s) for s in self._scorer.finish()]
        start_s = self.position_s
        end_s = start_s + (gap.seconds or 0.0)
        lost = "an unknown time" if gap.seconds is None else f"{gap.seconds:.3f} s"
        rows.append(
            WindowRow(
                start_s=start_s,
                end_s=end_s,
                error=f"{GAP_WORD}{gap.reason}; {lost} is missing",
                stretch=self._stretch,
                is_gap=True,
            )
        )
        self._stretch += 1
        self._offset_s = end_s
        self._begin()
        return rows

    def _too_short(self) -> list[WindowRow]:
        """A row for a stretch beside a gap that holds no window; tiling it would hide the gap."""
        if not self._n_pushed:
            return []
        window_s = self._scorer.window_samples / self._scorer.sample_rate
        seconds = self._n_pushed / self._scorer.sample_rate
        return [
            WindowRow(
                start_s=self._offset_s,
                end_s=self.position_s,
                error=f"{seconds:.3f} s beside a gap are shorter than a window of {window_s:.3f} s",
                stretch=self._stretch,
            )
        ]

    def _row(self, window: WindowScore) -> WindowRow:
        rules = self._rules
        start_s, end_s = window.start_s + self._offset_s, window.end_s + self._offset_s
        speech: float | None = None
        if self._meter is not None:
            rate = self._scorer.sample_rate
            speech = self._meter.speech(round(window.start_s * rate), round(window.end_s * rate))
        gated = speech is not None and speech < rules.min_speech
        finite = math.isfinite(window.score)
        score = window.score if finite and not gated else None
        llr = (
            float(rules.calibration.llr(score))
            if score is not None and rules.calibration is not None
            else None
        )
        return WindowRow(
            start_s=start_s,
            end_s=end_s,
            score=score,
            error=None if finite or gated else f"the model's score is {window.score}",
            llr=llr,
            p_spoof=None if llr is None else float(p_spoof(llr)),
            speech=speech,
            decision=decision(score, rules.threshold),
            stretch=self._stretch,
            index=window.index,
        )


def decision(score: float | None, threshold: float | None) -> Decision | None:
    """What a threshold makes of a score; None where one of them is missing."""
    if score is None or threshold is None:
        return None
    return "bonafide" if score >= threshold else "spoof"
