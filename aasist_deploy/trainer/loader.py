"""Batches made by worker processes, in order, epoch after epoch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from aasist_deploy.errors import AasistDeployError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Workers are started from a process without threads: forking one that runs CUDA or OpenMP hangs.
START_METHOD: Final = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
PREFETCH_BATCHES: Final = 2  # of each worker
# Imported once and then forked: 4 workers start in 3 s, not in 14 (two busy cores).
_PRELOADED: Final = "aasist_deploy.trainer.data"
_DEAD_WORKER: Final = "DataLoader worker (pid"  # how PyTorch begins the message


class Batch(NamedTuple):
    """Windows of one step.

    waves: (b, n_samples) float32. labels: (b,) int64, 1 bona fide. indices: (b,) int64, among the
    trials of the split.
    """

    waves: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class ItemLike(Protocol):
    """A window, its class and its place among the trials."""

    @property
    def wave(self) -> NDArray[np.float32]:
        """(n_samples,) samples."""
        ...

    @property
    def label(self) -> int:
        """Class."""
        ...

    @property
    def trial(self) -> int:
        """Index among the trials."""
        ...


class Source(Protocol):
    """What makes items; it must pickle when there are workers."""

    def item(self, key: tuple[int, int], counts: Counter[str]) -> ItemLike:
        """The item of (epoch, index); what happened is added to `counts`."""
        ...


class Loader:
    """Gives the batches of an epoch, from any batch on, in order.

    Worker processes start with the first epoch and stay until `close`. Each works with one thread.
    PyTorch's global random numbers are neither read nor advanced. A file that fails in a worker
    raises here as it would have raised there.

    Args:
        source: Makes the items.
        batches: (epoch, start_batch) -> the indices of each batch from there on.
        n_batches: Of a whole epoch.
        workers: Processes, at most one for each core that this one may use; 0 makes the batches
            in this process, when they are asked for.
        pin_memory: Put batches into page-locked memory.

    Not thread-safe; one epoch at a time.
    """

    def __init__(
        self,
        source: Source,
        batches: Callable[[int, int], Iterable[list[int]]],
        n_batches: int,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        workers = _useful(workers)
        if workers:
            START_METHOD.set_forkserver_preload([_PRELOADED])
        self._batches, self.n_batches = batches, n_batches
        self.counts: Counter[str] = Counter()
        """What augmentation did so far, and how many windows were made."""
        self._keys, self._n_workers = _Keys(), workers
        self._loader: DataLoader[Any] | None = DataLoader(
            _Batches(source),
            batch_size=None,  # a key is a whole batch
            sampler=self._keys,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH_BATCHES if workers else None,
            multiprocessing_context=START_METHOD if workers else None,
            worker_init_fn=_start_worker,
            collate_fn=_as_it_is,
            # Its own: with none given, each epoch would draw from the global generator, and a
            # resumed run would then drop out other units than an uninterrupted one.
            generator=torch.Generator(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._loader = None

    def epoch(self, epoch: int = 0, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch.

        Args:
            epoch: Decides the order and all random changes.
            start_batch: Batches of the epoch that are already done.

        Raises:
            AudioError: A file cannot be decoded; its path is named.
            TrainingError: A worker process died, or the loader is closed.
        """
        if self._loader is None:
            raise TrainingError("The loader of training data is closed.")
        self._keys.of_epoch = [
            [(epoch, index) for index in indices] for indices in self._batches(epoch, start_batch)
        ]
        made = iter(self._loader)
        while True:
            try:
                result = next(made)
            except StopIteration:
                return
            except (RuntimeError, EOFError, OSError) as error:
                if not self._is_death_of_a_worker(error):
                    raise
                raise TrainingError(
                    "A process that decodes training data died "
                    f"({str(error) or type(error).__name__}).",
                    fix="give the machine or container more memory and shared memory "
                    "(docker run --shm-size), or set data.workers to fewer or 0",
                ) from error
            if isinstance(result, AasistDeployError):
                raise result
            batch, counts = result
            self.counts.update(counts)
            yield batch

    def _is_death_of_a_worker(self, error: Exception) -> bool:
        if isinstance(error, RuntimeError):
            return _DEAD_WORKER in str(error)
        # Its last batch was on the way through memory that went with it. What a worker itself
        # raises comes as "Caught OSError in DataLoader worker process".
        return self._n_workers > 0 and not str(error).startswith("Caught ")


class _Keys:
    """The keys of the epoch that is being read; the workers never see it."""

    def __init__(self) -> None:
        self.of_epoch: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.of_epoch)

    def __len__(self) -> int:
        return len(self.of_epoch)


class _Batches(Dataset[Any]):
    """Whole batches by their keys; runs in the workers."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(
        self, keys: list[tuple[int, int]]
    ) -> tuple[Batch, dict[str, int]] | AasistDeployError:
        counts: Counter[str] = Counter()
        try:
            items = [self._source.item(key, counts) for key in keys]
        except AasistDeployError as error:
            return error  # PyTorch would wrap it in a traceback and lose the fix
        batch = Batch(
            torch.from_numpy(np.stack([item.wave for item in items])),
            torch.tensor([item.label for item in items]),
            torch.tensor([item.trial for item in items]),
        )
        return batch, dict(counts)


def _as_it_is(made: Any) -> Any:  # noqa: ANN401
    return made


def _start_worker(_worker: int) -> None:
    """Ctrl-C is for the training process, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _useful(workers: int) -> int:
    """The workers that this process has cores for; more would only wait for one another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores is None or workers <= cores:
        return workers
    log.info("%d workers in place of %d: there are no more cores", cores, workers)
    return cores
