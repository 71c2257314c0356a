from __future__ import annotations

import inspect
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aasist_deploy import open_engine
from aasist_deploy.contract import read_contract
from aasist_deploy.errors import UsageError
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.models import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint

N_SAMPLES, MIN_SAMPLES = 4_000, 1_000
ATOL = 1e-5


class Small(nn.Module):
    """A network that is right at any size; the bad ones below change its `pooled`."""

    n_samples, min_samples, any_length = N_SAMPLES, MIN_SAMPLES, True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, config["channels"], 33, stride=16)
        self.out = nn.Linear(config["channels"], 2)

    def frames(self, wave: Tensor) -> Tensor:
        frames: Tensor = self.conv(wave.unsqueeze(1)).abs().transpose(1, 2)
        return frames

    def pooled(self, x: Tensor) -> Tensor:
        return torch.topk(x, x.shape[1] // 2, dim=1).values.mean(1)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pooled(self.frames(wave))
        return pooled, self.out(pooled)


class LogitsAlone(Small):
    def forward(self, wave: Tensor) -> Any:
        return super().forward(wave)[1]


class KeepsK(Small):
    def pooled(self, x: Tensor) -> Tensor:
        k = int(x.shape[1] * 0.5)  # the line
        return torch.topk(x, k, dim=1).values.mean(1)


class Floor(Small):
    def pooled(self, x: Tensor) -> Tensor:
        k = math.floor(x.shape[1] * 0.7)  # the line
        return torch.topk(x, k, dim=1).values.mean(1)


class Branch(Small):
    def pooled(self, x: Tensor) -> Tensor:
        if x.shape[1] > 100:  # the line
            x = 2 * x
        return x.mean(1)


class Steps(Small):
    def pooled(self, x: Tensor) -> Tensor:
        total = x[:, 0]
        for index in range(x.shape[1] // 50):  # the line
            total = total + x[:, index]
        return total


class Hidden(Small):
    """Takes the number from a text, where no tracer sees it."""

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        x = self.frames(wave)
        text = str(x.shape[1])
        n = int(text) if text.isdigit() else 248
        pooled = x.sum(1) / n  # the line
        return pooled, self.out(pooled)


class BatchInView(Small):
    def pooled(self, x: Tensor) -> Tensor:
        return x.mean(1).view(2, 4)  # the line


class BatchInReshape(Small):
    """Does not fail at other batches: it mixes the waves."""

    def pooled(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1, x.shape[2]).mean(1)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pooled(self.frames(wave))  # the line
        return pooled, self.out(pooled)


class EachWave(Small):
    def pooled(self, x: Tensor) -> Tensor:
        return torch.stack([wave.mean(0) for wave in x])  # the line


LENGTH = (KeepsK, Floor, Branch, Steps, Hidden)
BATCH = (BatchInView, BatchInReshape, EachWave)


@pytest.fixture
def checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[type[Small]], Checkpoint]:
    """Class -> a checkpoint of it, as a user would have it: a file of code and one of weights."""

    def make(kind: type[Small]) -> Checkpoint:
        module = inspect.getmodule(kind)
        assert module is not None
        path = tmp_path / f"{kind.__name__}.pth"
        config = {"channels": 4}
        torch.save(kind(config).state_dict(), path)
        monkeypatch.setitem(sys.modules, "networks_of_a_user", module)
        return load_checkpoint(
            path,
            {"architecture": "custom", "config": config},
            code=f"networks_of_a_user:{kind.__name__}",
        )

    return make


def line_of(kind: type[Small]) -> str:
    lines, first = inspect.getsourcelines(kind)
    (index,) = [i for i, line in enumerate(lines) if "# the line" in line]
    return f"{inspect.getsourcefile(kind)}:{first + index}: {lines[index].strip()}"


@pytest.mark.parametrize("kind", LENGTH)
def test_length_that_is_baked_in_is_refused_with_its_line(
    kind: type[Small], checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot be exported so") as raised:
        export_onnx(checkpoint(kind), tmp_path / "m.onnx", ExportOptions(n_samples=None))
    assert line_of(kind).removesuffix("  # the line") in str(raised.value)
    assert "--samples" in str(raised.value.fix)
    assert list(tmp_path.glob("*.onnx")) == []


@pytest.mark.parametrize("kind", LENGTH)
def test_the_same_network_is_exported_where_the_length_is_fixed(
    kind: type[Small], checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    result = export_onnx(checkpoint(kind), tmp_path / "m.onnx")
    assert result.contract.n_samples == N_SAMPLES


@pytest.mark.parametrize("kind", BATCH)
def test_batch_that_is_baked_in_is_refused_with_its_line(
    kind: type[Small], checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot be exported so") as raised:
        export_onnx(checkpoint(kind), tmp_path / "m.onnx")
    assert line_of(kind) in str(raised.value)


@pytest.mark.parametrize("n_samples", [None, N_SAMPLES])
def test_good_network_passes_and_equals_eager_at_every_size(
    n_samples: int | None, checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    made = checkpoint(Small)
    outputs = ("score", "logits", "embedding")
    options = ExportOptions(n_samples=n_samples, outputs=outputs)
    path = export_onnx(made, tmp_path / "m.onnx", options).path
    contract, _ = read_contract(path)
    assert (contract.architecture, contract.config) == ("Small", {"channels": 4})
    assert str(tmp_path).encode() not in path.read_bytes()
    random = np.random.default_rng(0)
    lengths = (N_SAMPLES,) if n_samples else (MIN_SAMPLES, 3_333, N_SAMPLES, 20_000)
    with open_engine(path) as engine, torch.inference_mode():
        for length in lengths:
            for batch in (1, 2, 5):
                waves = random.uniform(-1, 1, (batch, length)).astype(np.float32)
                embedding, output = made.model(torch.from_numpy(waves))
                got = engine.run(waves)
                np.testing.assert_allclose(got["logits"], output.numpy(), rtol=0, atol=ATOL)
                np.testing.assert_allclose(got["embedding"], embedding.numpy(), rtol=0, atol=ATOL)


def test_embedding_that_a_network_does_not_give_is_not_promised(
    checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    made = checkpoint(LogitsAlone)
    with pytest.raises(UsageError, match="gives no embedding"):
        export_onnx(made, tmp_path / "m.onnx", ExportOptions(outputs=("score", "embedding")))
    assert set(export_onnx(made, tmp_path / "m.onnx").contract.outputs) == {"score", "logits"}
