"""Which trials each batch of an epoch holds: from the seed and the epoch alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_STREAM: Final = 0x45504F43  # keeps these draws apart from others that begin with the same seed


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """(n,) the numbers below n in the order of that epoch.

    Args:
        n: Trials of the split, at least 1.
        seed: Of the run, 0 or more.
        epoch: 0 or more.

    Source: PCG64 of NumPy, seeded by SeedSequence((seed, epoch)); NumPy keeps the streams of both
    stable, and `Generator.permutation` has not changed since it came (NEP 19 would allow it).
    """
    random = np.random.default_rng((_STREAM, seed, epoch))
    return random.permutation(n).astype(np.int64)


class EpochSampler:
    """The batches of one epoch, or of one process's share of it, from any batch on.

    The epoch is one permutation, cut into global batches; each of `world` processes takes its
    contiguous share of every batch. So W processes see, step by step, the trials that one process
    would see.

    Args:
        n: Trials of the split.
        seed: Of the run.
        epoch: Gives another permutation each.
        batch_size: Trials of a global batch, over all processes together.
        drop_last: Leave out the trials after the last full batch; they differ from epoch to epoch.
        rank: This process, 0 to world - 1.
        world: Number of processes.
        start_batch: Batches of the epoch that are already done.

    Raises:
        UsageError: The numbers do not go together, e.g. a batch that the processes cannot share
            evenly, or no full batch in the split.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        epoch: int,
        batch_size: int,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
        start_batch: int = 0,
    ) -> None:
        n_batches = batches_in_epoch(n, batch_size, drop_last=drop_last, world=world)
        if not 0 <= rank < world:
            raise UsageError(f"rank is {rank}; with {world} processes it is 0 to {world - 1}.")
        if not 0 <= start_batch <= n_batches:
            raise UsageError(
                f"start_batch is {start_batch}; an epoch of {n} trials in batches of {batch_size} "
                f"has {n_batches} batches.",
                fix="resume with the batch size and the trials that the run was started with",
            )
        self._order = epoch_order(n, seed, epoch)
        self._batch_size, self._n_batches = batch_size, n_batches
        self._rank, self._world, self._start = rank, world, start_batch

    def __len__(self) -> int:
        """Batches that are left."""
        return self._n_batches - self._start

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self._start, self._n_batches):
            trials = self._order[batch * self._batch_size : (batch + 1) * self._batch_size]
            share = len(trials) // self._world
            yield trials[self._rank * share : (self._rank + 1) * share].tolist()


def batches_in_epoch(n: int, batch_size: int, *, drop_last: bool, world: int = 1) -> int:
    """How many batches an epoch has, on every process alike.

    Raises:
        UsageError: There is no trial or no full batch, or the processes cannot share a batch.
    """
    if n < 1 or batch_size < 1 or world < 1:
        raise UsageError(
            f"{n} trials, batches of {batch_size}, {world} processes: each must be at least 1."
        )
    if batch_size % world:
        raise UsageError(
            f"A batch of {batch_size} trials cannot be shared evenly by {world} processes.",
            fix=f"set training.batch_size to a multiple of {world}",
        )
    full, tail = divmod(n, batch_size)
    if drop_last:
        if not full:
            raise UsageError(
                f"The split has {n} trials, fewer than one batch of {batch_size}, and "
                "training.drop_last leaves out what is no full batch.",
                fix=f"set training.batch_size to at most {n}, or training.drop_last to false",
            )
        return full
    if tail % world:
        raise UsageError(
            f"The last batch of {n} trials in batches of {batch_size} holds {tail}, which "
            f"{world} processes cannot share evenly.",
            fix="set training.drop_last to true, or choose another training.batch_size",
        )
    return full + bool(tail)
