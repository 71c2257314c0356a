"""One step of the optimiser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

from aasist_deploy.errors import TrainingError
from aasist_deploy.trainer.distill import distillation_loss
from aasist_deploy.trainer.distributed import World
from aasist_deploy.trainer.recipe import Optimizer, Training
from aasist_deploy.trainer.step import (
    Batch,
    NotFiniteError,
    StepFigures,
    Stepper,
    make_optimizer,
    weighted_loss,
)

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([0.1, 0.9])
# float32 sums in another order; measured at most 6e-8 for weights of size 0.5.
SUM_ATOL = 1e-6


class Net(nn.Module):
    """Without normalisation, so that a batch is the sum of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(20, 5), nn.Linear(5, 2)
        self.masked: list[bool] = []

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        self.masked.append(mask_filters)
        embedding = torch.tanh(self.first(wave))
        return embedding, self.out(embedding)


def batch(n: int = 12) -> Batch:
    """Of unequal classes in its parts."""
    random = torch.Generator().manual_seed(2)
    labels = torch.tensor([1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])[:n]
    return torch.randn(n, 20, generator=random), labels, torch.arange(n)


def taken(
    batches: list[Batch], *, teacher: Any = None, optimizer: str = "sgd", **options: Any
) -> tuple[Net, StepFigures]:
    """A step with a fixed rate from fixed weights; plain descent shows the gradient."""
    torch.manual_seed(1)
    model: Any = Net()
    training = Training(**options)
    made: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=9.0)
        if optimizer == "sgd"
        else make_optimizer(model, Optimizer(), CPU)
    )
    stepper = Stepper(
        model=model,
        forward=model,
        optimizer=made,
        training=training,
        device=CPU,
        world=World(),
        teacher=teacher,
    )
    return model, stepper.step(batches, 0.5, stop_asked=False)


def split(whole: Batch, *sizes: int) -> list[Batch]:
    waves, labels, indices = (torch.split(part, list(sizes)) for part in whole)
    return list(zip(waves, labels, indices, strict=True))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def test_the_loss_of_log_probabilities_is_that_of_logits() -> None:
    logits = torch.randn(50, 2, generator=torch.Generator().manual_seed(4)) * 20
    labels = torch.arange(50) % 2
    log_p = log_softmax(logits, dim=1)
    of_logits, weight = weighted_loss(logits, labels, WEIGHTS)
    of_log_p, _ = weighted_loss(log_p, labels, WEIGHTS)
    torch.testing.assert_close(of_log_p, of_logits)
    torch.testing.assert_close(of_logits / weight, cross_entropy(logits, labels, WEIGHTS))
    torch.testing.assert_close(of_log_p / weight, nll_loss(log_p, labels, WEIGHTS))


def test_accumulated_batches_are_one_batch() -> None:
    whole, one = taken([batch()])
    parts, several = taken(split(batch(), 5, 4, 3))
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=SUM_ATOL)
    assert several.loss == pytest.approx(one.loss, rel=1e-6)
    assert several.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-6)


def test_accumulated_batches_with_a_teacher_are_one_batch() -> None:
    torch.manual_seed(8)
    other = Net()

    def teacher(waves: Tensor) -> Tensor:
        output: Tensor = other(waves)[1]
        return output.detach()

    options: dict[str, Any] = {"teacher": teacher, "distill_weight": 0.3}
    whole, one = taken([batch()], **options)
    parts, several = taken(split(batch(), 5, 4, 3), **options)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=SUM_ATOL)
    waves, labels, _ = batch()
    torch.manual_seed(1)
    expected = distillation_loss(Net()(waves)[1], teacher(waves), labels, WEIGHTS, 0.3, 2.0)
    assert one.loss == pytest.approx(expected.item(), rel=1e-5)
    assert several.loss == pytest.approx(one.loss, rel=1e-6)


