"""The training loop on a network and a corpus of seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aasist_deploy.errors import (
    RecipeError,
    ShapeError,
    TrainingError,
    TrialsError,
    UsageError,
)
from aasist_deploy.models import load_checkpoint
from aasist_deploy.scores import read_scores
from aasist_deploy.trainer import (
    EpochDone,
    Recipe,
    Started,
    StateSaved,
    StepDone,
    load_recipe,
    loop,
    train,
)
from aasist_deploy.trainer.log import read_rows
from aasist_deploy.trainer.schedule import lr_at
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.trainer.events import Event

    MakeRecipe = Callable[..., Recipe]


def losses(out: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_rows(out / "log.jsonl") if "loss" in row}


@pytest.fixture
def finished(tiny_recipe: MakeRecipe, tmp_path: Path) -> tuple[Path, Recipe, list[Any]]:
    events: list[Any] = []
    recipe = tiny_recipe(**{"training.epochs": 6})
    train(recipe, tmp_path / "run", on_event=events.append)
    return tmp_path / "run", recipe, events


def test_a_run_learns_its_corpus(finished: tuple[Path, Recipe, list[Any]]) -> None:
    out, _, events = finished
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert epochs[-1].loss < epochs[0].loss / 2
    assert min(each.dev.eer for each in epochs) == 0.0
    assert len(losses(out)) == 6 * 3  # 26 clips in batches of 8, the rest left out


def test_events_tell_every_step_epoch_and_saved_state(
    finished: tuple[Path, Recipe, list[Any]],
) -> None:
    out, recipe, events = finished
    assert isinstance(events[0], StateSaved)
    assert events[0].step == 0
    assert isinstance(events[1], Started)
    assert (events[1].n_train, events[1].n_dev, events[1].n_steps) == (26, 14, 18)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [step.step for step in steps] == list(range(1, 19))
    assert [step.lr for step in steps] == [lr_at(step, 18, recipe) for step in range(18)]
    assert {step.step: step.loss for step in steps} == losses(out)
    saved = [event.step for event in events if isinstance(event, StateSaved)]
    assert saved == [0, 3, 6, 9, 12, 15, 18]


def test_first_and_last_step_are_logged_however_few_are(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    train(tiny_recipe(**{"run.log_every_steps": 4}), tmp_path / "run")
    assert list(losses(tmp_path / "run")) == [1, 4, 6]


def test_the_best_weights_are_those_of_the_best_epoch_on_dev(
    tiny_recipe: MakeRecipe, tiny_network: str, corpus: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    recipe = tiny_recipe(**{"training.epochs": 4, "training.swa": False, "training.select": "loss"})
    result = train(recipe, tmp_path / "run", on_event=events.append)
    epochs = [event for event in events if isinstance(event, EpochDone)]
    best = min(epochs, key=lambda epoch: epoch.dev.loss)
    assert (result.best_epoch, result.dev) == (best.epoch, best.dev)
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == best.epoch
    # The scores beside it are what the file of weights gives.
    model = load_checkpoint(result.best, code=tiny_network).model
    dev = load_dataset("asvspoof2019-la", corpus, "dev")
    table = read_scores(tmp_path / "run" / "scores.dev.txt")
    assert table.utterances == tuple(trial.utterance for trial in dev.trials)
    from aasist_deploy.audio import fit_length, read_audio

    waves = np.stack([fit_length(read_audio(t.path).wave, 1600) for t in dev.trials])
    with torch.no_grad():
        output = model(torch.from_numpy(waves))[1]
    np.testing.assert_allclose(table.scores, output[:, 1].numpy(), atol=1e-5)


def test_the_result_says_which_figures_belong_to_which_weights(
    finished: tuple[Path, Recipe, list[Any]],
) -> None:
    out, _, _ = finished
    best = json.loads((out / "best.json").read_text())
    assert best["select"] == "eer"
    assert best["from"] == ("swa" if best["epoch"] is None else f"epoch {best['epoch']}")
    assert (out / "swa.safetensors").is_file()
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_recipe_gives_the_same_weights(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe({"dropout": 0.3})
    for name in ("a", "b"):
        train(recipe, tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    a, b = (load_file(tmp_path / name / "best.safetensors") for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    other = replace(recipe, training=replace(recipe.training, seed=99))
    train(other, tmp_path / "c")
    assert losses(tmp_path / "c") != losses(tmp_path / "a")


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer.name": "adamw", "training.clip_norm": 0.5, "training.ema_decay": 0.9},
        {"training.precision": "bf16", "training.channels_last": True},
        {"schedule.name": "constant", "training.accumulate": 3, "training.drop_last": False},
        pytest.param({"training.compile": True, "training.epochs": 4}, marks=pytest.mark.slow),
    ],
    ids=["adamw-clip-ema", "bf16-channels-last", "constant-accumulate", "compile"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of compilers
def test_options_train_too(
    tiny_recipe: MakeRecipe, tmp_path: Path, options: dict[str, Any]
) -> None:
    events: list[Any] = []
    recipe = tiny_recipe(**{"training.epochs": 8, **options})
    train(recipe, tmp_path / "run", on_event=events.append)
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert epochs[-1].loss < epochs[0].loss


def test_the_moving_average_is_what_is_scored_and_kept(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        **{"training.ema_decay": 0.99, "training.swa": False, "training.epochs": 1}
    )
    train(recipe, tmp_path / "run")
    state = torch.load(tmp_path / "run/checkpoints/step-000000003.pt", weights_only=True)
    best = load_file(tmp_path / "run" / "best.safetensors")
    assert torch.equal(best["conv.weight"], state["ema"]["weights.conv.weight"])
    assert not torch.equal(best["conv.weight"], state["model"]["conv.weight"])


def test_frozen_parameters_and_statistics_stay(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(**{"training.freeze": ["conv.*", "norm.*"], "training.swa": True})
    started: list[Any] = []
    train(recipe, tmp_path / "run", on_event=started.append)
    first, last = (
        torch.load(tmp_path / f"run/checkpoints/step-{step:09d}.pt", weights_only=True)["model"]
        for step in (3, 6)
    )
    for name in ("conv.weight", "norm.weight", "norm.running_mean", "norm.running_var"):
        assert torch.equal(first[name], last[name])
    assert not torch.equal(first["out.weight"], last["out.weight"])
    assert [e.frozen for e in started if isinstance(e, Started)] == [
        ("conv.weight", "norm.weight", "norm.bias")
    ]


def test_training_starts_from_given_weights(
    tiny_recipe: MakeRecipe, finished: tuple[Path, Recipe, list[Any]], tmp_path: Path
) -> None:
    out, _, _ = finished
    init = str(out / "best.safetensors")
    events: list[Any] = []
    recipe = tiny_recipe(**{"training.init": init, "training.epochs": 1})
    train(recipe, tmp_path / "more", on_event=events.append)
    first = next(event for event in events if isinstance(event, StepDone))
    assert first.loss < losses(out)[1] / 4


def test_a_teacher_changes_what_is_learnt(
    tiny_recipe: MakeRecipe, finished: tuple[Path, Recipe, list[Any]], tmp_path: Path
) -> None:
    out, _, _ = finished
    options = {"training.teacher": str(out / "best.safetensors"), "training.epochs": 1}
    train(tiny_recipe(**options), tmp_path / "taught")
    train(tiny_recipe(**{"training.epochs": 1}), tmp_path / "alone")
    taught, alone = losses(tmp_path / "taught"), losses(tmp_path / "alone")
    assert taught[1] != alone[1]  # the same weights and batch, another loss


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_value_that_is_not_finite_stops_with_the_utterances_named(
    tiny_recipe: MakeRecipe, corpus: Path, tmp_path: Path, what: str
) -> None:
    code = tmp_path / "breaking.py"
    # After four batches the output, or the gradient alone, is NaN.
    code.write_text(
        """
