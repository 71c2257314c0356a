"""Everything a run needs before its first step, the cheapest checks first."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from aasist_deploy.errors import AasistDeployError, RecipeError, ShapeError
from aasist_deploy.models import build_model
from aasist_deploy.trainer.averaging import Ema, SwaAverage
from aasist_deploy.trainer.data import Loader, TrainingSet, dev_loader, limited, training_loader
from aasist_deploy.trainer.dev import asv_rates_of
from aasist_deploy.trainer.distill import Teacher
from aasist_deploy.trainer.distributed import share_batch_statistics
from aasist_deploy.trainer.precheck import DataReport, precheck, shared_clips
from aasist_deploy.trainer.schedule import lr_at
from aasist_deploy.trainer.state import seed_all
from aasist_deploy.trainer.step import Stepper, make_optimizer
from aasist_deploy.trainer.transfer import freeze, init_weights
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from aasist_deploy.metrics import AsvErrorRates
    from aasist_deploy.models.network import Network
    from aasist_deploy.trainer.distributed import World
    from aasist_deploy.trainer.recipe import Recipe
    from aasist_deploy.trials import Dataset, Trial

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The two splits of a run; there is no third.

    Attributes:
        train: Trials to learn from.
        dev: Trials that the best epoch is chosen on.
        asv: Error rates of the speaker verification system on dev, for the t-DCF.
        n_samples: Of a training window.
        train_loader: Batches of windows to learn from; this process's part.
        dev_loader: Batches of windows to score; this process's part.
        reports: What the check of both found; of the first process alone.
    """

    train: tuple[Trial, ...]
    dev: tuple[Trial, ...]
    asv: AsvErrorRates | None
    n_samples: int
    train_loader: Loader
    dev_loader: Loader
    reports: tuple[DataReport, ...]

    def close(self) -> None:
        """End the processes that decode."""
        self.train_loader.close()
        self.dev_loader.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The network and what changes it; all of its content is state of the run."""

    model: Network
    optimizer: torch.optim.Optimizer
    stepper: Stepper
    swa: SwaAverage | None
    ema: Ema | None
    frozen: tuple[str, ...]


def prepare_model(recipe: Recipe, device: torch.device, world: World) -> Network:
    """The network on its device, with its first weights: by the seed, or of another checkpoint.

    Raises:
        CheckpointError: The settings, or the initial weights, do not fit the architecture.
    """
    seed_all(recipe.training.seed)
    model = build_model(recipe.model.settings, recipe.model.code)
    if recipe.training.init is not None:
        init_weights(model, recipe.training.init, recipe.model.code)
    if world.size > 1:
        share_batch_statistics(model, device)
    model.to(device)
    if recipe.training.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def prepare_corpus(recipe: Recipe, model: Network, device: torch.device, world: World) -> Corpus:
    """Both splits, with every clip checked.

    Raises:
        TrialsError: A split is empty, has one class, or its audio is not as it should be.
        RecipeError: The recipe names no corpus, or a figure that the corpus does not allow.
        UsageError: The split has no full batch, or the processes cannot share a batch.
        ShapeError: The windows do not fit the network.
    """
    n_samples = recipe.data.crop_samples or model.n_samples
    _check_window(model, n_samples)
    train = _split(recipe, recipe.data.train_split, recipe.data.limit_train)
    dev = _split(recipe, recipe.data.dev_split, recipe.data.limit_dev)
    asv = asv_rates_of(dev)
    if recipe.training.select == "min_tdcf" and asv is None:
        raise RecipeError(
            f"training.select is 'min_tdcf', and there are no ASV scores beside {dev.protocol}.",
            fix='select = "eer", or put the ASV scores of the corpus where it has them',
        )
    reports = _checked(recipe, train, dev, (n_samples, model.n_samples), world)
    pin_memory = device.type == "cuda"
    rank, size = world.rank, world.size
    return Corpus(
        train=train.trials,
        dev=dev.trials,
        asv=asv,
        n_samples=n_samples,
        train_loader=training_loader(
            TrainingSet(train.trials, recipe, n_samples),
            recipe,
            rank=rank,
            world=size,
            pin_memory=pin_memory,
        ),
        dev_loader=dev_loader(
            dev.trials, recipe, model.n_samples, rank=rank, world=size, pin_memory=pin_memory
        ),
        reports=reports,
    )


def _split(recipe: Recipe, name: str, limit: int | None) -> Dataset:
    if recipe.data.root is None:
        raise RecipeError(
            "data.root is left out: nothing says where the corpus is.",
            fix="add --root FOLDER, or data.root in the recipe",
        )
    dataset = load_dataset(recipe.data.dataset, Path(recipe.data.root), name)
    return replace(dataset, trials=limited(dataset.trials, limit))


def _checked(
    recipe: Recipe, train: Dataset, dev: Dataset, windows: tuple[int, int], world: World
) -> tuple[DataReport, ...]:
    """Look at every file: once is enough, and all processes are told.

    Dev is scored at the length of the network, whatever the windows of training are.
    """
    reports: list[DataReport] = []
    trouble: AasistDeployError | None = None
    if world.is_first:
        try:
            limits = (recipe.data.limit_train, recipe.data.limit_dev)
            reports = [
                precheck(split, n_samples=n_samples, whole=limit is None)
                for split, n_samples, limit in zip((train, dev), windows, limits, strict=True)
            ]
        except AasistDeployError as error:
            trouble = error
        if shared := shared_clips(train.trials, dev.trials):
            _log.warning(
                "%d clips are in both %s and %s, first %s: what is learnt by heart is no result",
                len(shared),
                train.split,
                dev.split,
                shared[0],
            )
    trouble = next((each for each in world.gather(trouble) if each is not None), None)
    if trouble is not None:
        raise trouble
    return tuple(reports)


def prepare_machine(
    recipe: Recipe, model: Network, corpus: Corpus, device: torch.device, world: World
) -> Machine:
    """Optimiser, averages and teacher of a network.

    Raises:
        CheckpointError: The teacher cannot be loaded.
        UsageError: A pattern of `freeze` matches nothing.
        ShapeError: The windows do not fit the teacher.
    """
    training = recipe.training
    n_steps = steps_of(recipe, corpus.train_loader.n_batches)
    lr_at(0, n_steps, recipe)  # refuses a warm-up longer than the run
    frozen = freeze(model, training.freeze)
    teacher = None
    if training.teacher is not None:
        teacher = Teacher(training.teacher, recipe.model.code, device)
        teacher.check_length(corpus.n_samples)
    optimizer = make_optimizer(model, recipe.optimizer, device)
    forward: nn.Module = world.share_gradients(model, device)
    if training.compile:
        forward = cast("nn.Module", torch.compile(forward))
    return Machine(
        model=model,
        optimizer=optimizer,
        stepper=Stepper(
            model=model,
            forward=forward,
            optimizer=optimizer,
            training=training,
            device=device,
            world=world,
            teacher=teacher,
        ),
        swa=SwaAverage() if training.swa else None,
        ema=None if training.ema_decay is None else Ema(model, training.ema_decay),
        frozen=tuple(frozen),
    )


def steps_of(recipe: Recipe, n_batches: int) -> int:
    """Optimiser steps of the whole run; the last of an epoch may have fewer batches."""
    return recipe.training.epochs * -(-n_batches // recipe.training.accumulate)


def _check_window(model: Network, n_samples: int) -> None:
    fits = n_samples >= model.min_samples if model.any_length else n_samples == model.n_samples
    if not fits:
        needed = (
            f"at least {model.min_samples}" if model.any_length else f"exactly {model.n_samples}"
        )
        raise ShapeError(
            f"The training windows have {n_samples} samples, and {model.architecture} as "
            f"configured takes {needed}.",
            fix="leave out data.crop_samples, or change it",
        )
