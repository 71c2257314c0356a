"""One step of the optimiser: forward, loss, backward, clipping, over several batches if asked."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aasist_deploy.errors import TrainingError
from aasist_deploy.trainer.distill import distillation_loss
from aasist_deploy.trainer.distributed import gradients_stay_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aasist_deploy.models.network import Network
    from aasist_deploy.trainer.distributed import World
    from aasist_deploy.trainer.recipe import Optimizer, Training

Batch = tuple[Tensor, Tensor, Tensor]
"""(B, N) waves, (B,) labels (1 bona fide, 0 spoof), (B,) indices of trials."""


class NotFiniteError(Exception):
    """A loss or a gradient is NaN or infinite; nothing was changed."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """What one step found, the same in all processes.

    Attributes:
        loss: Of the whole batch, before the step.
        gradient_norm: Euclidean, of all parameters, before clipping.
        stop_asked: Whether any process was asked to stop.
    """

    loss: float
    gradient_norm: float
    stop_asked: bool


def weighted_loss(output: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Class-weighted cross-entropy as a sum, and the sum of weights that it is to be divided by.

    The softmax of a log-softmax is the same distribution, so networks that give log-probabilities
    (RawNet2) take the same loss as those that give logits.

    Args:
        output: (B, 2) logits or log-probabilities; taken to float32.
        labels: (B,) 0 spoof, 1 bona fide.
        weights: (2,) of the classes.
    """
    total = cross_entropy(output.float(), labels, weight=weights, reduction="sum")
    return total, weights[labels].sum()


def make_optimizer(
    model: nn.Module, options: Optimizer, device: torch.device
) -> torch.optim.Adam | torch.optim.AdamW:
    """Adam or AdamW over the parameters that are not frozen.

    Raises:
        TrainingError: All of them are.
    """
    parameters = [each for each in model.parameters() if each.requires_grad]
    if not parameters:
        raise TrainingError(
            "All parameters of the network are frozen; there is nothing to train.",
            fix="leave some out of training.freeze",
        )
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(
        parameters,
        lr=options.lr,
        betas=options.betas,
        weight_decay=options.weight_decay,
        amsgrad=options.amsgrad,
        fused=device.type == "cuda",
    )


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches of each step; the last of an epoch may have fewer."""
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, size)):
        yield group


class Stepper:
    """Takes steps; the model and the optimiser are changed in place.

    Args:
        model: In training mode.
        forward: The model, or what wraps it for several processes or compiles it.
        optimizer: Over the model's parameters.
        training: Precision, clipping, class weights, frequency masking.
        device: Where the model is.
        world: The processes that share each batch.
        teacher: Waves to the (B, 2) outputs that the network also learns to repeat, or None.
    """

    def __init__(
        self,
        *,
        model: Network,
        forward: nn.Module,
        optimizer: torch.optim.Optimizer,
        training: Training,
        device: torch.device,
        world: World,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._forward, self._optimizer = forward, optimizer
        self._training, self._device, self._world = training, device, world
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._weights = torch.tensor(training.class_weights, device=device)
        self._teacher = teacher

    def step(self, batches: Sequence[Batch], lr: float, *, stop_asked: bool) -> StepFigures:
        """Take one step on one or more batches, as if they were one.

        Batch normalisation alone sees them one by one.

        Args:
            batches: This process's part.
            lr: Learning rate of the step.
            stop_asked: Whether this process was asked to stop; any such wish is told to all.

        Raises:
            NotFiniteError: The loss or a gradient is not finite, in all processes alike; neither
                weights nor optimiser have changed.
        """
        moved = [
            (waves.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True))
            for waves, labels, _ in batches
        ]
        local = torch.zeros(2, device=self._device)  # sum of class weights, number of trials
        for _, labels in moved:
            local += torch.stack([self._weights[labels].sum(), labels.new_tensor(len(labels))])
        whole = self._world.sum(local)
        self._optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self._device)
        for number, (waves, labels) in enumerate(moved, start=1):
            with gradients_stay_here(self._forward, when=number < len(moved)):
                part = self._loss(waves, labels, whole)
                # The gradients of processes are averaged, and the loss is a sum over them.
                (part * self._world.size).backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        told = torch.stack([loss, torch.tensor(float(stop_asked), device=self._device)])
        loss_value, n_asked, norm_value = torch.cat(
            [self._world.sum(told), norm.reshape(1).to(loss.dtype)]
        ).tolist()
        for what, value in (("loss", loss_value), ("gradient", norm_value)):
            if not math.isfinite(value):
                self._optimizer.zero_grad(set_to_none=True)
                raise NotFiniteError(what)
        if self._training.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._training.clip_norm, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return StepFigures(loss=loss_value, gradient_norm=norm_value, stop_asked=n_asked > 0)

    def _loss(self, waves: Tensor, labels: Tensor, whole: Tensor) -> Tensor:
        """What one batch adds to the loss of the whole; `whole` is what the means divide by."""
        training = self._training
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=training.precision == "bf16"
        ):
            options = {"mask_filters": True} if training.freq_mask else {}
            _, output = self._forward(waves, **options)
        loss = weighted_loss(output, labels, self._weights)[0] / whole[0]
        if self._teacher is None:
            return loss
        of_teacher = distillation_loss(
            output, self._teacher(waves), labels, self._weights, 1.0, training.distill_temperature
        )
        share = len(labels) / whole[1]
        return (1 - training.distill_weight) * loss + training.distill_weight * share * of_teacher
