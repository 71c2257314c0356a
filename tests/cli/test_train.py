from __future__ import annotations

import importlib
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboardX", reason="needs the extra train")
pytest.importorskip("tomlkit", reason="needs the extra train")

from aasist_deploy import extras
from aasist_deploy.errors import EnvironmentLacks, PeerLostError, TrainingError
from aasist_deploy.trainer import loop
from aasist_deploy.trainer.dev import DevFigures
from aasist_deploy.trainer.events import EpochDone, Started, StepDone, TrainingResult
from aasist_deploy.trainer.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

train_verb = importlib.import_module("aasist_deploy.cli.train")  # the verb hides its module
DEV = DevFigures(eer=0.0421, min_tdcf=0.1234, loss=0.3)
NETWORK = """\
from torch import nn

class Tiny(nn.Module):
    any_length = True
    min_samples = 100

    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, wave):
        import torch
        features = torch.stack([wave.abs().mean(1), wave.abs().amax(1)], 1)
        return features, self.linear(features)
"""


class FakeRun:
    """In place of the loop: keeps what it was called with, and tells of two epochs."""

    def __init__(self) -> None:
        self.recipe = Recipe()
        self.resume: bool | None = None
        self.n_calls = 0
        self.watched: bool | None = None
        self.error: Exception | None = None
        self.best_epoch: int | None = 2

    def __call__(
        self, recipe: Recipe, out: Path, *, resume: bool, on_event: Callable[[Any], None] | None
    ) -> TrainingResult:
        self.recipe, self.resume, self.watched = recipe, resume, on_event is not None
        self.n_calls += 1
        if self.error is not None:
            raise self.error
        tell = on_event or (lambda _: None)
        tell(
            Started(n_train=8, n_dev=4, n_steps=4, first_step=0, n_parameters=85_306,
                    frozen=("a", "b"), device="cpu", reports=(), n_processes=1)
        )  # fmt: skip
        for epoch in (1, 2):
            tell(
                StepDone(epoch=epoch, step=2 * epoch, n_steps=4, loss=0.5, lr=1e-4,
                         gradient_norm=1.0, seconds=0.1)
            )  # fmt: skip
            tell(
                EpochDone(epoch=epoch, n_epochs=2, loss=0.51, dev=DEV, is_best=epoch == 2,
                          seconds=1.2)
            )  # fmt: skip
        return TrainingResult(
            out=out, best=out / "best.safetensors", best_epoch=self.best_epoch, dev=DEV,
            swa=out / "swa.safetensors", swa_dev=DEV, n_steps=4, seconds=2.5,
        )  # fmt: skip


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr(loop, "train", fake)
    monkeypatch.delenv("RANK", raising=False)
    return fake


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a corpus of twelve short clips, a tiny network and its recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    random = np.random.default_rng(0)
    (tmp_path / "corpus").mkdir()
    lines = ["path,label,split"]
    for index in range(12):
        label = ("bonafide", "spoof")[index % 2]
        wave = random.normal(size=800) * (0.3 if label == "spoof" else 0.03)
        soundfile.write(tmp_path / "corpus" / f"{index}.wav", wave.clip(-1, 1), 16_000)
        lines.append(f"{index}.wav,{label},{'train' if index < 8 else 'dev'}")
    (tmp_path / "corpus" / "manifest.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "my.toml").write_text(
        "[model]\narchitecture = 'custom'\ncode = 'net.py:Tiny'\nn_samples = 800\n"
        "[data]\ndataset = 'manifest'\nworkers = 0\n[training]\nepochs = 1\nbatch_size = 4\n"
        "device = 'cpu'\n[run]\ntensorboard = false\n"
    )
    return tmp_path


def conf(folder: Path) -> Path:
    content = {
        "database_path": "./LA/", "model_path": "x.pth", "batch_size": 24, "num_epochs": 100,
        "model_config": load_recipe("aasist").model.settings,
        "optim_config": {"optimizer": "adam", "base_lr": 0.0001, "scheduler": "cosine"},
    }  # fmt: skip
    path = folder / "AASIST.conf"
    path.write_text(json.dumps(content))
    return path


def test_published_form_of_the_command_trains_its_recipe(
    cli: Any, fake_run: FakeRun, tmp_path: Path
) -> None:
    result = cli("train", "--config", conf(tmp_path), "--root", "LA", "--out", tmp_path / "run",
                 "--set", "epochs=1")  # fmt: skip
    assert result.code == 0, result.err
    assert fake_run.recipe == load_recipe("aasist", ["root=LA", "epochs=1"])
    assert fake_run.resume is False
    assert "no effect here: model_path" in result.err


