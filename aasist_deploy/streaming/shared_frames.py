"""Windows that share what they have in common: each frame of a stream is computed once.

`StreamScorer` is the `WindowScorer` of a model for streams. What it asks of the model, and when, is
a `FrameQueue`: bookkeeping without a runtime, which `StreamBatcher` asks for the calls of many
streams at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.streaming.each_window import window_score
from aasist_deploy.streaming.windows import WindowScore, check_samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract, StreamContract

# A call of more frames costs less for each: 9.9 ms for one, 7.0 for each of four and 6.4 of sixteen
# (AASIST, ONNX Runtime, two cores); but the score at its end waits for all of them. Four keep that
# below 30 ms. benchmarks/stream_cpu.py measures it.
MAX_FRAMES_PER_CALL: Final = 4
# Where nobody waits for a single score: a recording.
FRAMES_PER_CALL_OF_RECORDINGS: Final = 16


class StreamModel(Protocol):
    """What scorers need of a model for streams (`aasist_deploy.engines.parts.StreamStep`)."""

    contract: ModelContract
    layout: StreamContract

    def step(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, F * frame_samples), (B, state_size) -> (B,) scores, (B, state_size)."""
        ...

    def prepare(self, n_frames: Iterable[int]) -> None:
        """Get ready for calls of one stream of so many frames."""
        ...


@dataclass(slots=True, eq=False)
class Call:
    """One call that a stream asks for.

    Attributes:
        samples: (F * frame_samples,) float32.
        state: (state_size,) float32.
    """

    samples: NDArray[np.float32]
    state: NDArray[np.float32]


