"""What `train` tells its caller while it runs, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.trainer.dev import DevFigures
    from aasist_deploy.trainer.precheck import DataReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """All checks have passed, and the first step is next.

    Attributes:
        n_train: Utterances of the training split.
        n_dev: Utterances of the development split.
        n_steps: Optimiser steps of the whole run.
        first_step: Steps that a resumed run has behind it; 0 for a new one.
        n_parameters: Parameters of the network, frozen ones among them.
        frozen: Names of the parameters that stay as they are.
        device: Where it runs, e.g. "cpu" or "cuda:0".
        n_processes: Processes that share each batch.
        reports: What the check of both splits found; of the first process alone.
    """

    n_train: int
    n_dev: int
    n_steps: int
    first_step: int
    n_parameters: int
    frozen: tuple[str, ...]
    device: str
    n_processes: int
    reports: tuple[DataReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One optimiser step.

    Attributes:
        epoch: From 1.
        step: Over all epochs, from 1.
        n_steps: Optimiser steps of the whole run.
        loss: Loss of the whole batch, before the step.
        lr: Learning rate of the step.
        gradient_norm: Euclidean norm of all gradients, before clipping.
        seconds: Wall time since the end of the step before, waiting for data included.
    """

    epoch: int
    step: int
    n_steps: int
    loss: float
    lr: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """One pass over the training split, and the figures on the development split.

    Attributes:
        epoch: From 1.
        n_epochs: Epochs of the whole run.
        loss: Mean loss of its steps.
        dev: Figures of the development split.
        is_best: Whether they are the best so far.
        seconds: Wall time, the scoring of the development split included.
    """

    epoch: int
    n_epochs: int
    loss: float
    dev: DevFigures
    is_best: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSaved:
    """The whole state is on disk; a run that ends now goes on from here.

    Attributes:
        path: The file.
        step: Steps behind it.
    """

    path: Path
    step: int


Event = Started | StepDone | EpochDone | StateSaved


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A finished run.

    Attributes:
        out: The run folder.
        best: The weights that were best on the development split; they load with no further option.
        best_epoch: The epoch they come from; None when they are the average over epochs (SWA).
        dev: Their figures on the development split.
        swa: The average over the epochs that set a new best value, or None when it was not asked
            for.
        swa_dev: Its figures on the development split.
        n_steps: Optimiser steps of the run.
        seconds: Wall time of this call; of a resumed run, of its last part.
    """

    out: Path
    best: Path
    best_epoch: int | None
    dev: DevFigures
    swa: Path | None
    swa_dev: DevFigures | None
    n_steps: int
    seconds: float
