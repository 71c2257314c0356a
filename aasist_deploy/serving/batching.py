"""Windows of many requests in one call of the engine.

One thread owns the engine. It takes what waits, up to the largest batch; where the engine was idle
it waits a moment for company first. What arrives while a batch is computed is in the next one, so
under load batches are full and nobody waits for one to fill.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasist_deploy.engines import Engine

log = logging.getLogger(__name__)


class AbandonedError(Exception):
    """Nobody waits for the scores any more, or the batcher has ended."""


class Waiting(Protocol):
    """Who waits for scores."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more: their windows need not be computed."""
        ...


class Watcher(Protocol):
    """Who is told of batches."""

    def batch_done(self, n_windows: int, seconds: float) -> None:
        """A call of the engine with so many windows took so long."""
        ...


class _Entry:
    """A few windows of one file, and their scores when they are there."""

    def __init__(self, waves: NDArray[np.float32], owner: Waiting) -> None:
        self.waves, self.owner = waves, owner
        self.done = threading.Event()
        self.scores: NDArray[np.float32] | None = None
        self.error: BaseException | None = None


class DynamicBatcher:
    """Scores windows of many threads in common batches.

    Args:
        engine: Opened model; only the batcher's thread calls it.
        max_batch: Most windows of one call.
        max_wait_s: How long a window waits for others when the engine is idle.
        watcher: Is told of every call.

    Raises:
        UsageError: a batch below 1, or a wait below 0.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int,
        max_wait_s: float,
        watcher: Watcher | None = None,
    ) -> None:
        if max_batch < 1 or not 0 <= max_wait_s <= 1:
            raise UsageError(
                f"The largest batch is {max_batch} and the wait {max_wait_s:g} s; they must be at "
                "least 1, and from 0 to 1."
            )
        self._engine, self._watcher = engine, watcher
        self._max_batch, self._max_wait_s = max_batch, max_wait_s
        self._changed = threading.Condition()
        self._entries: deque[_Entry] = deque()
        self._closed = False
        self._call_began: float | None = None
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Windows that wait for a batch."""
        with self._changed:
            return sum(len(entry.waves) for entry in self._entries)

    @property
    def call_s(self) -> float:
        """How long the engine's present call has been taking; 0 when there is none."""
        began = self._call_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread that scores."""
        return self._thread.is_alive()

    def score(self, waves: NDArray[np.float32], owner: Waiting) -> NDArray[np.float32]:
        """Score windows, together with those of others.

        Args:
            waves: (B, N) float32 that fit the model; B at most the largest batch.
            owner: Who waits.

        Returns:
            (B,) float32, a fresh array.

        Raises:
            AbandonedError: the owner waits no more, or the batcher is closed.
            Exception: what the engine raises for these windows alone.
        """
        entry = _Entry(waves, owner)
        with self._changed:
            if self._closed:
                raise AbandonedError("the server is shutting down")
            self._entries.append(entry)
            self._changed.notify_all()
        while not entry.done.wait(0.1):
            if owner.abandoned:
                raise AbandonedError("nobody waits for this file any more")
        if entry.error is not None:
            raise entry.error
        assert entry.scores is not None
        return entry.scores

    def close(self) -> None:
        """Refuse what waits and end the thread; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _serve(self) -> None:
        while taken := self._take():
            self._run(taken)
        with self._changed:
            left, self._entries = list(self._entries), deque()
        for entry in left:
            entry.error = AbandonedError("the server is shutting down")
            entry.done.set()

    def _take(self) -> list[_Entry]:
        """The next batch, or nothing when the batcher is closed."""
        with self._changed:
            while not self._closed:
                if not self._entries:
                    self._changed.wait()
                    # Idle until now: wait for company.
                    self._changed.wait_for(self._is_full_or_closed, self._max_wait_s)
                    continue
                if taken := self._next_batch():
                    return taken
        return []

    def _is_full_or_closed(self) -> bool:
        return self._closed or sum(len(e.waves) for e in self._entries) >= self._max_batch

    def _next_batch(self) -> list[_Entry]:
        """The oldest windows, and those behind them that are as long and still fit in."""
        taken: list[_Entry] = []
        kept: deque[_Entry] = deque()
        n_windows = 0
        for entry in self._entries:
            if entry.owner.abandoned:
                entry.error = AbandonedError("nobody waits for this file any more")
                entry.done.set()
                continue
            fits = not taken or (
                entry.waves.shape[1] == taken[0].waves.shape[1]
                and n_windows + len(entry.waves) <= self._max_batch
            )
            if fits:
                taken.append(entry)
                n_windows += len(entry.waves)
            else:
                kept.append(entry)
        self._entries = kept
        return taken

    def _run(self, entries: list[_Entry]) -> None:
        try:
            waves = [entry.waves for entry in entries]
            scores = self._timed(waves[0] if len(waves) == 1 else np.concatenate(waves))
        except BaseException as error:  # noqa: BLE001  # every thread must be told, whatever it is
            if len(entries) > 1:  # one request's windows must not cost the others theirs
                log.warning(
                    "a batch of %d requests failed (%s); each is tried alone", len(entries), error
                )
                for entry in entries:
                    self._run([entry])
                return
            entries[0].error = error
            entries[0].done.set()
            return
        start = 0
        for entry in entries:
            end = start + len(entry.waves)
            entry.scores = scores[start:end].copy()
            entry.done.set()
            start = end

    def _timed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        self._call_began = began = time.monotonic()
        try:
            scores = self._engine.score(waves)
        finally:
            self._call_began = None
        if self._watcher is not None:
            self._watcher.batch_done(len(waves), time.monotonic() - began)
        return scores
