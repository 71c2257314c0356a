"""Training: a recipe and a corpus become checkpoints that `export` takes as they are."""

from typing import TYPE_CHECKING

from aasist_deploy.trainer.events import (
    EpochDone,
    Event,
    Started,
    StateSaved,
    StepDone,
    TrainingResult,
)
from aasist_deploy.trainer.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from aasist_deploy.trainer.loop import train

__all__ = [
    "EpochDone",
    "Event",
    "Recipe",
    "Started",
    "StateSaved",
    "StepDone",
    "TrainingResult",
    "load_recipe",
    "train",
]


def __getattr__(name: str) -> object:
    """`train` when it is asked for: reading a recipe must not load PyTorch."""
    if name == "train":
        from aasist_deploy.trainer.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
