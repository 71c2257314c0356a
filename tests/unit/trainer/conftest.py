"""A corpus in the layout of ASVspoof 2019 LA, a tiny network, and recipes for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.trainer import Recipe, load_recipe
from aasist_deploy.trials import Dataset, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

TINY_SAMPLES = 1600

# Bona fide tones are low and spoofs high, so that it learns them; sizes are for speed alone.
TINY_NETWORK = """
import torch
from torch import nn


class Tiny(nn.Module):
    n_samples = 1600

    def __init__(self, config):
        super().__init__()
        n = config.get("channels", 6)
        # Without a bias: before a normalisation its gradient is rounding, which Adam would enlarge.
        self.conv = nn.Conv1d(1, n, 33, stride=16, bias=False)
        self.norm = nn.BatchNorm1d(n) if config.get("norm", True) else nn.Identity()
        self.unused = nn.BatchNorm1d(1)  # as bn1 of the published blocks: run and thrown away
        self.drop = nn.Dropout(config.get("dropout", 0.0))
        self.out = nn.Linear(n, 2)

    def forward(self, wave):
        if self.training:
            self.unused(wave.unsqueeze(1))
        x = torch.selu(self.norm(self.conv(wave.unsqueeze(1))))
        embedding = self.drop(x.square().mean(dim=2))
        return embedding, self.out(embedding)
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 training and 14 dev clips; there is no eval split, so nothing can look at it."""
    root = tmp_path_factory.mktemp("corpus") / "LA"
    write_corpus(root, {"train": 26, "dev": 14})
    return root


def write_corpus(root: Path, sizes: dict[str, int]) -> None:
    random = np.random.default_rng(7)
    protocols = root / "ASVspoof2019_LA_cm_protocols"
    protocols.mkdir(parents=True)
    for split, size in sizes.items():
        folder = root / f"ASVspoof2019_LA_{split}" / "flac"
        folder.mkdir(parents=True)
        lines = []
        for index in range(size):
            name = f"LA_{split[0].upper()}_{index:04d}"
            spoof = index % 3 != 0
            time = np.arange(random.integers(1200, 2400)) / 16_000
            tone = np.sin(2 * np.pi * (2500 if spoof else 300) * time + random.uniform(0, 6))
            wave = 0.3 * tone + 0.2 * random.standard_normal(len(time))
            soundfile.write(folder / f"{name}.flac", np.clip(wave, -1, 1), 16_000)
            lines.append(f"LA_0001 {name} - {'A01 spoof' if spoof else '- bonafide'}\n")
        suffix = "train.trn" if split == "train" else f"{split}.trl"
        (protocols / f"ASVspoof2019.LA.cm.{suffix}.txt").write_text("".join(lines))
    scores = root / "ASVspoof2019_LA_asv_scores"
    scores.mkdir()
    rows = [f"bonafide target {value}\n" for value in random.normal(6, 1, 50)]
    rows += [f"bonafide nontarget {value}\n" for value in random.normal(0, 1, 50)]
    rows += [f"A01 spoof {value}\n" for value in random.normal(4, 1, 50)]
    (scores / "ASVspoof2019.LA.asv.dev.gi.trl.scores.txt").write_text("".join(rows))


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `model.code` says of a network that learns the corpus within seconds."""
    path = tmp_path_factory.mktemp("tiny") / "tiny_network.py"
    path.write_text(TINY_NETWORK)
    return f"{path}:Tiny"


