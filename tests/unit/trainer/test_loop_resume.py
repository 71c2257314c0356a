"""Runs that are killed or asked to stop, and go on as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from aasist_deploy.errors import OutputError
from aasist_deploy.trainer import Recipe, StepDone, train
from aasist_deploy.trainer.log import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeRecipe = Callable[..., Recipe]

OPTIONS: dict[str, Any] = {
    "training.epochs": 3,
    "training.ema_decay": 0.9,
    "training.freq_mask": True,
    "data.crop_samples": 1600,
    "augmentation.gain_db": [-3.0, 3.0],
}


def rows(out: Path) -> list[dict[str, Any]]:
    found = read_rows(out / "log.jsonl")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def assert_same_run(one: Path, other: Path) -> None:
    """To the bit: the log with each step once, the best weights, the average, the figures."""
    assert rows(one) == rows(other)
    for name in ("best.safetensors", "swa.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    for name in ("best.json", "scores.dev.txt"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture
def whole(tiny_recipe: MakeRecipe, launcher: Any, tmp_path: Path) -> tuple[Recipe, Path]:
    recipe = tiny_recipe({"dropout": 0.4}, **OPTIONS)
    code, said = launcher.run(recipe, tmp_path / "whole")
    assert code == 0, said
    return recipe, tmp_path / "whole"


def test_a_run_killed_again_and_again_gives_the_losses_of_an_uninterrupted_one(
    launcher: Any, whole: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, reference = whole
    assert len(rows(reference)) == 9 + 3
    out = tmp_path / "killed"
    # Within an epoch, at the last step of one, and at the last of all; three steps an epoch.
    for number, kill_at in enumerate((2, 3, 5, 9)):
        code, said = launcher.run(
            recipe, out, resume=number > 0, signal_at=kill_at, signal=signal.SIGKILL
        )
        assert code == -signal.SIGKILL, said
        assert json.loads((out / "last.json").read_text())["step"] == (kill_at - 1) // 3 * 3
    code, said = launcher.run(recipe, out, resume=True)
    assert code == 0, said
    assert_same_run(out, reference)


def test_a_state_within_an_epoch_changes_nothing_either(
    tiny_recipe: MakeRecipe, launcher: Any, whole: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe({"dropout": 0.4}, **OPTIONS, **{"run.save_every_steps": 1})
    out = tmp_path / "stepwise"
    for number, kill_at in enumerate((2, 4, 5, 8)):
        code, said = launcher.run(
            recipe, out, resume=number > 0, signal_at=kill_at, signal=signal.SIGKILL
        )
        assert code == -signal.SIGKILL, said
        # The state of the step before was written; that of this step was not.
        assert json.loads((out / "last.json").read_text())["step"] == kill_at - 1
    code, said = launcher.run(recipe, out, resume=True)
    assert code == 0, said
    assert_same_run(out, whole[1])


def test_a_run_killed_at_random_moments_gives_the_same(
    tiny_recipe: MakeRecipe, launcher: Any, whole: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe({"dropout": 0.4}, **OPTIONS, **{"run.save_every_steps": 2})
    out = tmp_path / "random"
    chance = random.Random(11)
    kills = 0
    for attempt in range(40):
        code, said = launcher.run(
            recipe,
            out,
            resume=(out / "recipe.toml").exists(),
            # Longer from time to time, so that it comes to its end on a slow machine too.
            kill_after=chance.uniform(0.02, 0.5) * (1 + attempt / 4),
        )
        if code == 0:
            break
        assert code == -signal.SIGKILL, said
        kills += 1
    else:
        pytest.fail("the run did not come to its end in 40 attempts")
    assert kills >= 2
    assert_same_run(out, whole[1])


def test_a_signal_ends_the_run_after_its_step_with_the_state_saved(
    launcher: Any, whole: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, reference = whole
    out = tmp_path / "asked"
    code, said = launcher.run(recipe, out, signal_at=4, signal=signal.SIGTERM)
    assert code == 1, said
    assert "asked to stop (SIGTERM)" in said
    assert "after step 5 of 9" in said
    assert f"--resume and the run folder {out}" in said
    assert json.loads((out / "last.json").read_text())["step"] == 5
    code, said = launcher.run(recipe, out, resume=True)
    assert code == 0, said
    assert_same_run(out, reference)


def test_signals_are_given_back(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    during: list[Any] = []
    train(
        tiny_recipe(**{"training.epochs": 1}),
        tmp_path / "run",
        on_event=lambda _: during.append(signal.getsignal(signal.SIGTERM)),
    )
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    assert before[0] not in during


def test_the_switches_of_pytorch_are_given_back(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    during: list[bool] = []
    train(
        tiny_recipe(**{"training.epochs": 1, "training.deterministic": True}),
        tmp_path / "run",
        on_event=lambda _: during.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert all(during)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("file", ["", "best.json"])
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(
    file: str, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tiny_recipe(**{"training.epochs": 3}), tmp_path / "full"
    real = Path.open
    full, first = False, 1 if file == "best.json" else 4  # the first epoch is always the best yet

    def open_(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if full and "w" in mode and file in self.name:
            raise OSError(28, "No space left on device")
        return real(self, mode, *arguments, **options)

    def fill(event: object) -> None:
        nonlocal full
        full = full or (isinstance(event, StepDone) and event.step >= first)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(OutputError, match="No space left") as raised:
        train(recipe, out, on_event=fill)
    assert raised.value.fix == f"make room, then go on with --resume and the run folder {out}"
    monkeypatch.undo()
    assert json.loads((out / "last.json").read_text())["step"] == first - 1
    train(recipe, out, resume=True)
    train(recipe, tmp_path / "reference")
    assert_same_run(out, tmp_path / "reference")