def test_the_step_is_the_gradient_of_the_weighted_mean_at_the_given_rate() -> None:
    torch.manual_seed(1)
    model = Net()
    before = weights(model)
    waves, labels, _ = batch()
    loss = cross_entropy(model(waves)[1], labels, weight=WEIGHTS)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([each.grad.flatten() for each in model.parameters()])  # type: ignore[union-attr]
    after, figures = taken([batch()])
    torch.testing.assert_close(weights(after), before - 0.5 * gradient, rtol=0, atol=SUM_ATOL)
    assert figures.loss == pytest.approx(loss.item(), rel=1e-6)
    assert figures.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-6)


def test_clipping_limits_the_step_and_reports_the_norm_before() -> None:
    torch.manual_seed(1)
    before = weights(Net())
    free, figures = taken([batch()])
    clipped, same = taken([batch()], clip_norm=figures.gradient_norm / 4)
    assert same.gradient_norm == figures.gradient_norm
    moved = (weights(clipped) - before).norm() / (weights(free) - before).norm()
    assert float(moved) == pytest.approx(0.25, rel=1e-4)
    loose, _ = taken([batch()], clip_norm=figures.gradient_norm * 4)
    torch.testing.assert_close(weights(loose), weights(free), rtol=0, atol=SUM_ATOL)


def test_bf16_rounds_the_forward_pass_and_keeps_weights_and_loss_in_float32() -> None:
    full, one = taken([batch()])
    half, other = taken([batch()], precision="bf16")
    assert weights(half).dtype == torch.float32
    assert other.loss != one.loss
    assert other.loss == pytest.approx(one.loss, rel=2e-2)  # 8 bits of mantissa
    assert not torch.equal(weights(half), weights(full))


def test_filters_are_masked_when_the_recipe_says_so() -> None:
    assert taken(split(batch(), 6, 6), freq_mask=True)[0].masked == [True, True]
    assert taken([batch()])[0].masked == [False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_changes_nothing(value: float) -> None:
    net: Any = Net()
    with torch.no_grad():
        net.out.weight[0, 0] = value
    before = weights(net)
    adam = make_optimizer(net, Optimizer(), CPU)
    stepper = Stepper(
        model=net, forward=net, optimizer=adam, training=Training(), device=CPU, world=World()
    )
    with pytest.raises(NotFiniteError):
        stepper.step([batch()], 0.5, stop_asked=False)
    torch.testing.assert_close(weights(net), before, rtol=0, atol=0, equal_nan=True)
    assert not adam.state


def test_the_wish_to_stop_comes_back_with_the_figures() -> None:
    assert not taken([batch()])[1].stop_asked
    net: Any = Net()
    adam = make_optimizer(net, Optimizer(), CPU)
    stepper = Stepper(
        model=net, forward=net, optimizer=adam, training=Training(), device=CPU, world=World()
    )
    assert stepper.step([batch()], 0.5, stop_asked=True).stop_asked


def test_optimisers_are_made_as_the_recipe_says() -> None:
    options = Optimizer(lr=0.02, betas=(0.8, 0.9), weight_decay=0.3, amsgrad=True)
    adam = make_optimizer(Net(), options, CPU)
    group = adam.param_groups[0]
    assert type(adam) is torch.optim.Adam
    found = group["lr"], group["betas"], group["weight_decay"], group["amsgrad"]
    assert found == (0.02, (0.8, 0.9), 0.3, True)
    assert type(make_optimizer(Net(), replace(options, name="adamw"), CPU)) is torch.optim.AdamW


def test_frozen_parameters_are_not_given_to_the_optimiser() -> None:
    model = Net()
    model.first.requires_grad_(requires_grad=False)
    held = make_optimizer(model, Optimizer(), CPU).param_groups[0]["params"]
    assert [id(each) for each in held] == [id(model.out.weight), id(model.out.bias)]
    model.out.requires_grad_(requires_grad=False)
    with pytest.raises(TrainingError, match="All parameters"):
        make_optimizer(model, Optimizer(), CPU)
