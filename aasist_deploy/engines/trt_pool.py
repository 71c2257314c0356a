"""A bounded pool of workers that threads take from, and that grows when they wait."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aasist_deploy.engines.cuda_memory import CudaMemoryLacks
from aasist_deploy.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aasist_deploy.engines.trt_worker import Worker

log = logging.getLogger(__name__)


class WorkerPool:
    """At most `limit` workers; the first is made at once, the others when a thread would wait.

    A further worker that does not fit in the GPU's memory is done without, with a warning: threads
    then wait for one another, which changes no score.

    Thread-safety: any number of threads may call everything.

    Args:
        make: Makes a worker; called by one thread at a time.
        limit: Most workers, at least 1.
    """

    def __init__(self, make: Callable[[], Worker], limit: int) -> None:
        self._make, self._limit = make, limit
        self._change = threading.Condition()
        self._making = threading.Lock()
        self._idle = [make()]
        self._made = 1
        self._open = True

    @contextmanager
    def taken(self) -> Iterator[Worker]:
        """A worker for this thread alone, given back at the end of the `with` block.

        Raises:
            ShapeError: the pool is closed.
        """
        worker = self._take()
        try:
            yield worker
        finally:
            with self._change:
                self._idle.append(worker)  # the last one used has the warmest state: it goes first
                self._change.notify()

    def close(self) -> list[Worker]:
        """Refuse new uses, wait for the running ones, and give all workers; again: none."""
        with self._change:
            self._open = False
            self._change.notify_all()
            while len(self._idle) < self._made:
                self._change.wait()
            workers, self._idle, self._made = self._idle, [], 0
            return workers

    def _take(self) -> Worker:
        with self._change:
            while True:
                if not self._open:
                    raise ShapeError("The engine is closed.", fix="open it again with open_engine")
                if self._idle:
                    return self._idle.pop()
                if self._made < self._limit:
                    self._made += 1
                    break
                self._change.wait()
        try:
            with self._making:
                return self._make()
        except BaseException as error:
            with self._change:
                self._made -= 1
                if isinstance(error, CudaMemoryLacks):
                    self._limit = self._made
                self._change.notify_all()
            if not isinstance(error, CudaMemoryLacks):
                raise
            log.warning("Threads share %d execution contexts: %s", self._limit, error)
        return self._take()
