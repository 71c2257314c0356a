"""The learning rate of every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aasist_deploy.errors import RecipeError

if TYPE_CHECKING:
    from aasist_deploy.trainer.recipe import Recipe


def lr_at(step: int, n_steps: int, recipe: Recipe) -> float:
    """The learning rate of one step of the optimizer.

    While it warms up the rate is lr * (step + 1) / warmup_steps. After that it is constant, or
    falls by half a cosine: lr_min + (lr - lr_min) * (1 + cos(pi * t)) / 2, where t is the part of
    the steps after the warm-up that lie behind. Without a warm-up this is the published schedule:
    no restarts, and t = step / n_steps, so that lr_min itself would be the rate of the step after
    the last one.

    Args:
        step: Steps that lie behind, 0 for the first; up to `n_steps`, which is past the last one.
        n_steps: Steps of the whole run: epochs times steps an epoch.
        recipe: Its `optimizer.lr` and `schedule`.

    Returns:
        A rate in (0, lr]; not below lr_min after the warm-up.

    Raises:
        RecipeError: the warm-up is as long as the run, or longer.

    Source: `cosine_annealing` and `_get_scheduler` (LambdaLR, stepped after every batch) in
    clovaai/aasist utils.py; Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, one period.
    """
    lr, schedule = recipe.optimizer.lr, recipe.schedule
    n_warmup = schedule.warmup_steps
    if n_warmup and n_warmup >= n_steps:
        raise RecipeError(
            f"schedule.warmup_steps is {n_warmup}, and the whole run has {n_steps} steps.",
            fix="warm up for a small part of the run, or train for more epochs",
        )
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    if schedule.name == "constant":
        return lr
    behind = (step - n_warmup) / (n_steps - n_warmup)
    return schedule.lr_min + (lr - schedule.lr_min) * 0.5 * (1.0 + math.cos(math.pi * behind))
