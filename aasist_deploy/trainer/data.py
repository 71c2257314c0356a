"""Trials as batches of windows: decoded, cropped and augmented by processes beside the training.

All that is random in an item follows from the seed, the epoch and the utterance. So the number of
workers, of training processes, and where a run was resumed change nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from aasist_deploy.audio import SAMPLE_RATE_HZ, fit_length, read_audio
from aasist_deploy.degradations import Context, NotApplicableError, Wave
from aasist_deploy.errors import AudioError
from aasist_deploy.trainer.augment import Augmenter, context_seed
from aasist_deploy.trainer.cache import (
    ClipCache,
    DiskCache,
    MemoryCache,
    NoCache,
    Pcm,
    default_memory_bytes,
    unpacked,
)
from aasist_deploy.trainer.loader import START_METHOD, Batch, Loader
from aasist_deploy.trainer.sampler import EpochSampler, batches_in_epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.trainer.recipe import Data, Recipe
    from aasist_deploy.trials import Trial

__all__ = [
    "BONAFIDE",
    "SPOOF",
    "Batch",
    "DevSet",
    "Item",
    "Loader",
    "TrainingSet",
    "crop",
    "dev_loader",
    "limited",
    "training_loader",
]

SPOOF: Final = 0
BONAFIDE: Final = 1  # the class order of all architectures

_BABBLE_TRIES: Final = 8  # draws for each clip that is wanted, before there are too few others


class Item(NamedTuple):
    """One window: (n_samples,) float32, its class, and its place among the trials."""

    wave: NDArray[np.float32]
    label: int
    trial: int


class TrainingSet(Dataset[Item]):
    """Windows of training clips, by (epoch, index).

    A longer clip is cropped, augmented as the recipe says, and a shorter one is augmented and then
    tiled, as scoring would tile it. The crop is `recipe.data.crop_samples` long, or `n_samples`.

    Args:
        trials: Of the training split.
        recipe: Seed, crop, cache and augmentation are taken from it.
        n_samples: The window of the model.

    Raises:
        EnvironmentLacks: A condition of the recipe is not available on this machine.
        OutputError: The folder of the cache cannot be written.
    """

    def __init__(self, trials: Sequence[Trial], recipe: Recipe, n_samples: int) -> None:
        self.trials = tuple(trials)
        self.n_samples = recipe.data.crop_samples or n_samples
        self._seed = recipe.training.seed
        self._random_crop = recipe.data.crop == "random"
        self._augment = Augmenter(recipe.augmentation)
        self._clips = _Clips(self.trials, _cache_of(recipe.data, len(self.trials)))
        bonafide = [i for i, trial in enumerate(self.trials) if trial.label == "bonafide"]
        self._babble = np.array(
            bonafide if len(bonafide) > 2 else range(len(self.trials)), np.int64
        )

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The window of that trial in that epoch.

        Raises:
            AudioError: The file cannot be decoded, or a condition fails on it.
        """
        return self.item(key, Counter())

    def item(self, key: tuple[int, int], counts: Counter[str]) -> Item:
        """As `self[key]`, and counts what augmentation did."""
        epoch, index = key
        trial = self.trials[index]
        context = Context(
            utterance=trial.utterance,
            sample_rate_hz=SAMPLE_RATE_HZ,
            n_samples=self.n_samples,
            seed=context_seed(self._seed, epoch),
            others=lambda count: self._others(context, index, count),
        )
        clip = self._clips.read(index)
        random = context.random("crop") if self._random_crop else None
        wave = unpacked(crop(clip, self.n_samples, random))
        counts["windows"] += 1
        wave = self._augment(wave, context, counts)
        return Item(fit_length(wave, self.n_samples), label_of(trial), index)

    def _others(self, context: Context, index: int, count: int) -> list[Wave]:
        """Windows of other bona fide clips, by other speakers, for babble."""
        if len(self._babble) < 2:
            raise NotApplicableError("babble needs two other clips")
        random = context.random("babble-choice")
        speaker = self.trials[index].speaker
        waves: list[Wave] = []
        taken = {index}
        for other in random.choice(self._babble, count * _BABBLE_TRIES).tolist():
            same = speaker is not None and self.trials[other].speaker == speaker
            if other in taken or same:
                continue
            taken.add(other)
            waves.append(unpacked(crop(self._clips.read(other), self.n_samples, random)))
            if len(waves) == count:
                break
        return waves


class DevSet(Dataset[Item]):
    """The first window of each dev clip, by index: what scoring sees.

    Args:
        trials: Of the dev split.
        recipe: Its cache is used.
        n_samples: The window of the model.
    """

    def __init__(self, trials: Sequence[Trial], recipe: Recipe, n_samples: int) -> None:
        self.trials, self.n_samples = tuple(trials), n_samples
        cache = _cache_of(recipe.data, len(self.trials))
        # A cache keeps whole clips, which other windows can be taken from later.
        first = n_samples if recipe.data.cache == "none" else None
        self._clips = _Clips(self.trials, cache, max_samples=first)

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, index: int) -> Item:
        """The window of that trial.

        Raises:
            AudioError: The file cannot be decoded.
        """
        clip = crop(self._clips.read(index), self.n_samples, None)
        return Item(fit_length(unpacked(clip), self.n_samples), label_of(self.trials[index]), index)

    def item(self, key: tuple[int, int], counts: Counter[str]) -> Item:
        """As `self[key[1]]`: dev windows are the same in every epoch."""
        counts["windows"] += 1
        return self[key[1]]


