"""The development split, scored after each epoch: the best epoch is chosen on it alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aasist_deploy.errors import TrainingError
from aasist_deploy.metrics import AsvErrorRates, asv_error_rates, eer, min_tdcf_2019
from aasist_deploy.scores import ScoreRow, read_asv_scores, read_asv_scores_2021, write_scores_txt
from aasist_deploy.trainer.step import weighted_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.trainer.distributed import World
    from aasist_deploy.trials import Dataset, Trial

Selection = Literal["eer", "min_tdcf", "loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevFigures:
    """Figures of the development split; lower is better.

    Attributes:
        eer: Equal error rate in [0, 1].
        min_tdcf: Minimum t-DCF of 2019 with the ASV scores of the same split; None without them.
        loss: Class-weighted cross-entropy.
    """

    eer: float
    min_tdcf: float | None
    loss: float

    def rank(self, selection: Selection) -> tuple[float, float]:
        """What is compared: the selected figure, then the loss, for figures that are equal."""
        value = getattr(self, selection)
        return (float("inf") if value is None else float(value), self.loss)

    def to_dict(self) -> dict[str, float | None]:
        """Plain types for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DevFigures:
        """What `to_dict` gave."""
        return cls(eer=content["eer"], min_tdcf=content["min_tdcf"], loss=content["loss"])


def asv_rates_of(dataset: Dataset) -> AsvErrorRates | None:
    """Error rates of the speaker verification system on the same split, or None without scores.

    Raises:
        ScoresError: The scores that lie beside the split cannot be read.
    """
    if dataset.asv_scores is None:
        return None
    if dataset.asv_key is None:
        return asv_error_rates(read_asv_scores(dataset.asv_scores))
    return asv_error_rates(read_asv_scores_2021(dataset.asv_scores, dataset.asv_key, dataset.split))


@torch.no_grad()
def outputs_of(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    n_trials: int,
    device: torch.device,
    world: World,
) -> NDArray[np.float32]:
    """(n_trials, 2) outputs in the order of the trials, in evaluation mode and float32.

    Args:
        model: Left in the mode it was in.
        batches: This process's part: waves, labels, indices below `n_trials`.
        n_trials: Trials of all processes together.
        device: Where the model is.
        world: The processes that share the trials.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        parts = [
            (indices.numpy(), model(waves.to(device))[1].float().cpu().numpy())
            for waves, _, indices in batches
        ]
    finally:
        model.train(modes[model])  # a module may stand for another that it does not list
        for module, training in modes.items():
            module.training = training
    outputs = np.full((n_trials, 2), np.nan, dtype=np.float32)
    for part in world.gather(parts):
        for indices, values in part:
            outputs[indices] = values
    return outputs


def figures_of(
    outputs: NDArray[np.float32],
    trials: Sequence[Trial],
    class_weights: tuple[float, float],
    asv: AsvErrorRates | None,
) -> DevFigures:
    """Figures of (n, 2) outputs, columns spoof and bona fide; the score is the second.

    Raises:
        TrainingError: An output is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if bad.size:
        raise TrainingError(
            f"The network gives no finite score to {bad.size} of {len(trials)} utterances of the "
            f"development split; first: {trials[int(bad[0])].utterance}.",
            fix="lower optimizer.lr, or set training.clip_norm; what was saved before is kept",
        )
    bonafide = np.array([trial.label == "bonafide" for trial in trials])
    total, weight = weighted_loss(
        torch.from_numpy(outputs),
        torch.from_numpy(bonafide.astype(np.int64)),
        torch.tensor(class_weights),
    )
    scores = outputs[:, 1].astype(np.float64)
    classes = scores[bonafide], scores[~bonafide]
    return DevFigures(
        eer=eer(*classes).eer,
        min_tdcf=None if asv is None else min_tdcf_2019(*classes, asv).value,
        loss=float(total / weight),
    )


def write_dev_scores(path: Path, outputs: NDArray[np.float32], trials: Sequence[Trial]) -> None:
    """Write `utterance attack key score` of each trial.

    Raises:
        OutputError: The place cannot be written.
    """
    write_scores_txt(
        path,
        [
            ScoreRow(utterance=t.utterance, attack=t.attack, label=t.label, score=float(score))
            for t, score in zip(trials, outputs[:, 1], strict=True)
        ],
    )
