from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import RecipeError
from aasist_deploy.trainer.recipe import Optimizer, Recipe, Schedule
from aasist_deploy.trainer.schedule import lr_at

ROUNDING = 1e-12  # of rates up to 1e-2, in double precision


def recipe(
    name: Literal["cosine", "constant"] = "cosine",
    *,
    lr: float = 1e-4,
    lr_min: float = 5e-6,
    warmup_steps: int = 0,
) -> Recipe:
    return Recipe(
        optimizer=Optimizer(lr=lr),
        schedule=Schedule(name=name, lr_min=lr_min, warmup_steps=warmup_steps),
    )


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, Recipe]:
    n_steps = draw(st.integers(2, 5_000))
    lr = draw(st.floats(1e-6, 1e-2))
    given_recipe = recipe(
        draw(st.sampled_from(["cosine", "constant"])),
        lr=lr,
        lr_min=lr * draw(st.floats(0, 1)),
        warmup_steps=draw(st.integers(0, n_steps - 1)),
    )
    return n_steps, given_recipe


@given(runs(), st.floats(0, 1))
def test_rate_is_positive_and_within_its_bounds(run: tuple[int, Recipe], part: float) -> None:
    n_steps, given_recipe = run
    step = int(part * n_steps)
    schedule, lr = given_recipe.schedule, given_recipe.optimizer.lr
    rate = lr_at(step, n_steps, given_recipe)
    assert 0 <= rate <= lr + ROUNDING
    if step < n_steps and schedule.lr_min > 0:
        assert rate > 0
    if step >= schedule.warmup_steps:
        assert rate >= schedule.lr_min - ROUNDING


@given(runs(), st.floats(0, 1))
def test_rate_rises_while_warming_up_and_never_after(run: tuple[int, Recipe], part: float) -> None:
    n_steps, given_recipe = run
    step = int(part * (n_steps - 1))
    now, then = lr_at(step, n_steps, given_recipe), lr_at(step + 1, n_steps, given_recipe)
    if step + 1 < given_recipe.schedule.warmup_steps:
        assert then > now
    elif step >= given_recipe.schedule.warmup_steps:
        assert then <= now + ROUNDING


def test_cosine_goes_from_lr_over_the_middle_to_lr_min() -> None:
    given_recipe = recipe(lr=1e-4, lr_min=5e-6)
    assert lr_at(0, 200, given_recipe) == 1e-4
    assert lr_at(100, 200, given_recipe) == pytest.approx(5.25e-5, abs=ROUNDING)
    assert lr_at(200, 200, given_recipe) == pytest.approx(5e-6, abs=ROUNDING)


def test_cosine_is_what_a_pytorch_scheduler_stepped_after_every_batch_gives() -> None:
    given_recipe, n_steps = recipe(lr=1e-4, lr_min=5e-6), 60
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps, eta_min=5e-6)
    for step in range(n_steps):
        expected = optimizer.param_groups[0]["lr"]
        assert lr_at(step, n_steps, given_recipe) == pytest.approx(expected, abs=ROUNDING)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_in_equal_steps_to_lr_and_the_cosine_takes_the_rest() -> None:
    given_recipe = recipe(lr=1e-3, lr_min=1e-5, warmup_steps=4)
    rates = [lr_at(step, 14, given_recipe) for step in range(5)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3], abs=ROUNDING)
    assert lr_at(9, 14, given_recipe) == pytest.approx((1e-3 + 1e-5) / 2, abs=ROUNDING)
    assert lr_at(14, 14, given_recipe) == pytest.approx(1e-5, abs=ROUNDING)


def test_constant_stays_at_lr() -> None:
    given_recipe = recipe("constant", lr=3e-4)
    assert {lr_at(step, 50, given_recipe) for step in range(51)} == {3e-4}


def test_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"warmup_steps is 50, and the whole run has 50 steps"):
        lr_at(0, 50, recipe(warmup_steps=50))