class FrameQueue:
    """The samples of one stream that wait, and the calls that they make.

    How samples are cut into calls follows from the hop and `frames_per_call` alone, so that scores
    are the same to the last bit whatever is pushed at once.

    Args:
        contract: Of the model for streams.
        hop_frames: Frames from the start of one window to the start of the next, at least 1.
        frames_per_call: Most frames of one call, at least 1; the model may set a lower limit.

    Raises:
        UsageError: the hop or the frames of a call are out of range.
    """

    def __init__(
        self,
        contract: ModelContract,
        hop_frames: int,
        frames_per_call: int = MAX_FRAMES_PER_CALL,
    ) -> None:
        assert contract.stream is not None
        self._layout = layout = contract.stream
        if hop_frames < 1:
            raise UsageError(f"The hop is {hop_frames} frames; it must be at least 1.")
        if frames_per_call < 1:
            raise UsageError(f"A call has {frames_per_call} frames; it must have at least 1.")
        self._frames_per_call = min(frames_per_call, layout.max_frames)
        self.hop_samples = hop_frames * layout.frame_samples
        self._rate, self._hop_frames = contract.sample_rate_hz, hop_frames
        self._state = np.zeros(layout.state_size, np.float32)
        self._waiting: list[NDArray[np.float32]] = [np.zeros(layout.lead_samples, np.float32)]
        self._n_waiting = layout.lead_samples
        self._start: list[NDArray[np.float32]] = []  # of the stream, until a window is complete
        self._n_samples = 0
        self._to_end = (layout.window_samples + layout.lead_samples) // layout.frame_samples
        self._index = 0
        self._finished = False

    @property
    def call_lengths(self) -> list[int]:
        """Frames of every call that a stream can ask for, rising; three lengths at most."""
        layout, most = self._layout, self._frames_per_call
        first = (layout.window_samples + layout.lead_samples) // layout.frame_samples
        lengths: set[int] = set()
        for n_frames in (first, self._hop_frames):
            whole, rest = divmod(n_frames, most)
            lengths |= {most} if whole else set()
            lengths |= {rest} if rest else set()
        return sorted(lengths)

    @property
    def n_held(self) -> int:
        """Numbers that are held: samples that wait, the start of the stream, and the state."""
        return self._n_waiting + sum(map(len, self._start)) + len(self._state)

    def check(self, samples: NDArray[np.float32]) -> None:
        """Refuse what `feed` would refuse.

        Raises:
            ShapeError: another type or shape, NaN or infinity, or the stream has ended.
        """
        check_samples(samples, ended=self._finished)
        if not np.isfinite(samples).all():
            bad = int(np.count_nonzero(~np.isfinite(samples)))
            raise ShapeError(f"The samples hold {bad} that are NaN or infinite.")

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take (n,) float32 samples in [-1, 1], any n >= 0.

        Raises:
            ShapeError: as `check`; nothing is taken then.
        """
        self.check(samples)
        if len(samples):
            samples = samples.copy()  # the caller may use the memory again
            self._waiting.append(samples)
            self._n_waiting += len(samples)
            self._n_samples += len(samples)
            if self._n_samples < self._layout.window_samples:
                self._start.append(samples)
            else:
                self._start = []

    def end(self) -> None:
        """End the stream; one that is shorter than a window is tiled to one, as files are."""
        if self._finished:
            return
        self._finished = True
        if self._start:
            layout = self._layout
            wave = fit_length(np.concatenate(self._start), layout.window_samples)
            lead = np.zeros(layout.lead_samples, np.float32)
            self._state = np.zeros(layout.state_size, np.float32)
            self._waiting, self._n_waiting = [lead, wave], len(lead) + len(wave)
            self._to_end = (len(lead) + len(wave)) // layout.frame_samples
            self._start = []

    def next_call(self) -> Call | None:
        """The call that is due, or None when more samples are needed."""
        n_frames = min(self._to_end, self._frames_per_call)
        n_samples = n_frames * self._layout.frame_samples
        if self._n_waiting < n_samples:
            return None
        if len(self._waiting) > 1:
            self._waiting = [np.concatenate(self._waiting)]
        return Call(self._waiting[0][:n_samples], self._state)

    def done(self, call: Call, score: float, state: NDArray[np.float32]) -> WindowScore | None:
        """Take the result of the call that was due; give the window that it completed, if any."""
        n_samples = len(call.samples)
        self._waiting = [self._waiting[0][n_samples:]]
        self._n_waiting -= n_samples
        self._state = state
        self._to_end -= n_samples // self._layout.frame_samples
        if self._to_end:
            return None
        self._to_end = self._hop_frames
        index, self._index = self._index, self._index + 1
        window = self._layout.window_samples
        if self._n_samples < window:
            return WindowScore(index, 0.0, self._n_samples / self._rate, score)
        return window_score(index, score, self.hop_samples, window, self._rate)


class StreamScorer:
    """Scores the windows of one stream, computing what they share once; a `WindowScorer`.

    A score is there when the last sample of its window has been pushed: the call that takes it
    gives it. Making a scorer prepares the model for the calls that it will ask for, so that the
    first of them takes no longer than others: in OpenVINO a second or two for each length, once
    for a model that is open. Pushes of several threads are taken one after another; the model may
    be shared. Memory is bounded by a window and what is pushed at once (`FrameQueue.n_held`).

    Args:
        model: The model for streams.
        hop_frames: Frames from the start of one window to the start of the next, at least 1; a
            frame is `model.layout.frame_samples`, 2,187 samples (137 ms) of AASIST.
        frames_per_call: Most frames of one call, at least 1. More cost less each where the hop is
            as long; the score at a call's end waits for the whole call.

    Raises:
        UsageError: the hop or the frames of a call are out of range.
    """

    def __init__(
        self,
        model: StreamModel,
        hop_frames: int = 1,
        frames_per_call: int = MAX_FRAMES_PER_CALL,
    ) -> None:
        self.sample_rate = model.contract.sample_rate_hz
        self.window_samples = model.layout.window_samples
        self.queue = FrameQueue(model.contract, hop_frames, frames_per_call)
        self.hop_samples = self.queue.hop_samples
        self.model = model
        model.prepare(self.queue.call_lengths)
        self._lock = threading.Lock()

    def push(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        """Take (n,) float32 samples in [-1, 1], any n >= 0; return the windows they completed.

        Raises:
            ShapeError: another type or shape, NaN or infinity, or the stream has ended.
        """
        with self._lock:
            self.queue.feed(samples)
            return self._run()

    def finish(self) -> list[WindowScore]:
        """End the stream; a second call does nothing.

        Returns:
            The one window of a stream that was shorter than a window, tiled as files are; otherwise
            nothing.
        """
        with self._lock:
            self.queue.end()
            return self._run()

    def _run(self) -> list[WindowScore]:
        found = []
        while (call := self.queue.next_call()) is not None:
            scores, states = self.model.step(call.samples[None], call.state[None])
            window = self.queue.done(call, float(scores[0]), states[0])
            if window is not None:
                found.append(window)
        return found
