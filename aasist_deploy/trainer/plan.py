"""What a recipe would do here: everything is checked as before training, and nothing is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aasist_deploy.trainer.distributed import World, choose_device
from aasist_deploy.trainer.prepare import (
    prepare_corpus,
    prepare_machine,
    prepare_model,
    steps_of,
)

if TYPE_CHECKING:
    from aasist_deploy.trainer.precheck import DataReport
    from aasist_deploy.trainer.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that has passed its checks.

    Attributes:
        reports: What the training and the dev split hold.
        n_steps: Steps of the optimizer.
        n_parameters: Of the network, with the frozen ones.
        frozen: Names of the parameters that would not be trained.
        n_samples: Of a training window.
        device: What would train.
    """

    reports: tuple[DataReport, ...]
    n_steps: int
    n_parameters: int
    frozen: tuple[str, ...]
    n_samples: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {**asdict(self), "reports": [report.to_dict() for report in self.reports]}


def plan(recipe: Recipe) -> Plan:
    """Load network, corpus, initial weights and teacher, and check them, without training.

    Raises:
        AasistDeployError: As `train` raises before its first step.
    """
    device, world = choose_device(recipe.training.device), World()
    model = prepare_model(recipe, device, world)
    corpus = prepare_corpus(recipe, model, device, world)
    try:
        machine = prepare_machine(recipe, model, corpus, device, world)
        return Plan(
            reports=corpus.reports,
            n_steps=steps_of(recipe, corpus.train_loader.n_batches),
            n_parameters=sum(each.numel() for each in model.parameters()),
            frozen=machine.frozen,
            n_samples=corpus.n_samples,
            device=str(device),
        )
    finally:
        corpus.close()
