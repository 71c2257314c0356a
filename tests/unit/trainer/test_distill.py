from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aasist_deploy.errors import ShapeError
from aasist_deploy.models import build_model, save_weights
from aasist_deploy.trainer.distill import Teacher, distillation_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

CLASS_WEIGHTS = torch.tensor([0.1, 0.9])
FLOAT32_ATOL = 1e-6  # rounding of losses of size 1


def outputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 2, generator=generator) * 3
    teacher = torch.randn(6, 2, generator=generator) * 3
    return student, teacher, torch.tensor([0, 1, 1, 0, 0, 1])


def test_loss_is_the_formula_written_out() -> None:
    student, teacher, labels = outputs()
    temperature, weight = 3.0, 0.3
    p = [(row / temperature).exp() / (row / temperature).exp().sum() for row in teacher]
    q = [(row / temperature).exp() / (row / temperature).exp().sum() for row in student]
    divergence = sum(float((a * (a / b).log()).sum()) for a, b in zip(p, q, strict=True)) / 6
    of_labels = sum(
        float(CLASS_WEIGHTS[label]) * -float((row.exp()[label] / row.exp().sum()).log())
        for row, label in zip(student, labels, strict=True)
    ) / float(CLASS_WEIGHTS[labels].sum())
    loss = distillation_loss(student, teacher, labels, CLASS_WEIGHTS, weight, temperature)
    expected = (1 - weight) * of_labels + weight * temperature**2 * divergence
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_log_probabilities_give_the_loss_of_logits_on_either_side(temperature: float) -> None:
    student, teacher, labels = outputs()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return distillation_loss(a, b, labels, CLASS_WEIGHTS, 0.6, temperature)

    log_student, log_teacher = student.log_softmax(1), teacher.log_softmax(1)
    expected = loss(student, teacher)
    for given in (
        loss(log_student, teacher),
        loss(student, log_teacher),
        loss(log_student, log_teacher),
    ):
        assert torch.allclose(given, expected, atol=10 * FLOAT32_ATOL)


def test_weight_zero_is_the_labels_alone_and_weight_one_the_teacher_alone() -> None:
    student, teacher, labels = outputs()
    of_labels = functional.cross_entropy(student, labels, weight=CLASS_WEIGHTS)
    given = distillation_loss(student, teacher, labels, CLASS_WEIGHTS, 0.0, 2.0)
    assert torch.allclose(given, of_labels, atol=FLOAT32_ATOL)
    alone = distillation_loss(student, teacher, labels, CLASS_WEIGHTS, 1.0, 2.0)
    assert torch.equal(
        alone, distillation_loss(student, teacher, 1 - labels, CLASS_WEIGHTS, 1.0, 2.0)
    )
    same = distillation_loss(teacher, teacher, labels, CLASS_WEIGHTS, 1.0, 2.0)
    assert float(same) == pytest.approx(0, abs=FLOAT32_ATOL)