@pytest.fixture
def tiny_recipe(corpus: Path, tiny_network: str, tmp_path: Path) -> Callable[..., Recipe]:
    """(config of the network, "section.key" = value ...) -> a recipe of a second on one core."""

    def make(config: dict[str, Any] | None = None, **values: Any) -> Recipe:
        network = "".join(f"{key} = {toml(value)}\n" for key, value in (config or {}).items())
        path = tmp_path / "tiny.toml"
        path.write_text(
            f'[model]\narchitecture = "custom"\ncode = "{tiny_network}"\n[model.config]\n{network}'
        )
        given = {
            "data.root": str(corpus),
            "data.workers": 0,
            "training.epochs": 2,
            "training.batch_size": 8,
            "training.device": "cpu",
            "optimizer.lr": 1e-2,
            "run.tensorboard": False,
            "run.log_every_steps": 1,
            **values,
        }
        return load_recipe(path, [f"{key}={toml(value)}" for key, value in given.items()])

    return make


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture
def clips(tmp_path: Path, speech: Callable[..., NDArray[np.float32]]) -> Callable[..., Dataset]:
    """(lengths in samples) -> a manifest of clips u0, u1, ...; every third is bona fide."""

    def make(lengths: Sequence[int], suffix: str = "flac", subtype: str = "PCM_16") -> Dataset:
        folder = tmp_path / "clips"
        folder.mkdir(exist_ok=True)
        lines = ["path,label,attack,speaker"]
        for number, length in enumerate(lengths):
            wave = speech(length / 16_000, number)
            soundfile.write(folder / f"u{number}.{suffix}", wave, 16_000, subtype=subtype)
            truth = "bonafide,-" if number % 3 == 0 else f"spoof,A0{number % 3}"
            lines.append(f"u{number}.{suffix},{truth},s{number}")
        (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
        return load_dataset("manifest", folder, "all")

    return make


# Imports PyTorch once and forks for each run: a fresh interpreter would take seconds of every one.
LAUNCHER = """
import json, os, signal, sys, time
from pathlib import Path
import torch
import aasist_deploy.trainer.curves, matplotlib.pyplot
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.trainer import StepDone, load_recipe
from aasist_deploy.trainer.loop import train


def run(order):
    os.environ.update(order.get("environment", {}))
    with open(order["output"], "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    torch.set_num_threads(1)

    def watch(event):
        if isinstance(event, StepDone) and event.step == order.get("signal_at"):
            os.kill(os.getpid(), order["signal"])

    try:
        train(load_recipe(order["recipe"]), order["out"], resume=order["resume"], on_event=watch)
    except AasistDeployError as error:
        print(error, error.fix, flush=True)
        return error.exit_code
    return 0


print("ready", flush=True)
for line in sys.stdin:
    children = {}
    for order in json.loads(line):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = run(order)
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children[pid] = order
    codes = {}
    began = time.monotonic()
    while len(codes) < len(children):
        for pid, order in children.items():
            if pid in codes:
                continue
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - began > order.get("kill_after", 120):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    print(json.dumps([codes[pid] for pid in children]), flush=True)
"""


class Launcher:
    """Runs trainings in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        repository = Path(__file__).resolve().parents[3]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LAUNCHER],
            env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def run(
        self, recipe: Recipe, out: Path, *, resume: bool = False, **order: Any
    ) -> tuple[int, str]:
        """One process -> its exit code (below 0: the signal that ended it) and what it said."""
        ((code, said),) = self.run_together([{}], recipe, out, resume=resume, **order)
        return code, said

    def run_together(
        self,
        environments: list[dict[str, str]],
        recipe: Recipe,
        out: Path,
        *,
        resume: bool = False,
        **order: Any,
    ) -> list[tuple[int, str]]:
        """A process for each environment, at the same time."""
        file = self._folder / "recipe.toml"
        file.write_text(recipe.to_toml())
        orders = [
            {
                "recipe": str(file),
                "out": str(out),
                "resume": resume,
                "output": str(self._folder / f"output-{number}.txt"),
                "environment": environment,
                **order,
            }
            for number, environment in enumerate(environments)
        ]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._line())
        said = [Path(each["output"]).read_text() for each in orders]
        return list(zip(codes, said, strict=True))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    made = Launcher(tmp_path_factory.mktemp("launcher"))
    yield made
    made.close()
