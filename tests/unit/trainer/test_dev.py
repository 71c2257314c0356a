"""Figures of the development split, and what the best is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aasist_deploy.errors import TrainingError
from aasist_deploy.metrics import summarize
from aasist_deploy.scores import ScoreTable, read_asv_scores, read_scores
from aasist_deploy.trainer.dev import (
    DevFigures,
    asv_rates_of,
    figures_of,
    outputs_of,
    write_dev_scores,
)
from aasist_deploy.trainer.distributed import World
from aasist_deploy.trials import Dataset, load_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CPU = torch.device("cpu")
WEIGHTS = (0.1, 0.9)


@pytest.fixture(scope="module")
def dev(corpus: Path) -> Dataset:
    return load_dataset("asvspoof2019-la", corpus, "dev")


@pytest.fixture
def outputs(dev: Dataset) -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    made = random.normal(size=(len(dev.trials), 2)).astype(np.float32)
    made[:, 1] += [0.8 if trial.label == "bonafide" else 0.0 for trial in dev.trials]
    return made


def test_figures_are_those_of_the_metrics_with_the_asv_scores_of_dev(
    dev: Dataset, outputs: NDArray[np.float32]
) -> None:
    found = figures_of(outputs, dev.trials, WEIGHTS, asv_rates_of(dev))
    assert dev.asv_scores is not None
    assert ".dev." in dev.asv_scores.name
    table = ScoreTable(
        utterances=tuple(trial.utterance for trial in dev.trials),
        scores=outputs[:, 1].astype(np.float64),
        is_bonafide=np.array([trial.label == "bonafide" for trial in dev.trials]),
        attacks=tuple(trial.attack for trial in dev.trials),
    )
    expected = summarize(table, read_asv_scores(dev.asv_scores))
    assert 0 < found.eer < 0.5
    assert found.eer == expected.eer.eer
    assert expected.min_tdcf_2019 is not None
    assert found.min_tdcf == expected.min_tdcf_2019.value


def test_the_loss_is_the_class_weighted_mean(dev: Dataset, outputs: NDArray[np.float32]) -> None:
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    labels = np.array([int(trial.label == "bonafide") for trial in dev.trials])
    weights = np.array(WEIGHTS)[labels]
    expected = -(weights * log_p[np.arange(len(labels)), labels]).sum() / weights.sum()
    assert figures_of(outputs, dev.trials, WEIGHTS, None).loss == pytest.approx(expected, rel=1e-6)


def test_without_asv_scores_there_is_no_tdcf(dev: Dataset, outputs: NDArray[np.float32]) -> None:
    assert figures_of(outputs, dev.trials, WEIGHTS, None).min_tdcf is None


def test_equal_figures_go_to_the_lower_loss() -> None:
    one = DevFigures(eer=0.1, min_tdcf=0.3, loss=0.5)
    other = DevFigures(eer=0.1, min_tdcf=0.2, loss=0.6)
    assert one.rank("eer") < other.rank("eer")
    assert other.rank("min_tdcf") < one.rank("min_tdcf")
    assert one.rank("loss") < other.rank("loss")
    assert DevFigures.from_dict(one.to_dict()) == one


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_names_the_utterance(
    dev: Dataset, outputs: NDArray[np.float32], bad: float
) -> None:
    outputs[4, 0] = bad
    with pytest.raises(TrainingError, match=f"1 of 14 .* first: {dev.trials[4].utterance}"):
        figures_of(outputs, dev.trials, WEIGHTS, None)


class Counting(nn.Module):
    """Output 1 is the sum of the wave, and 1000 more in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.drop = nn.Dropout(0.5)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        total = self.drop(wave).sum(dim=1) + 1000.0 * self.training
        return wave, torch.stack([torch.zeros_like(total), total], dim=1)


def test_outputs_come_in_the_order_of_the_trials_in_evaluation_mode() -> None:
    model = Counting().train()
    model.norm.eval()  # as a frozen one
    waves = torch.arange(12.0).view(6, 2)
    order = torch.tensor([5, 1, 0, 2, 4, 3])
    batches: list[Any] = [
        (waves[part], torch.zeros(3, dtype=torch.int64), part) for part in torch.split(order, 3)
    ]
    outputs = outputs_of(model, batches, 6, CPU, World())
    np.testing.assert_array_equal(outputs[:, 1], waves.sum(dim=1).numpy())
    assert (model.training, model.drop.training, model.norm.training) == (True, True, False)


def test_modes_come_back_when_scoring_fails() -> None:
    model = Counting().train()
    batch: Any = (torch.zeros(2), None, torch.zeros(1))  # no axis to sum over
    with pytest.raises(IndexError):
        outputs_of(model, [batch], 1, CPU, World())
    assert model.training


def test_written_scores_read_back(
    dev: Dataset, outputs: NDArray[np.float32], tmp_path: Path
) -> None:
    write_dev_scores(tmp_path / "scores.txt", outputs, dev.trials)
    table = read_scores(tmp_path / "scores.txt")
    np.testing.assert_array_equal(table.scores, outputs[:, 1].astype(np.float64))
    assert table.is_bonafide is not None
    assert table.attacks == tuple(trial.attack for trial in dev.trials)
