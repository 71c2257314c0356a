"""Batches from worker processes: the same whoever makes them, in order, and resumable."""

from __future__ import annotations

import os
import pickle
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from aasist_deploy.errors import AudioError, TrainingError, UsageError
from aasist_deploy.trainer.data import TrainingSet, dev_loader, training_loader
from aasist_deploy.trainer.loader import Batch, Loader
from aasist_deploy.trainer.recipe import Augmentation, Data, Recipe, Training

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable

    from aasist_deploy.trials import Dataset

N = 1_000
LENGTHS = [700, 1_000, 1_400, 2_000] * 5 + [900]


@pytest.fixture
def dataset(clips: Callable[..., Dataset]) -> Dataset:
    return clips(LENGTHS)


def recipe_of(workers: int = 0, batch_size: int = 4, **fields: Any) -> Recipe:
    return Recipe(
        data=Data(workers=workers, cache=fields.pop("cache", "none")),
        training=Training(batch_size=batch_size, eval_batch_size=4, seed=3, **fields),
        augmentation=Augmentation(
            gain_db=(-6.0, 6.0), rawboost="5", conditions=("white-10dB",), rawboost_probability=0.5
        ),
    )


def batches_of(loader: Loader, epoch: int = 0, start_batch: int = 0) -> list[Batch]:
    """Copies, so that nothing that a worker shares is held."""
    return [Batch(*(part.clone() for part in batch)) for batch in loader.epoch(epoch, start_batch)]


def assert_equal(ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def training(dataset: Dataset) -> Callable[..., Loader]:
    def make(rank: int = 0, world: int = 1, **options: Any) -> Loader:
        recipe = recipe_of(**options)
        windows = TrainingSet(dataset.trials, recipe, N)
        return training_loader(windows, recipe, rank=rank, world=world)

    return make


def test_a_batch_is_waves_labels_and_indices(training: Any, dataset: Dataset) -> None:
    loader = training()
    made = batches_of(loader)
    assert len(made) == loader.n_batches == 5
    for waves, labels, indices in made:
        assert (waves.dtype, waves.shape) == (torch.float32, (4, N))
        assert (labels.dtype, indices.dtype) == (torch.int64, torch.int64)
        truth = [int(dataset.trials[i].label == "bonafide") for i in indices.tolist()]
        assert labels.tolist() == truth
    assert len({i for batch in made for i in batch.indices.tolist()}) == 20


def test_workers_and_resuming_change_no_sample(training: Any) -> None:
    here = training()
    whole = [batches_of(here, epoch) for epoch in range(2)]
    assert not torch.equal(whole[0][0].waves, whole[1][0].waves)
    with training(workers=2, cache="memory") as loader:
        for epoch in range(2):
            assert_equal(batches_of(loader, epoch), whole[epoch])
        assert loader.counts == here.counts
        assert loader.counts["windows"] == loader.counts["gain"] == 40
        assert 0 < loader.counts["rawboost 5"] < 40
        # An epoch that was left before its end does not spill into the next one.
        next(iter(loader.epoch(0)))
        assert_equal(batches_of(loader, 1, start_batch=3), whole[1][3:])
    assert_equal(batches_of(training(), 1, start_batch=3), whole[1][3:])


def test_two_processes_see_the_windows_of_one(training: Any) -> None:
    whole = batches_of(training(), epoch=1)
    shares = [batches_of(training(rank, 2), epoch=1) for rank in range(2)]
    joined = [
        Batch(*(torch.cat(parts) for parts in zip(*step, strict=True)))
        for step in zip(*shares, strict=True)
    ]
    assert_equal(joined, whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_numbers_of_pytorch_stay_where_they_are(
    training: Any, workers: int
) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    np.random.seed(0)  # noqa: NPY002  # the global state is what this is about
    numpy_before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    with training(workers=workers) as loader:
        batches_of(loader)
        batches_of(loader, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert pickle.dumps(np.random.get_state()) == numpy_before  # noqa: NPY002


def test_dev_batches_hold_every_trial_once_in_order_and_the_same_on_any_world(
    dataset: Dataset,
) -> None:
    whole = batches_of(dev_loader(dataset.trials, recipe_of(), N))
    assert [i for batch in whole for i in batch.indices.tolist()] == list(range(21))
    assert [len(batch.labels) for batch in whole] == [4, 4, 4, 4, 4, 1]
    for world in (2, 4, 7):
        shares = [
            batches_of(dev_loader(dataset.trials, recipe_of(), N, rank=rank, world=world))
            for rank in range(world)
        ]
        flat = sorted((each for share in shares for each in share), key=lambda b: b.indices[0])
        assert_equal(flat, whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_raises_what_it_would_raise_here(
    dataset: Dataset, training: Any, workers: int
) -> None:
    for trial in dataset.trials:
        trial.path.write_bytes(trial.path.read_bytes()[:200])
    with training(workers=workers) as loader, pytest.raises(AudioError) as caught:
        batches_of(loader)
    assert str(dataset.trials[0].path.parent) in str(caught.value)
    assert ".flac cannot be decoded" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert caught.value.fix


class Made(NamedTuple):
    wave: Any
    label: int
    trial: int


class Threads:
    """Says how many threads PyTorch may use where items are made, and how Ctrl-C is taken."""

    def item(self, key: tuple[int, int], counts: Counter[str]) -> Made:
        counts["items"] += 1
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        wave = np.array([torch.get_num_threads(), ignored], np.float32)
        return Made(wave, os.getpid(), key[1])


class Kill:
    def item(self, key: tuple[int, int], _counts: Counter[str]) -> Made:
        if key[1] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return Made(np.zeros(1, np.float32), 0, key[1])


def singles(_epoch: int, start_batch: int) -> list[list[int]]:
    return [[i] for i in range(start_batch, 6)]


def test_workers_use_one_thread_each_and_leave_ctrl_c_to_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    with Loader(Threads(), singles, 6, workers=2) as loader:
        first, second = batches_of(loader), batches_of(loader, 1)
    assert all(batch.waves.tolist() == [[1.0, 1.0]] for batch in first)
    processes = {int(batch.labels) for batch in first}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {int(batch.labels) for batch in second} == processes  # the same ones go on
    assert loader.counts["items"] == 12


def test_a_worker_that_dies_is_an_error_with_a_way_out() -> None:
    with (
        Loader(Kill(), singles, 6, workers=1) as loader,
        pytest.raises(TrainingError, match="decodes training data died") as caught,
    ):
        batches_of(loader)
    assert "data.workers" in (caught.value.fix or "")


def test_a_closed_loader_says_so() -> None:
    loader = Loader(Threads(), singles, 6)
    loader.close()
    loader.close()
    with pytest.raises(TrainingError, match="is closed"):
        batches_of(loader)


def test_batches_that_cannot_be_made_are_refused_before_training(training: Any) -> None:
    with pytest.raises(UsageError, match="fewer than one batch of 64"):
        training(batch_size=64)
    with pytest.raises(UsageError, match="cannot be shared evenly by 3"):
        training(world=3)


class Broken:
    def item(self, _key: tuple[int, int], _counts: Counter[str]) -> Made:
        raise PermissionError("a fault of ours")


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_in_a_worker_are_not_taken_for_its_death(workers: int) -> None:
    with (
        Loader(Broken(), singles, 6, workers=workers) as loader,
        pytest.raises(PermissionError, match="a fault of ours"),
    ):
        batches_of(loader)


def test_there_are_no_more_workers_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    with Loader(Threads(), singles, 6, workers=3) as loader:
        assert len({int(batch.labels) for batch in batches_of(loader)}) == 1