def training_loader(
    dataset: TrainingSet,
    recipe: Recipe,
    *,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> Loader:
    """Batches of training windows; `recipe.training.batch_size` is that of all processes together.

    Args:
        dataset: The windows.
        recipe: Seed, batch size, `drop_last` and workers are taken from it.
        rank: This training process.
        world: Number of training processes.
        pin_memory: Put batches into page-locked memory, from which a GPU copies faster.

    Raises:
        UsageError: The split has no full batch, or the processes cannot share a batch evenly.
    """
    training = recipe.training
    n_batches = batches_in_epoch(
        len(dataset), training.batch_size, drop_last=training.drop_last, world=world
    )
    return Loader(
        dataset,
        partial(_training_batches, len(dataset), recipe, rank, world),
        n_batches,
        workers=recipe.data.workers,
        pin_memory=pin_memory,
    )


def dev_loader(
    trials: Sequence[Trial],
    recipe: Recipe,
    n_samples: int,
    *,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> Loader:
    """Batches of `recipe.training.eval_batch_size` dev windows, in the order of the protocol.

    Process `rank` takes the batches rank, rank + world, ...: a batch holds the same trials, and so
    gets the same scores, whatever the number of processes. Every trial is in exactly one batch.
    """
    size = recipe.training.eval_batch_size
    indices = range(len(trials))
    starts = range(rank * size, len(trials), world * size)
    mine = [list(indices[start : start + size]) for start in starts]
    return Loader(
        DevSet(trials, recipe, n_samples),
        lambda _epoch, start_batch: mine[start_batch:],
        len(mine),
        workers=recipe.data.workers,
        pin_memory=pin_memory,
    )


def crop(clip: Pcm, n_samples: int, random: np.random.Generator | None) -> Pcm:
    """A view of at most `n_samples` of a clip.

    Args:
        clip: (N,) samples.
        n_samples: Length of the window.
        random: Draws the start, all of 0 .. N - n_samples alike; None takes the first samples.

    Returns:
        (min(N, n_samples),); a clip that is not longer comes back whole.
    """
    spare = len(clip) - n_samples
    start = 0 if random is None or spare <= 0 else int(random.integers(spare + 1))
    return clip[start : start + n_samples]


def label_of(trial: Trial) -> int:
    """1 for bona fide, 0 for spoof: the index of the network's output."""
    return BONAFIDE if trial.label == "bonafide" else SPOOF


def limited(trials: Sequence[Trial], limit: int | None) -> tuple[Trial, ...]:
    """At most `limit` trials: half of each class, evenly spaced in the order, which stays.

    Where a class has too few, the other gives more. None keeps all.
    """
    if limit is None or limit >= len(trials):
        return tuple(trials)
    classes = [
        [i for i, trial in enumerate(trials) if label_of(trial) == label]
        for label in (BONAFIDE, SPOOF)
    ]
    n_bonafide = min(len(classes[0]), max(limit // 2, limit - len(classes[1])))
    chosen = sorted(
        indices[(2 * k + 1) * len(indices) // (2 * count)]
        for indices, count in zip(classes, (n_bonafide, limit - n_bonafide), strict=True)
        for k in range(count)
    )
    return tuple(trials[i] for i in chosen)


class _Clips:
    """Decoded clips of trials, through a cache."""

    def __init__(
        self, trials: Sequence[Trial], cache: ClipCache, *, max_samples: int | None = None
    ) -> None:
        self._trials, self._cache, self._max_samples = trials, cache, max_samples

    def read(self, index: int) -> Pcm:
        """(N,) samples, not to be written to."""
        path = self._trials[index].path
        return self._cache.get(index, path, partial(_decode, path, self._max_samples))


def _decode(path: Path, max_samples: int | None) -> NDArray[np.float32]:
    try:
        return read_audio(path, max_samples=max_samples).wave
    except AudioError as error:
        error.fix = error.fix or "take the file out of the protocol, or put a whole one there"
        raise


def _cache_of(data: Data, n_clips: int) -> ClipCache:
    if data.cache == "memory":
        # Training and dev each have one, in each training process of the machine.
        n_caches = 2 * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return MemoryCache(n_clips, default_memory_bytes(n_caches), START_METHOD)
    if data.cache == "disk" and data.cache_dir is not None:
        return DiskCache(Path(data.cache_dir), SAMPLE_RATE_HZ)
    return NoCache()


def _training_batches(
    n: int, recipe: Recipe, rank: int, world: int, epoch: int, start_batch: int
) -> Iterable[list[int]]:
    training = recipe.training
    return EpochSampler(
        n,
        training.seed,
        epoch,
        training.batch_size,
        training.drop_last,
        rank,
        world,
        start_batch,
    )
