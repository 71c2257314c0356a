"""Many live streams on one model: calls that are due at the same time become one call.

A call of eight streams costs less than eight calls (docs/streaming.md has the figures). Two ways to
have that: `push_all` for a program that serves its streams in one loop, `StreamBatcher` for one
that has a thread for each.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract, StreamContract
    from aasist_deploy.streaming.shared_frames import Call, StreamModel, StreamScorer
    from aasist_deploy.streaming.windows import WindowScore

# More gains nothing on two cores, and the first stream of a batch waits for the last.
DEFAULT_BATCH: Final = 8


def push_all(
    pushes: Sequence[tuple[StreamScorer, NDArray[np.float32]]], *, max_batch: int = DEFAULT_BATCH
) -> list[list[WindowScore]]:
    """Push to several streams of one model and run what is due in batches.

    Args:
        pushes: Streams, each at most once, and what arrived on it; none of them may be in use by
            another thread meanwhile.
        max_batch: Streams of one call.

    Returns:
        The windows that each push completed, in the order of `pushes`.

    Raises:
        ShapeError: samples of another type or shape, NaN or infinity, or a stream that has ended;
            nothing was taken from any of them then.
        UsageError: streams of different models, or one of them twice.
    """
    _check_batch(max_batch)
    scorers = [scorer for scorer, _ in pushes]
    if len({id(scorer) for scorer in scorers}) < len(scorers):
        raise UsageError("A stream is pushed to twice at once.", fix="put its samples together")
    if len({id(scorer.model) for scorer in scorers}) > 1:
        raise UsageError("Streams of different models cannot be batched together.")
    for scorer, samples in pushes:
        scorer.queue.check(samples)
    for scorer, samples in pushes:
        scorer.queue.feed(samples)
    found: list[list[WindowScore]] = [[] for _ in pushes]
    while True:
        due = [(i, call) for i, s in enumerate(scorers) if (call := s.queue.next_call())]
        if not due:
            return found
        for group in _groups(due, max_batch):
            scores, states = scorers[0].model.step(
                np.stack([call.samples for _, call in group]),
                np.stack([call.state for _, call in group]),
            )
            for row, (i, call) in enumerate(group):
                window = scorers[i].queue.done(call, float(scores[row]), states[row].copy())
                if window is not None:
                    found[i].append(window)


def _groups(due: Iterable[tuple[int, Call]], max_batch: int) -> Iterable[list[tuple[int, Call]]]:
    by_length: dict[int, list[tuple[int, Call]]] = {}
    for i, call in due:
        by_length.setdefault(len(call.samples), []).append((i, call))
    for group in by_length.values():
        for start in range(0, len(group), max_batch):
            yield group[start : start + max_batch]


class _Job:
    """One call that a thread waits for."""

    def __init__(self, samples: NDArray[np.float32], states: NDArray[np.float32]) -> None:
        self.samples, self.states = samples, states
        self.result: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


class StreamBatcher:
    """A model for streams that puts the calls of several threads into one.

    It is used in place of the model: `StreamScorer(batcher, hop_frames)`. Whoever finds it idle
    runs what is waiting; what arrives meanwhile waits for the next call, so that nothing waits for
    a batch to fill. Any number of threads may use it.

    Args:
        model: The model for streams.
        max_batch: Streams of one call.

    Raises:
        UsageError: `max_batch` is below 1.
    """

    def __init__(self, model: StreamModel, max_batch: int = DEFAULT_BATCH) -> None:
        _check_batch(max_batch)
        self.contract: ModelContract = model.contract
        self.layout: StreamContract = model.layout
        self.batches: dict[int, int] = {}  # streams of a call -> how many calls
        self._model, self._max_batch = model, max_batch
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []
        self._busy = False

    def prepare(self, n_frames: Iterable[int]) -> None:
        """As `StreamStep.prepare`: a call may be of one stream here, too."""
        self._model.prepare(n_frames)

    def step(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `StreamStep.step`, perhaps together with calls of other threads."""
        job = _Job(samples, states)
        with self._changed:
            self._jobs.append(job)
        while True:
            with self._changed:
                while self._busy and not job.is_done:
                    self._changed.wait()
                if job.is_done:
                    break
                self._busy = True
                taken = self._take()
            try:
                self._run(taken)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def _take(self) -> list[_Job]:
        """The oldest call, and those behind it that have as many frames."""
        taken: list[_Job] = []
        n_streams = 0
        for job in self._jobs:
            fits = job.samples.shape[1:] == self._jobs[0].samples.shape[1:]
            if fits and (not taken or n_streams + len(job.samples) <= self._max_batch):
                taken.append(job)
                n_streams += len(job.samples)
        self._jobs = [job for job in self._jobs if job not in taken]
        self.batches[n_streams] = self.batches.get(n_streams, 0) + 1
        return taken

    def _run(self, jobs: list[_Job]) -> None:
        try:
            scores, states = self._model.step(
                np.concatenate([job.samples for job in jobs]),
                np.concatenate([job.states for job in jobs]),
            )
        except BaseException as error:  # noqa: BLE001  # every thread must be told, whatever it is
            for job in jobs:
                job.error = error
            return
        start = 0
        for job in jobs:
            end = start + len(job.samples)
            job.result = scores[start:end].copy(), states[start:end].copy()
            start = end


def _check_batch(max_batch: int) -> None:
    if max_batch < 1:
        raise UsageError(f"The largest batch is {max_batch}; it must be at least 1.")