import torch
from torch import nn


class Break(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class Breaking(nn.Module):
    n_samples = 1600

    def __init__(self, config):
        super().__init__()
        self.out = nn.Linear(1, 2)
        self.what, self.batches = config["what"], 0

    def forward(self, wave):
        embedding = wave.square().mean(dim=1, keepdim=True)
        output = self.out(embedding)
        if self.training:
            self.batches += 1
            if self.batches > 4:
                output = output * float("nan") if self.what == "loss" else Break.apply(output)
        return embedding, output
"""
    )
    recipe = tiny_recipe({"what": what})
    recipe = replace(recipe, model=replace(recipe.model, code=f"{code}:Breaking"))
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match=f"The {what} is not finite in epoch 2, step 5") as info:
        train(recipe, out)
    names = str(info.value).partition("batch: ")[2].rstrip(".").split(", ")
    known = {t.utterance for t in load_dataset("asvspoof2019-la", corpus, "train").trials}
    assert len(names) == 8
    assert set(names) <= known
    state = torch.load(out / "checkpoints/step-000000003.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())
    assert json.loads((out / "last.json").read_text())["step"] == 3
    assert list(losses(out)) == [1, 2, 3, 4]


def test_a_run_is_not_begun_over_another(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    with pytest.raises(UsageError, match="There is no run in"):
        train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already"):
        train(recipe, tmp_path / "run")


def test_a_finished_run_that_is_resumed_gives_its_result_again(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    first = train(recipe, tmp_path / "run")
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    again = train(recipe, tmp_path / "run", resume=True)
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log


def test_a_changed_recipe_is_refused_on_resume_by_its_keys(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    train(recipe, tmp_path / "run")
    changed = replace(recipe, optimizer=replace(recipe.optimizer, lr=0.5))
    with pytest.raises(TrainingError, match=r"different are optimizer\.lr\."):
        train(changed, tmp_path / "run", resume=True)
    moved = replace(recipe, data=replace(recipe.data, workers=1))
    train(moved, tmp_path / "run", resume=True)


def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ShapeError, match="exactly 1600"):
        train(tiny_recipe(**{"data.crop_samples": 800}), out)
    with pytest.raises(UsageError, match="fewer than one batch"):
        train(tiny_recipe(**{"training.batch_size": 64}), out)
    with pytest.raises(UsageError, match=r"No parameter"):
        train(tiny_recipe(**{"training.freeze": ["encoder.*"]}), out)
    recipe = tiny_recipe()
    with pytest.raises(RecipeError, match=r"data\.root is left out"):
        train(replace(recipe, data=replace(recipe.data, root=None)), out)
    with pytest.raises(TrialsError):
        train(replace(recipe, data=replace(recipe.data, root=str(tmp_path))), out)
    assert not out.exists()


def test_a_built_in_network_trains_to_a_file_that_needs_no_option(
    corpus: Path, small_config: dict[str, Any], tmp_path: Path
) -> None:
    settings = [
        f"model.{key}={json.dumps(value)}"
        for key, value in small_config.items()
        if key != "architecture"
    ]
    recipe = load_recipe(
        "aasist",
        [
            f'data.root="{corpus}"', "data.workers=0", "data.limit_train=6", "data.limit_dev=4",
            "training.epochs=1", "training.batch_size=3", "training.device=cpu",
            "training.freq_mask=true", "run.tensorboard=false", *settings,
        ],
    )  # fmt: skip
    result = train(recipe, tmp_path / "run")
    checkpoint = load_checkpoint(result.best)
    assert checkpoint.architecture == "AASIST"
    assert checkpoint.recipe == recipe.to_toml()
    state = load_checkpoint(tmp_path / "run/checkpoints/step-000000002.pt")
    assert state.config == checkpoint.config


def test_the_curves_are_drawn_while_training(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bool] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochDone):
            drawn.append((tmp_path / "run" / "curves.png").exists())
            (tmp_path / "run" / "curves.png").unlink(missing_ok=True)

    monkeypatch.setattr(loop, "DRAW_EVERY_SECONDS", 0.0)
    train(tiny_recipe(**{"training.epochs": 2}), tmp_path / "run", on_event=watch)
    assert drawn == [True, True]
    assert (tmp_path / "run" / "curves.png").exists()


def test_running_statistics_begin_with_the_first_batch(
    tiny_recipe: MakeRecipe, tiny_network: str, corpus: Path, tmp_path: Path
) -> None:
    from aasist_deploy.audio import fit_length, read_audio

    # Weights stay as they were, so that statistics of all steps are of the same network. From
    # variances of 1 a tenth of the difference a step would leave 0.73 and more after three steps.
    fixed = {"optimizer.lr": 1e-9, "schedule.lr_min": 1e-9, "optimizer.weight_decay": 0.0}
    recipe = tiny_recipe(**fixed, **{"training.epochs": 1, "training.swa": False})
    result = train(recipe, tmp_path / "run")
    network: Any = load_checkpoint(result.best, code=tiny_network).model
    (norm,) = [m for name, m in network.named_modules() if name.endswith("norm")]
    (conv,) = [m for name, m in network.named_modules() if name.endswith("conv")]
    trials = load_dataset("asvspoof2019-la", corpus, "train").trials
    waves = np.stack([fit_length(read_audio(t.path).wave[:1600], 1600) for t in trials])
    with torch.no_grad():
        variance = conv(torch.from_numpy(waves).unsqueeze(1)).var(dim=(0, 2))
    assert float(variance.max()) < 0.2
    # Batches of 8 of 26 clips: measured within 20 % of the whole.
    np.testing.assert_allclose(norm.running_var.numpy(), variance.numpy(), rtol=0.5)


def test_statistics_of_initial_weights_are_kept(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tiny_recipe(**{"training.epochs": 1}), tmp_path / "first").best

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(loop, "update_batch_norm", never)
    recipe = tiny_recipe(
        **{"training.init": str(first), "training.epochs": 1, "training.swa": False}
    )
    train(recipe, tmp_path / "second")


def test_a_run_ends_well_where_its_curves_cannot_be_drawn(
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'")

    monkeypatch.setattr("aasist_deploy.trainer.curves.draw", lacking)
    result = train(tiny_recipe(), tmp_path / "run")
    assert result.best.is_file()
    assert not (tmp_path / "run" / "curves.png").exists()
    assert "curves.png is not drawn: No module named 'matplotlib'" in caplog.text
