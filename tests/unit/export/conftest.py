"""Small networks of every architecture, as checkpoints on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.models import Checkpoint

SMALL: dict[str, dict[str, Any]] = {
    "RawGAT-ST": {
        "architecture": "RawGAT-ST",
        "nb_samp": 16_000,
        "first_conv": 128,
        "filts": [70, [1, 4], [4, 4], [4, 6], [6, 6]],
    },
    "RawNet2": {
        "architecture": "RawNet2",
        "nb_samp": 16_000,
        "first_conv": 128,
        "filts": [6, [6, 6], [6, 8], [8, 8]],
        "gru_node": 10,
        "nb_gru_layer": 3,
        "nb_fc_node": 7,
    },
}


@pytest.fixture(scope="session")
def checkpoint_of(
    tmp_path_factory: pytest.TempPathFactory, noise: Callable[..., Any]
) -> Callable[[str], Checkpoint]:
    """Architecture -> a small network of it whose normalisations are not the identity."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from aasist_deploy.models import build_model, load_checkpoint, save_weights

    folder = tmp_path_factory.mktemp("architectures")
    made: dict[str, Checkpoint] = {}

    def get(name: str) -> Checkpoint:
        if name not in made:
            torch.manual_seed(3)
            model = build_model(SMALL[name])
            norms = [
                m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
            ]
            with torch.no_grad():
                for norm in norms:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.bias.uniform_(-0.3, 0.3)
                    norm.momentum = 1.0
                norms[0].weight[0] = -0.8  # a negative scale cannot move through the max-pool
                model.train()(torch.from_numpy(noise(16)))
            path = folder / f"{name}.safetensors"
            save_weights(path, model)
            made[name] = load_checkpoint(path)
        return made[name]

    return get
