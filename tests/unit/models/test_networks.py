"""What holds for every built-in network."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from aasist_deploy.contract import LOG_PROBABILITY_SCORE, LOGIT_SCORE
from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models import Network, RawGatSt, RawNet2, build_model, read_config
from aasist_deploy.models.residual import ResidualBlock1d

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Noise = Callable[..., NDArray[np.float32]]

# name of the table -> (published .conf file, parameters)
PUBLISHED = {
    "AASIST": ("AASIST", 297_866),
    "AASIST-L": ("AASIST-L", 85_306),
    "RawGAT-ST": ("RawGATST_baseline", 437_034),
    "RawNet2": ("RawNet2_baseline", 17_621_410),
}
# Sums in another order: measured at most 1.4e-5 over 18 such networks (embeddings of up to 10).
BATCH_ATOL = 4e-5


def published_config(shared: Path, name: str) -> dict[str, Any]:
    return read_config(shared / "models" / "clovaai" / f"{PUBLISHED[name][0]}.conf")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configuration_gives_the_published_state_dict_again_and_again(
    name: str,
    shared: Path,
    published_shapes: Callable[[str], dict[str, tuple[int, ...]]],
) -> None:
    config = published_config(shared, name)
    before = copy.deepcopy(config)
    for _ in range(2):  # a build that changed its configuration would make another network
        with torch.device("meta"):
            model = build_model(config)
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        assert shapes == published_shapes(name)
        assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name][1]
        assert config == before
        assert model.settings == config


@pytest.mark.parametrize(
    ("published", "ours"), [("RawNetGatSpoofST", "RawGAT-ST"), ("RawNet2Spoof", "RawNet2")]
)
def test_published_name_and_ours_build_the_same_network(
    published: str, ours: str, settings_of: Callable[[str], dict[str, Any]]
) -> None:
    settings = settings_of(ours)
    assert settings["architecture"] == published
    made = build_model(settings), build_model({**settings, "architecture": ours})
    assert type(made[0]) is type(made[1])
    assert made[0].architecture == made[1].architecture == ours


def test_settings_build_the_same_network_again(small_settings: dict[str, Any]) -> None:
    model = build_model(small_settings)
    again = build_model(model.settings)
    assert again.settings == model.settings
    again.load_state_dict(model.state_dict(), strict=True)


def test_network_says_what_the_exporter_and_the_trainer_ask(
    settings_of: Callable[[str], dict[str, Any]],
) -> None:
    said = {
        name: (m.any_length, m.score, m.n_samples, m.min_samples, m.n_features)
        for name in ("AASIST", "RawGAT-ST", "RawNet2")
        for m in [build_model(settings_of(name))]
    }
    assert said == {
        "AASIST": (True, LOGIT_SCORE, 8_000, 3 * 2187 + 32, 20),
        "RawGAT-ST": (False, LOGIT_SCORE, 8_000, 8_000, 7),
        "RawNet2": (True, LOG_PROBABILITY_SCORE, 8_000, 2187 + 64, 6),
    }


def varied(settings: dict[str, Any], noise: Noise) -> Network:
    """A network in evaluation mode whose outputs depend on the wave."""
    torch.manual_seed(2)
    model = build_model(settings)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(3.0)
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.momentum = 1.0
        model.train()(torch.from_numpy(noise(8, 8_000)))
    return model.eval()


def test_batch_of_one_gives_what_a_batch_of_many_gives(
    small_settings: dict[str, Any], noise: Noise
) -> None:
    model = varied(small_settings, noise)
    waves = torch.from_numpy(noise(5, 8_000, seed=1))
    with torch.inference_mode():
        embedding, output = model(waves)
        alone = [model(wave.unsqueeze(0)) for wave in waves]
    assert embedding.shape == (5, model.n_features)
    assert output.shape == (5, 2)
    assert float(output[:, 1].std()) > 100 * BATCH_ATOL
    for index, (one_embedding, one_output) in enumerate(alone):
        assert torch.allclose(one_embedding[0], embedding[index], rtol=0, atol=BATCH_ATOL)
        assert torch.allclose(one_output[0], output[index], rtol=0, atol=BATCH_ATOL)


def test_every_length_that_the_network_takes_runs(
    small_settings: dict[str, Any], noise: Noise
) -> None:
    model = varied(small_settings, noise)
    lengths = {model.min_samples, model.n_samples}
    lengths |= {model.min_samples + 1, 20_001} if model.any_length else set()
    for n_samples in lengths:
        with torch.inference_mode():
            output = model(torch.from_numpy(noise(1, n_samples)))[1]
        assert torch.isfinite(output).all()


@pytest.mark.parametrize(
    ("name", "n_samples"), [("RawNet2", 2_187 + 63), ("RawGAT-ST", 16_000), ("RawGAT-ST", 3_000)]
)
def test_length_that_the_network_does_not_take_fails(
    name: str, n_samples: int, settings_of: Callable[[str], dict[str, Any]], noise: Noise
) -> None:
    model = varied(settings_of(name), noise)
    with pytest.raises((RuntimeError, IndexError)):
        model(torch.from_numpy(noise(1, n_samples)))


def test_filters_are_masked_only_when_asked(small_settings: dict[str, Any], noise: Noise) -> None:
    model = varied(small_settings, noise)
    waves = torch.from_numpy(noise(2, 8_000))
    with torch.inference_mode():
        plain = model(waves)[1]
        model.get_submodule("sinc").train()  # training mode alone masks nothing
        assert torch.equal(model(waves)[1], plain)
        torch.manual_seed(0)
        masked = [model(waves, mask_filters=True)[1] for _ in range(3)]
        assert not all(torch.equal(output, plain) for output in masked)
        assert torch.equal(model(waves)[1], plain)


def test_every_parameter_but_the_unused_ones_learns(
    small_settings: dict[str, Any], noise: Noise
) -> None:
    torch.manual_seed(0)
    model = build_model(small_settings).train()
    output = model(torch.from_numpy(noise(4, 8_000)), mask_filters=True)[1]
    loss: Any = torch.nn.functional.cross_entropy(output, torch.tensor([0, 1, 0, 1]))
    loss.backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None}
    assert silent == {n for n, _ in model.named_parameters() if ".bn1." in n}
    assert silent


def test_unused_normalisation_of_one_dimension_follows_the_training_data_and_nothing_else() -> None:
    block = ResidualBlock1d(3, 3, first=False)
    x = torch.randn(4, 3, 30)
    block.train()(x)
    assert block.bn1 is not None
    assert block.bn1.running_mean is not None
    assert float(block.bn1.running_mean.abs().max()) > 0
    block.eval()
    before = block(x)
    with torch.no_grad():
        block.bn1.weight.fill_(float("nan"))
    assert torch.equal(block(x), before)


def test_rawnet2_gives_log_probabilities(
    settings_of: Callable[[str], dict[str, Any]], noise: Noise
) -> None:
    with torch.inference_mode():
        output = varied(settings_of("RawNet2"), noise)(torch.from_numpy(noise(3, 8_000)))[1]
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(3))
    assert float(output.max()) < 0


def test_rawgat_st_follows_the_configured_length_and_filters(
    settings_of: Callable[[str], dict[str, Any]],
) -> None:
    settings = {**settings_of("RawGAT-ST"), "nb_samp": 20_000, "filts": [30, [1, 4], *[[4, 4]] * 3]}
    model = build_model(settings)
    assert isinstance(model, RawGatSt)
    # 10 frequency nodes, 9 time nodes: int(10 * 0.64), int(9 * 0.81)
    assert (model.proj_T.in_features, model.proj_S.in_features) == (6, 7)
    assert model.eval()(torch.zeros(1, 20_000))[1].shape == (1, 2)


def test_later_blocks_of_rawnet2_take_what_the_third_makes(
    settings_of: Callable[[str], dict[str, Any]],
) -> None:
    filts = [24, [24, 24], [24, 8], [9, 7]]  # the last pair is not used
    model = build_model({**settings_of("RawNet2"), "filts": filts})
    assert isinstance(model, RawNet2)
    assert model.config.block_channels == ((24, 24), (24, 24), (24, 8), (8, 8), (8, 8), (8, 8))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("RawGAT-ST", {"filts": [24, [1, 4], [5, 4], [4, 6], [6, 6]]}, "do not chain: block 1"),
        ("RawGAT-ST", {"filts": [5, [1, 4], [4, 4], [4, 6], [6, 6]]}, "size below 1"),
        ("RawGAT-ST", {"filts": [24, [1, 4]]}, "has 2 filts; RawGAT-ST takes 5"),
        ("RawGAT-ST", {"nb_samp": 4_405}, "nb_samp is 4405; .* takes at least 4406 samples"),
        ("RawGAT-ST", {"gat_dims": [6, 4]}, "does not fit RawGAT-ST: .* unknown are gat_dims"),
        ("RawGAT-ST", {"first_conv": "many"}, "'many' is no whole number"),
        ("RawNet2", {"filts": [20, [24, 24], [24, 8], [8, 8]]}, "block 0 takes 24 .* given 20"),
        ("RawNet2", {"filts": [24, [24, 20], [24, 8], [8, 8]]}, "block 1 takes 24 .* given 20"),
        ("RawNet2", {"in_channels": 2}, "in_channels 2 and nb_classes 2"),
        ("RawNet2", {"nb_classes": 3}, "nb_classes 3"),
        ("RawNet2", {"nb_gru_layer": 0}, "size below 1"),
        ("RawNet2", {"gru_node": None}, "None is no whole number"),
        ("RawNet2", {"nb_samp": 2_250}, "nb_samp is 2250; .* takes at least 2251 samples"),
    ],
)
def test_bad_configuration_is_refused(
    name: str, change: dict[str, Any], message: str, settings_of: Callable[[str], dict[str, Any]]
) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_model({**settings_of(name), **change})


def test_missing_key_is_named_with_the_published_file(
    settings_of: Callable[[str], dict[str, Any]],
) -> None:
    settings = {k: v for k, v in settings_of("RawNet2").items() if k not in ("gru_node", "blocks")}
    with pytest.raises(CheckpointError, match="missing are gru_node, unknown are none") as raised:
        build_model(settings)
    assert "RawNet2_baseline.conf" in str(raised.value.fix)


def test_code_named_for_a_built_in_network_is_refused(small_settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is built in, and the code net\.py:Net is named"):
        build_model(small_settings, "net.py:Net")
