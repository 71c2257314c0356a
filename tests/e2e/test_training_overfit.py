"""Each architecture learns sixteen clips by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.models import load_checkpoint
from aasist_deploy.trainer import EpochDone, Started, load_recipe, train
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[2]
N_SAMPLES = 7_000  # three nodes on the time axis, near the fewest that AASIST takes
BF16 = {"training.precision": "bf16", "training.channels_last": True}  # 2.7 times as fast here
# AASIST and RawGAT-ST as published but for the window; RawNet2 with smaller recurrent and linear
# layers.
RECIPES: dict[str, dict[str, Any]] = {
    "aasist": {**BF16, "optimizer.lr": 3e-3},
    "aasist-l": {**BF16, "optimizer.lr": 3e-3},
    "rawgat-st": {
        **BF16,
        "model.nb_samp": 4_600,  # two nodes on the time axis, the fewest that it takes
        "optimizer.lr": 1e-2,
        "training.batch_size": 4,  # four times the steps at the same cost
    },
    "rawnet2": {
        "model.gru_node": 64,
        "model.nb_fc_node": 64,
        "model.nb_gru_layer": 1,
        "optimizer.lr": 1e-3,
        "training.batch_size": 4,
        "training.epochs": 40,
    },
}
# Running variances start at 1, those of sinc outputs are hundreds of times smaller, and a step
# takes off a tenth of the difference: evaluation mode needs dozens of steps.
MAX_EPOCHS = 100
# The published counts, but for the projection of the nodes of time: RawGAT-ST keeps 2 here, not 23.
N_PARAMETERS = {"aasist": 297_866, "aasist-l": 85_306, "rawgat-st": 437_034 - 12 * (23 - 2)}


def sixteen_clips(folder: Path, n_samples: int) -> Path:
    """A manifest of the middles of 16 demo clips at full level, eight of each class."""
    trials = load_dataset("manifest", REPOSITORY / "examples" / "demo_clips", "all").trials
    folder.mkdir()
    lines = ["path,label\n"]
    for label in ("bonafide", "spoof"):
        for trial in [each for each in trials if each.label == label][:8]:
            wave, rate = soundfile.read(trial.path, dtype="float32")
            assert rate == 16_000
            start = (len(wave) - n_samples) // 2
            name = f"{trial.path.stem}.wav"
            middle = wave[start : start + n_samples]
            soundfile.write(folder / name, middle / np.abs(middle).max(), rate, subtype="FLOAT")
            lines.append(f"{name},{label}\n")
    path = folder / "sixteen.csv"
    path.write_text("".join(lines))
    return path


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", RECIPES)
def test_sixteen_clips_are_learnt_without_an_error(name: str, tmp_path: Path) -> None:
    n_samples = RECIPES[name].get("model.nb_samp", N_SAMPLES)
    sixteen = sixteen_clips(tmp_path / "clips", n_samples)
    values = {
        "model.nb_samp": N_SAMPLES,
        "data.root": str(sixteen),
        "data.dataset": "manifest",
        "data.train_split": "all",
        "data.dev_split": "all",
        "data.workers": 0,
        "training.epochs": MAX_EPOCHS,
        "training.batch_size": 16,
        "training.class_weights": [0.5, 0.5],
        "training.select": "loss",
        "training.swa": False,
        "training.device": "cpu",
        "optimizer.weight_decay": 0.0,
        "run.tensorboard": False,
        **RECIPES[name],
    }
    recipe = load_recipe(name, [f"{key}={json.dumps(value)}" for key, value in values.items()])

    class Learnt(Exception):
        pass

    counts: list[int] = []

    def watch(event: object) -> None:
        """The dev split is the training split: an epoch's best weights are those of its clips."""
        if isinstance(event, Started) and name in N_PARAMETERS:
            assert event.n_parameters == N_PARAMETERS[name]
        if isinstance(event, EpochDone) and event.is_best and event.dev.eer == 0:
            counts.append(n_errors(tmp_path / "run", sixteen))
            if counts[-1] == 0:
                raise Learnt

    with pytest.raises(Learnt):
        train(recipe, tmp_path / "run", on_event=watch)


def n_errors(run: Path, manifest: Path) -> int:
    """Clips that the best weights, in evaluation mode, take for the other class."""
    import torch

    model = load_checkpoint(run / "best.safetensors").model
    assert not model.training
    trials = load_dataset("manifest", manifest, "all").trials
    assert len(trials) == 16
    waves: NDArray[np.float32] = np.stack(
        [soundfile.read(trial.path, dtype="float32")[0] for trial in trials]
    )
    with torch.no_grad():
        taken = model(torch.from_numpy(waves))[1].argmax(dim=1).tolist()
    return sum(
        (trial.label == "bonafide") != bool(decision)
        for trial, decision in zip(trials, taken, strict=True)
    )