def test_options_are_keys_of_the_recipe(cli: Any, fake_run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / 'a "b".pth').touch()
    init = tmp_path / 'a "b".pth'
    result = cli(
        "train", "aasist-l", "--root", "x", "--out", tmp_path / "run", "--dataset", "manifest",
        "--init", init, "--teacher", "t.pth", "--freeze", "encoder.*", "--freeze", "GAT*",
        "--device", "cpu", "--set", "lr=1e-5", "--resume",
    )  # fmt: skip
    assert result.code == 0, result.err
    training, data = fake_run.recipe.training, fake_run.recipe.data
    assert (training.init, training.teacher, training.device) == (str(init), "t.pth", "cpu")
    assert training.freeze == ("encoder.*", "GAT*")
    assert (data.root, data.dataset) == ("x", "manifest")
    assert fake_run.recipe.optimizer.lr == 1e-5
    assert fake_run.resume is True


def test_published_name_to_start_from_is_pulled(
    cli: Any, fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = []

    def pull(name: str) -> Path:
        pulled.append(name)
        return tmp_path / f"{name}.pth"

    monkeypatch.setattr(sys.modules["aasist_deploy.cli.train"], "pull", pull)
    monkeypatch.chdir(tmp_path)
    options = ("--root", "x", "--out", "run", "--init", "aasist-l", "--teacher", "aasist")
    assert cli("train", "aasist-l", *options).code == 0
    assert pulled == ["aasist-l", "aasist"]
    assert fake_run.recipe.training.init == str(tmp_path / "aasist-l.pth")
    assert fake_run.recipe.training.teacher == str(tmp_path / "aasist.pth")


def test_file_with_a_published_name_wins(
    cli: Any, fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aasist").touch()
    assert cli("train", "aasist-l", "--root", "x", "--out", "run", "--init", "aasist").code == 0
    assert fake_run.recipe.training.init == "aasist"


def test_code_on_the_command_line_makes_a_recipe_without_it_whole(
    cli: Any, fake_run: FakeRun, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text("[model]\narchitecture = 'custom'\n")
    options = ("--root", "x", "--out", tmp_path / "run", "--code", "net.py:Net")
    result = cli("train", tmp_path / "my.toml", *options)
    assert result.code == 0, result.err
    assert fake_run.recipe.model.code == "net.py:Net"
    assert f"-o {tmp_path / 'run' / 'best.onnx'} --code net.py:Net" in result.err


@pytest.mark.usefixtures("fake_run")
def test_epochs_go_to_stderr_and_the_result_to_stdout(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "[x] run"
    result = cli("train", "aasist", "--root", "/data/L A", "--out", out)
    assert result.code == 0
    assert "epoch 1/2  loss 0.5100  dev EER 4.21 %  min t-DCF 0.1234  1 s\n" in result.err
    assert (
        "epoch 2/2  loss 0.5100  dev EER 4.21 %  min t-DCF 0.1234  1 s  best so far" in result.err
    )
    assert "85,306 parameters, 2 tensors of them frozen" in result.err
    best = f"{out}/best.safetensors (epoch 2): dev EER 4.21 %  min t-DCF 0.1234"
    assert result.out.splitlines()[0] == best
    commands = [
        shlex.split(line) for line in result.err.splitlines() if line.startswith("  aasist")
    ]
    assert commands == [
        ["aasist-deploy", "export", f"{out}/best.safetensors", "-o", f"{out}/best.onnx"],
        ["aasist-deploy", "eval", f"{out}/best.onnx", "--dataset", "asvspoof2019-la",
         "--root", "/data/L A", "--split", "eval", "--out", f"{out}/results"],
    ]  # fmt: skip


def test_result_as_json(cli: Any, fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run.best_epoch = None
    result = cli("train", "aasist", "--root", "x", "--out", tmp_path / "run", "--json")
    content = json.loads(result.out)
    assert content["best"] == str(tmp_path / "run" / "best.safetensors")
    assert content["best_epoch"] is None
    assert content["dev"] == {"eer_percent": pytest.approx(4.21), "min_tdcf": 0.1234, "loss": 0.3}
    assert content["n_steps"] == 4


def test_only_the_first_process_of_torchrun_prints(
    cli: Any, fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    result = cli("train", "--config", conf(tmp_path), "--root", "x", "--out", tmp_path / "run")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (fake_run.n_calls, fake_run.watched) == (1, False)
    monkeypatch.setenv("RANK", "0")
    result = cli("train", "--config", conf(tmp_path), "--root", "x", "--out", tmp_path / "run")
    assert "dev EER" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("aasist", "--root", "x"), "--out is missing"),
        (("--root", "x", "--out", "run"), "No recipe is given"),
        (("aasist", "--config", "a.conf", "--root", "x", "--out", "run"), "are given"),
        (("aasist", "--out", "run"), "where the corpus asvspoof2019-la is"),
        (("--out", "run", "--resume"), "There is no run in run that could go on"),
        (("aasits", "--root", "x", "--out", "run"), "There is no recipe 'aasits'"),
        (("aasist", "--root", "x", "--out", "run", "--set", "epoch=1"), "has no key 'epoch'"),
        (("aasist", "--root", "x", "--out", "run", "--device", "tpu"), "training.device takes"),
    ],
)
def test_wrong_usage_is_one_message_and_nothing_is_started(
    arguments: tuple[str, ...],
    message: str,
    cli: Any,
    fake_run: FakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("train", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("error:") == 1
    assert fake_run.n_calls == 0
    assert list(tmp_path.iterdir()) == []


def test_training_that_cannot_go_on_is_exit_code_1(
    cli: Any, fake_run: FakeRun, tmp_path: Path
) -> None:
    fake_run.error = TrainingError("The loss is not finite.", fix="lower the rate")
    result = cli("train", "aasist", "--root", "x", "--out", tmp_path / "run")
    assert result.code == 1
    assert "error: The loss is not finite." in result.err


def test_missing_package_is_named_with_the_command_that_installs_it(
    cli: Any, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    result = cli("train", "aasist", "--root", "x", "--out", "run")
    assert result.code == 3
    assert "Training needs the package torch" in result.err
    assert "pip install 'aasist-deploy[train]'" in result.err
    assert fake_run.n_calls == 0


def test_dry_run_shows_recipe_and_corpus_and_writes_nothing(cli: Any, project: Path) -> None:
    before = sorted(project.rglob("*"))
    result = cli("train", "my.toml", "--root", "corpus", "--dry-run")
    assert result.code == 0, result.err
    assert "manifest train: 8 trials, 4 bona fide, 4 spoof" in result.err
    assert "manifest dev: 4 trials, 2 bona fide, 2 spoof" in result.err
    assert "2 steps on cpu, windows of 800 samples, 6 parameters" in result.err
    assert [p for p in sorted(project.rglob("*")) if "__pycache__" not in p.parts] == before
    (project / "shown.toml").write_text(result.out)
    assert load_recipe("shown.toml") == load_recipe("my.toml", ["root=corpus"])


def test_dry_run_as_json(cli: Any, project: Path) -> None:
    result = cli("train", project / "my.toml", "--root", "corpus", "--dry-run", "--json")
    content = json.loads(result.out)
    assert content["recipe"]["training"]["epochs"] == 1
    assert [report["n_spoof"] for report in content["reports"]] == [4, 2]
    assert content["n_parameters"] == 6


def test_dry_run_refuses_what_training_would(cli: Any, project: Path) -> None:
    (project / "corpus" / "3.wav").unlink()
    result = cli("train", "my.toml", "--root", "corpus", "--dry-run")
    assert result.code == 2
    assert "1 of 8 files" in result.err


def test_run_is_neither_overwritten_nor_gone_on_with_by_another_recipe(
    cli: Any, project: Path
) -> None:
    command = ("train", "my.toml", "--root", "corpus", "--out", "run")
    first = cli(*command)
    assert first.code == 0, first.err
    before = {p: p.read_bytes() for p in (project / "run").rglob("*") if p.is_file()}
    again = cli(*command)
    assert again.code == 2
    assert "holds a run already" in again.err
    assert "--resume" in again.err
    other = cli(*command, "--resume", "--set", "epochs=2", "--set", "lr=1e-5")
    assert other.code == 1
    assert "different are training.epochs, optimizer.lr" in other.err
    assert {p: p.read_bytes() for p in (project / "run").rglob("*") if p.is_file()} == before


def test_finished_run_is_resumed_from_its_folder_alone(cli: Any, project: Path) -> None:
    first = cli("train", "my.toml", "--root", "corpus", "--out", "run", "--json")
    resumed = cli("train", "--out", "run", "--resume", "--set", "workers=1", "--json")
    assert resumed.code == 0, resumed.err
    told, told_again = json.loads(first.out), json.loads(resumed.out)
    assert told_again["dev"] == told["dev"]
    assert told_again["n_steps"] == told["n_steps"] == 2
    assert (project / "run" / "best.safetensors").is_file()


def test_errors_of_several_processes_are_told_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(train_verb.time, "sleep", waited.append)
    for leading, error, wait in (
        (True, TrainingError("all"), []),
        (False, TrainingError("all"), [train_verb.COMMON_ERROR_WAIT_SECONDS]),
        (True, PeerLostError("lost"), [train_verb.PEER_LOST_WAIT_SECONDS]),
        (False, PeerLostError("lost"), [train_verb.PEER_LOST_WAIT_SECONDS]),
    ):
        waited.clear()
        with pytest.raises(TrainingError), train_verb._errors_in_turn(leading=leading):
            raise error
        assert waited == wait
    assert train_verb.PEER_LOST_WAIT_SECONDS > train_verb.COMMON_ERROR_WAIT_SECONDS


def test_the_packages_of_event_files_are_not_needed_to_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tensorboardX" else name)
    extras.require_train_packages("Training needs")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tomlkit" else name)
    with pytest.raises(EnvironmentLacks, match="tomlkit"):
        extras.require_train_packages("Training needs")
