"""Distillation: a student learns from the scores of a teacher as well as from the labels."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from aasist_deploy.errors import CheckpointError, ShapeError, UsageError
from aasist_deploy.models import load_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.models import Checkpoint


class Teacher:
    """A trained network that only answers: frozen, in evaluation mode.

    Args:
        path: Any checkpoint that `load_checkpoint` takes.
        code: Where the class of a custom teacher is, if it is one; without it no code of a
            checkpoint runs.
        device: Where it runs.

    Attributes:
        model: The network.
        architecture: Its name.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """

    def __init__(
        self, path: Path | str, code: str | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.model = _load(path, code).model
        self.model.requires_grad_(requires_grad=False).eval().to(device)
        self.architecture = self.model.architecture

    def check_length(self, n_samples: int) -> None:
        """Refuse windows that the teacher cannot be run on; to be called before training.

        Raises:
            ShapeError: `n_samples` does not fit it.
        """
        teacher = self.model
        if teacher.any_length and n_samples < teacher.min_samples:
            raise ShapeError(
                f"The training windows have {n_samples} samples, and the teacher "
                f"({self.architecture}) needs at least {teacher.min_samples}.",
                fix="train on longer windows",
            )
        if not teacher.any_length and n_samples != teacher.n_samples:
            raise ShapeError(
                f"The training windows have {n_samples} samples, and the teacher "
                f"({self.architecture}) takes exactly {teacher.n_samples}.",
                fix=f"set crop_samples to {teacher.n_samples}, or take another teacher",
            )

    @torch.no_grad()
    def __call__(self, wave: Tensor) -> Tensor:
        """Answer for waves (B, N) with its (B, 2) output, logits or log-probabilities, in float32.

        Raises:
            ShapeError: N does not fit it.
        """
        self.check_length(wave.shape[1])
        output: Tensor = self.model(wave)[1]
        return output.float()


def _load(path: Path | str, code: str | None) -> Checkpoint:
    try:
        return load_checkpoint(path, code=code)
    except UsageError:
        if code is not None:  # a custom student may have a built-in teacher
            with suppress(CheckpointError):
                return load_checkpoint(path)
        raise


def distillation_loss(
    student_output: Tensor,
    teacher_output: Tensor,
    labels: Tensor,
    class_weights: Tensor,
    weight: float,
    temperature: float,
) -> Tensor:
    """(1 - weight) * cross-entropy + weight * T^2 * KL(teacher at T || student at T).

    T is the temperature; T^2 keeps the gradients of both parts in proportion when it changes. Both
    outputs may be logits or log-probabilities: the softmax of either is the same, at any T, since
    they differ by a constant in each row.

    Args:
        student_output: (B, 2).
        teacher_output: (B, 2); no gradient goes into it.
        labels: (B,) integers, 1 bona fide and 0 spoof.
        class_weights: (2,) of the cross-entropy, spoof first; its mean is over the weights.
        weight: Share of the teacher, 0 (labels alone) to 1 (teacher alone).
        temperature: Above 0; higher shows more of how the teacher ranks what it is sure of.

    Returns:
        The loss, a scalar in float32.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    section 2.
    """
    student, teacher = student_output.float(), teacher_output.detach().float()
    of_labels = functional.cross_entropy(student, labels, weight=class_weights)
    of_teacher = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1.0 - weight) * of_labels + weight * temperature**2 * of_teacher
