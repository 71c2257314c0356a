"""Two processes that share each batch, over gloo on the CPU, against one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aasist_deploy.errors import PeerLostError, TrainingError, UsageError
from aasist_deploy.trainer import distributed, train
from aasist_deploy.trainer.distributed import (
    SharedBatchNorm,
    World,
    choose_device,
    joined_world,
    share_batch_statistics,
    unused_parameters,
)
from aasist_deploy.trainer.log import read_rows
from aasist_deploy.trainer.prepare import prepare_model, steps_of
from aasist_deploy.trainer.runtime import told_errors
from aasist_deploy.trainer.transfer import freeze

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.trainer import Recipe

    MakeRecipe = Callable[..., Recipe]

CPU = torch.device("cpu")
# float32 sums in another order; measured over nine steps: at most 4.2e-7 (losses, norms) and 1.4e-7
# (weights of size 0.1).
LOSS_RTOL = 2e-6
WEIGHT_ATOL = 1e-6


def environments(size: int) -> list[dict[str, str]]:
    """What torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(size)
    ]


def figures(out: Path, name: str) -> list[float]:
    return [row[name] for row in read_rows(out / "log.jsonl") if name in row]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"training.accumulate": 2, "training.clip_norm": 0.3, "training.ema_decay": 0.9},
    ],
    ids=["plain", "accumulate-clip-ema"],
)
def test_two_processes_give_the_result_of_one(
    tiny_recipe: MakeRecipe, launcher: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    recipe = tiny_recipe(**{"training.epochs": 3, "training.eval_batch_size": 4, **options})
    code, said = launcher.run(recipe, tmp_path / "one")
    assert code == 0, said
    both = launcher.run_together(environments(2), recipe, tmp_path / "two")
    assert [code for code, _ in both] == [0, 0], both
    one, two = tmp_path / "one", tmp_path / "two"
    assert len(figures(one, "loss")) == steps_of(recipe, 3)
    for name in ("loss", "gradient_norm", "train_loss", "dev_loss"):
        np.testing.assert_allclose(figures(two, name), figures(one, name), rtol=LOSS_RTOL)
    for name in ("best.safetensors", "swa.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(b[key], a[key], rtol=0, atol=WEIGHT_ATOL)


def test_a_killed_pair_goes_on_to_the_same_result(
    tiny_recipe: MakeRecipe, launcher: Any, tmp_path: Path
) -> None:
    recipe = tiny_recipe({"dropout": 0.3}, **{"training.epochs": 3})
    launcher.run_together(environments(2), recipe, tmp_path / "whole")
    killed = launcher.run_together(
        environments(2), recipe, tmp_path / "killed", signal_at=5, signal=9
    )
    assert [code for code, _ in killed] == [-9, -9], killed
    both = launcher.run_together(environments(2), recipe, tmp_path / "killed", resume=True)
    assert [code for code, _ in both] == [0, 0], both
    assert figures(tmp_path / "killed", "loss") == figures(tmp_path / "whole", "loss")


def test_all_processes_end_when_one_is_killed(
    tiny_recipe: MakeRecipe, launcher: Any, tmp_path: Path
) -> None:
    ranks = environments(2)
    ranks[1]["AASIST_TEST_DIES"] = "yes"
    code = tmp_path / "dying.py"
    code.write_text(
        """
import os, signal
from torch import nn


class Dying(nn.Module):
    n_samples = 1600

    def __init__(self, config):
        super().__init__()
        self.out, self.batches = nn.Linear(1, 2), 0

    def forward(self, wave):
        self.batches += self.training
        if self.batches == 2 and "AASIST_TEST_DIES" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        embedding = wave.square().mean(dim=1, keepdim=True)
        return embedding, self.out(embedding)
"""
    )
    recipe = tiny_recipe()
    recipe = type(recipe)(
        model=type(recipe.model)(settings=recipe.model.settings, code=f"{code}:Dying"),
        data=recipe.data,
        training=recipe.training,
        run=recipe.run,
    )
    began = time.monotonic()
    codes = [code for code, _ in launcher.run_together(ranks, recipe, tmp_path / "run")]
    assert codes[1] == -9
    assert codes[0] not in {0, -9}  # by itself, not by the launcher's patience
    assert time.monotonic() - began < 100


def test_trouble_with_the_corpus_is_told_by_all_processes(
    tiny_recipe: MakeRecipe, launcher: Any, corpus: Path, tmp_path: Path
) -> None:
    import shutil

    root = tmp_path / "LA"
    shutil.copytree(corpus, root)
    (root / "ASVspoof2019_LA_train" / "flac" / "LA_T_0003.flac").unlink()
    recipe = tiny_recipe(**{"data.root": str(root)})
    both = launcher.run_together(environments(2), recipe, tmp_path / "run")
    assert [code for code, _ in both] == [2, 2]
    assert all("1 of 26 files" in said for _, said in both)


def test_a_batch_that_cannot_be_shared_is_refused(
    tiny_recipe: MakeRecipe, launcher: Any, tmp_path: Path
) -> None:
    recipe = tiny_recipe(**{"training.batch_size": 7})
    both = launcher.run_together(environments(2), recipe, tmp_path / "run")
    assert all(code == 2 and "cannot be shared evenly" in said for code, said in both)


def test_shared_statistics_alone_are_those_of_the_plain_layer() -> None:
    torch.manual_seed(3)
    layers: list[torch.nn.Module] = [
        torch.nn.BatchNorm2d(3),
        torch.nn.BatchNorm1d(3, affine=False),
    ]
    with torch.no_grad():
        layers[0].weight.uniform_(-1, 1)  # type: ignore[operator]
    plain = torch.nn.Sequential(*layers)
    shared: Any = share_batch_statistics(torch.nn.Sequential(*layers), CPU)
    assert all(isinstance(layer, SharedBatchNorm) for layer in shared)
    assert shared.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(4, 3, 5, 6)
    for mode in (True, False):  # training alone is that of the plain layer too
        assert torch.equal(shared[0].train(mode)(x), layers[0].train(mode)(x))
    assert shared[0].weight is layers[0].weight


def test_one_process_is_a_world_of_its_own() -> None:
    with joined_world(CPU) as world:
        assert world == World(rank=0, size=1)
        assert world.gather("here") == ["here"]
        assert world.sum(torch.tensor([2.0])).item() == 2.0


def test_half_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK, MASTER_ADDR, MASTER_PORT"), joined_world(CPU):
        pass


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == torch.device("cuda", 1)
    assert choose_device("cpu") == CPU
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="PyTorch sees 2"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU


@pytest.mark.parametrize(
    ("frozen", "expected"), [((), ["unused.weight", "unused.bias"]), (("unused.*",), [])]
)
def test_parameters_without_a_gradient_are_found(
    tiny_recipe: MakeRecipe, frozen: tuple[str, ...], expected: list[str]
) -> None:
    recipe = tiny_recipe({"dropout": 0.5})
    model = prepare_model(recipe, CPU, World())
    freeze(model, frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert unused_parameters(model, CPU) == expected
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize(
    ("architecture", "unused", "searched"),
    [("AASIST", ["bn1"], True), ("AASIST", [], False), ("custom", [], True)],
)
def test_unused_parameters_are_searched_for_where_there_may_be_some(
    tiny_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    unused: list[str],
    searched: bool,
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(
        distributed, "DistributedDataParallel", lambda _, **named: made.update(named)
    )
    monkeypatch.setattr(distributed, "unused_parameters", lambda *_: unused)
    model = prepare_model(tiny_recipe(), CPU, World())
    monkeypatch.setattr(model, "architecture", architecture)
    World(size=2).share_gradients(model, CPU)
    assert made["find_unused_parameters"] == searched


def test_a_lost_process_is_told_as_such() -> None:
    world = World(rank=0, size=2)
    for error in (RuntimeError("[gloo/tcp/pair.cc] closed"), torch.distributed.DistError("gone")):
        with (
            pytest.raises(PeerLostError, match="Process 0 of 2 has lost"),
            told_errors("A", CPU, world),
        ):
            raise error
    with pytest.raises(RuntimeError, match="other") as caught, told_errors("A", CPU, world):
        raise RuntimeError("other")
    assert not isinstance(caught.value, TrainingError)
    with pytest.raises(RuntimeError, match="gloo"), told_errors("A", CPU, World()):
        raise RuntimeError("gloo")


def torchrun(recipe: Recipe, out: Path) -> subprocess.CompletedProcess[str]:
    (out.parent / "run.toml").write_text(recipe.to_toml())
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    verb = ["-m", "aasist_deploy", "train", str(out.parent / "run.toml"), "--out", str(out)]
    repository = str(Path(__file__).resolve().parents[3])
    return subprocess.run(
        [sys.executable, *launch, *verb],
        env={**os.environ, "PYTHONPATH": repository, "OMP_NUM_THREADS": "1"},
        cwd=out.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_torchrun_gives_the_losses_of_one_process(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(**{"training.epochs": 1})
    train(recipe, tmp_path / "one")
    done = torchrun(recipe, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best.safetensors (") == 1  # one process speaks
    assert "find_unused_parameters" not in done.stderr
    np.testing.assert_allclose(
        figures(tmp_path / "two", "loss"), figures(tmp_path / "one", "loss"), rtol=LOSS_RTOL
    )


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_once_under_torchrun(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    done = torchrun(tiny_recipe(**{"data.root": str(tmp_path / "nothing")}), tmp_path / "run")
    assert done.returncode == 1  # torchrun's own
    assert done.stderr.count("error: ") == 1, done.stderr
    assert done.stderr.count("cannot be listed") == 1, done.stderr


@pytest.mark.parametrize("raised", [ValueError("bad input"), KeyError("x")])
def test_code_of_a_custom_network_that_raises_is_told_in_a_sentence(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def fail(*_: object) -> None:
        raise raised

    model = prepare_model(tiny_recipe(), CPU, World())
    monkeypatch.setattr(model.get_submodule("out"), "forward", fail)
    said = f"failed: {type(raised).__name__}: "
    with pytest.raises(TrainingError, match=said), told_errors("custom", CPU, World()):
        model(torch.zeros(2, 1600))
    with pytest.raises(type(raised)), told_errors("custom", CPU, World()):
        raise type(raised)("ours")  # a fault of the program is not blamed on the network


def test_a_full_memory_of_the_device_is_told_with_a_fix() -> None:
    with (
        pytest.raises(TrainingError, match="The memory of cpu is full: out") as caught,
        told_errors("AASIST", CPU, World()),
    ):
        raise torch.OutOfMemoryError("out\nsecond line")
    assert "batch_size" in str(caught.value.fix)