def test_gradients_go_to_the_student_alone() -> None:
    student, teacher, labels = outputs()
    student.requires_grad_()
    teacher.requires_grad_()
    loss = distillation_loss(student, teacher, labels, CLASS_WEIGHTS, 0.5, 2.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().min() > 0
    assert teacher.grad is None


def test_half_precision_outputs_give_a_loss_in_float32() -> None:
    student, teacher, labels = outputs()
    loss = distillation_loss(student.bfloat16(), teacher.half(), labels, CLASS_WEIGHTS, 0.5, 2.0)
    assert loss.dtype == torch.float32


def test_teacher_is_frozen_in_evaluation_mode_and_gives_the_outputs_of_its_file(
    small_checkpoint: Checkpoint, noise: Callable[..., NDArray[np.float32]]
) -> None:
    wave = torch.from_numpy(noise(3))
    teacher = Teacher(small_checkpoint.path)
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    answer = teacher(wave)
    assert not answer.requires_grad
    with torch.no_grad():
        expected = small_checkpoint.model(wave)[1]
    # Parameters without gradients take other kernels: 1.5e-8 was seen on outputs of 0.1.
    assert torch.allclose(answer, expected, atol=10 * FLOAT32_ATOL, rtol=0)
    # A gradient can flow through a loss that holds the answer.
    student = torch.zeros(3, 2, requires_grad=True)
    distillation_loss(student, answer, torch.tensor([0, 1, 1]), CLASS_WEIGHTS, 1.0, 2.0).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None


def test_code_of_a_custom_student_does_not_keep_a_built_in_teacher_out(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "student.py").write_text("from torch import nn\nclass Student(nn.Module): pass\n")
    teacher = Teacher(small_checkpoint.path, f"{tmp_path / 'student.py'}:Student")
    assert teacher.architecture == "AASIST"


def test_windows_that_the_teacher_cannot_take_are_refused(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    teacher = Teacher(small_checkpoint.path)
    teacher.check_length(teacher.model.min_samples)
    with pytest.raises(ShapeError, match=f"at least {teacher.model.min_samples}"):
        teacher(torch.zeros(2, 500))
    settings = {
        "architecture": "RawGAT-ST",
        "nb_samp": 64_600,
        "first_conv": 128,
        "filts": [70, [1, 32], [32, 32], [32, 64], [64, 64]],
    }
    save_weights(tmp_path / "fixed.safetensors", build_model(settings))
    fixed = Teacher(tmp_path / "fixed.safetensors")
    fixed.check_length(64_600)
    with pytest.raises(ShapeError, match="exactly 64600"):
        fixed.check_length(64_601)


def train(student: nn.Module, loss_of: Callable[[Tensor], Tensor], x: Tensor) -> None:
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(student(x)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_distilled_student_comes_nearer_to_the_teacher_than_one_of_labels_alone() -> None:
    """The teacher knows how sure it is; the labels, one coin flip a sample, do not say."""
    generator = torch.Generator().manual_seed(4)
    x, unseen = (torch.randn(200, 3, generator=generator) for _ in range(2))

    def teacher(values: Tensor) -> Tensor:
        score = values[:, :1] + 0.5 * values[:, 1:2] ** 2
        return torch.cat([-score, score], dim=1)

    labels = torch.bernoulli(teacher(x).softmax(1)[:, 1], generator=generator).long()
    weights = torch.ones(2)

    def student_of(weight: float) -> nn.Module:
        torch.manual_seed(7)
        student = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
        train(
            student,
            lambda out: distillation_loss(out, teacher(x), labels, weights, weight, 2.0),
            x,
        )
        return student

    def distance(student: nn.Module) -> float:
        with torch.no_grad():
            given, wanted = student(unseen).log_softmax(1), teacher(unseen).log_softmax(1)
        return float((given[:, 1] - wanted[:, 1]).abs().mean())

    of_labels, distilled = distance(student_of(0.0)), distance(student_of(0.9))
    assert distilled < 0.5 * of_labels


def test_small_network_distils_the_scores_of_another_through_its_checkpoint(
    small_config: dict[str, Any],
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    teacher = Teacher(small_checkpoint.path)
    wave = torch.from_numpy(noise(4, teacher.model.min_samples))
    wanted = teacher(wave)
    labels = torch.tensor([0, 1, 0, 1])

    def distance_after(weight: float) -> float:
        torch.manual_seed(0)
        student = build_model(small_config).train()
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
        for _ in range(12):
            optimizer.zero_grad()
            output = student(wave)[1]
            loss = distillation_loss(output, wanted, labels, CLASS_WEIGHTS, weight, 2.0)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            given = student(wave)[1].log_softmax(1)
        return float((given - wanted.log_softmax(1))[:, 1].abs().mean())

    assert distance_after(0.9) < 0.5 * distance_after(0.0)
