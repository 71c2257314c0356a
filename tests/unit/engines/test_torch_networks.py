"""The torch engine on networks other than AASIST, and on a network of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from aasist_deploy import open_engine
from aasist_deploy.contract import LOG_PROBABILITY_SCORE, LOGIT_SCORE
from aasist_deploy.errors import CheckpointError, ShapeError
from aasist_deploy.models import build_model, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

RAWNET2 = {
    "architecture": "RawNet2Spoof",
    "nb_samp": 16_000,
    "first_conv": 128,
    "filts": [4, [4, 4], [4, 6], [6, 6]],
    "gru_node": 6,
    "nb_gru_layer": 2,
    "nb_fc_node": 5,
}
RAWGAT = {
    "architecture": "RawNetGatSpoofST",
    "nb_samp": 16_000,
    "first_conv": 128,
    "filts": [70, [1, 2], [2, 2], [2, 3], [3, 3]],
}
OWN = """
import torch
from torch import nn

class Mine(nn.Module):
    n_samples, min_samples, any_length = 2_000, 800, True

    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv1d(1, config["width"], 65, stride=32)
        self.out = nn.Linear(config["width"], 2)

    def forward(self, wave):
        return self.out(self.conv(wave.unsqueeze(1)).abs().mean(2))
"""


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, str]:
    """Weights of a network of one's own, and the name of its code."""
    (tmp_path / "nets.py").write_text(OWN)
    code = f"{tmp_path / 'nets.py'}:Mine"
    torch.manual_seed(0)
    model = build_model({"architecture": "custom", "config": {"width": 3}}, code)
    path = tmp_path / "own.safetensors"
    save_weights(path, model)
    return path, code


def test_rawnet2_gives_log_probabilities_of_any_length(
    noise: Callable[..., NDArray[np.float32]], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_weights(path, build_model(RAWNET2))
    with open_engine(path, any_length=True) as engine:
        assert (engine.contract.architecture, engine.contract.n_samples) == ("RawNet2", None)
        assert engine.contract.score == LOG_PROBABILITY_SCORE
        assert engine.contract.outputs["logits"].startswith("log-probabilities")
        outputs = engine.run(noise(3, engine.contract.min_samples))
        np.testing.assert_allclose(np.exp(outputs["logits"]).sum(axis=1), 1, atol=1e-6)
        assert np.array_equal(outputs["score"], outputs["logits"][:, 1])
        observing: Any = engine
        assert observing.pooling_orders(noise(1)) == {}


def test_network_of_one_length_takes_that_one_whatever_is_asked(
    noise: Callable[..., NDArray[np.float32]], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_weights(path, build_model(RAWGAT))
    with open_engine(path, any_length=True) as engine:
        assert engine.contract.n_samples == 16_000
        assert engine.contract.score == LOGIT_SCORE
        observing: Any = engine
        orders = observing.pooling_orders(noise(2))
        assert {n: o.shape for n, o in orders.items()} == {
            "pool_T": (2, 14),
            "pool_S": (2, 5),
            "pool_ST": (2, 7),
        }
        with pytest.raises(ShapeError, match="takes waves of 16000 samples"):
            engine.score(noise(1, 20_000))


def test_own_network_is_opened_with_its_code_alone(
    own: tuple[Path, str], noise: Callable[..., NDArray[np.float32]]
) -> None:
    path, code = own
    with pytest.raises(CheckpointError, match="code") as raised:
        open_engine(path)
    assert "--code" in str(raised.value.fix)
    with open_engine(path, code=code) as engine:
        assert (engine.contract.architecture, engine.contract.config) == ("Mine", {"width": 3})
        assert engine.contract.n_samples == 2_000
        assert engine.score(noise(4, 2_000)).shape == (4,)
