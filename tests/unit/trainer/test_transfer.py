from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models import build_model, save_weights
from aasist_deploy.published import PUBLISHED
from aasist_deploy.trainer.transfer import freeze, frozen_norms, hold, init_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint, Network

NORM = nn.modules.batchnorm._BatchNorm


def fresh(config: dict[str, Any], seed: int = 1) -> Network:
    torch.manual_seed(seed)
    return build_model(config)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_model_gets_the_weights_and_statistics_of_the_checkpoint(
    small_checkpoint: Checkpoint, small_config: dict[str, Any]
) -> None:
    model = fresh(small_config)
    assert not same_state(model, small_checkpoint.model)
    init_weights(model, small_checkpoint.path)
    assert same_state(model, small_checkpoint.model)


def test_checkpoint_without_a_configuration_is_read_with_that_of_the_model(
    small_checkpoint: Checkpoint, small_config: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(small_checkpoint.model.state_dict(), tmp_path / "bare.pth")
    model = fresh(small_config)
    init_weights(model, tmp_path / "bare.pth")
    assert same_state(model, small_checkpoint.model)
    other = fresh({**small_config, "gat_dims": [5, 4]})
    before = copy.deepcopy(other)
    said = r"(?s)Nothing says how.*AASIST.*shapes that differ"
    with pytest.raises(CheckpointError, match=said) as raised:
        init_weights(other, tmp_path / "bare.pth")
    assert "--config" not in str(raised.value.fix)  # of `train` that is the recipe
    assert same_state(other, before)


def test_another_architecture_is_refused_and_both_are_named(
    small_checkpoint: Checkpoint,
) -> None:
    model = build_model(
        {
            "architecture": "RawGAT-ST",
            "nb_samp": 64_600,
            "first_conv": 128,
            "filts": [70, [1, 32], [32, 32], [32, 64], [64, 64]],
        }
    )
    with pytest.raises(CheckpointError, match="architecture AASIST, and the model to train is Raw"):
        init_weights(model, small_checkpoint.path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gat_dims": [5, 4]}, r"gat_dims is \[6, 4\] there and \[5, 4\] here"),
        # Of the same shapes: without the check they would load into another function.
        ({"pool_ratios": [0.5, 0.6, 0.5, 0.5]}, r"pool_ratios is .* and \[0.5, 0.6, 0.5, 0.5\]"),
        ({"temperatures": [1.0, 2.0, 100.0, 100.0]}, "temperatures is"),
    ],
)
def test_another_configuration_is_refused_and_the_differences_are_named(
    small_checkpoint: Checkpoint, small_config: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    model = fresh({**small_config, **changed})
    before = copy.deepcopy(model)
    with pytest.raises(CheckpointError, match=said):
        init_weights(model, small_checkpoint.path)
    assert same_state(model, before)


def test_another_window_is_no_other_configuration(
    small_checkpoint: Checkpoint, small_config: dict[str, Any]
) -> None:
    model = fresh({**small_config, "nb_samp": 20_000})
    init_weights(model, small_checkpoint.path)
    assert same_state(model, small_checkpoint.model)
    assert model.n_samples == 20_000


def test_file_that_is_no_checkpoint_is_refused(
    small_config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"text\.pth"):
        init_weights(fresh(small_config), tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        init_weights(fresh(small_config), tmp_path / "absent.pth")


CUSTOM_CODE = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.line = nn.Linear(4, config["width"])
        self.out = nn.Linear(config["width"], 2)

    def forward(self, wave):
        parts = torch.stack([p.abs().mean(1) for p in wave.chunk(4, dim=1)], dim=1)
        features = self.line(parts)
        return features, self.out(features)
"""


def test_custom_model_starts_from_its_checkpoint_when_its_code_is_named(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "tiny.py").write_text(CUSTOM_CODE)
    code = f"{tmp_path / 'tiny.py'}:Tiny"
    settings = {"architecture": "custom", "n_samples": 400, "config": {"width": 3}}
    trained, model = build_model(settings, code), build_model(settings, code)
    save_weights(tmp_path / "tiny.safetensors", trained)
    assert not same_state(model, trained)
    init_weights(model, tmp_path / "tiny.safetensors", code)
    assert same_state(model, trained)
    wider = build_model({**settings, "config": {"width": 5}}, code)
    with pytest.raises(CheckpointError, match=r"config is \{'width': 3\} there"):
        init_weights(wider, tmp_path / "tiny.safetensors", code)
    with pytest.raises(CheckpointError, match="architecture AASIST, and the model to train is"):
        init_weights(model, small_checkpoint.path, code)


def one_training(model: Network, waves: Tensor, *, held: bool = True) -> None:
    """Three steps of Adam, with weight decay."""
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=1e-2
    )
    for _ in range(3):
        model.train()
        if held:
            hold(model)
        optimizer.zero_grad()
        labels = torch.arange(len(waves)) % 2
        nn.functional.cross_entropy(model(waves)[1], labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_frozen_parameters_and_statistics_do_not_move_and_others_do(
    small_config: dict[str, Any], noise: Callable[..., NDArray[np.float32]]
) -> None:
    model = fresh(small_config)
    waves = torch.from_numpy(noise(4, model.min_samples))
    frozen = freeze(model, ["encoder.*", "first_bn.*"])
    assert frozen == [
        n for n, _ in model.named_parameters() if n.startswith(("encoder.", "first_bn"))
    ]
    before = copy.deepcopy(model.state_dict())
    one_training(model, waves)
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    kept = before.keys() - moved
    assert {name for name in before if name.startswith(("encoder.", "first_bn"))} <= kept
    # bn1 and the biases before a normalisation apart, everything else learns.
    assert "out_layer.weight" in moved
    assert "GAT_layer_S.bn.running_mean" in moved
    assert {name for name in kept if not name.startswith(("encoder.", "first_bn"))} == set()


def test_statistics_of_frozen_parts_move_when_they_are_not_held(
    small_config: dict[str, Any], noise: Callable[..., NDArray[np.float32]]
) -> None:
    model = fresh(small_config)
    freeze(model, ["first_bn.*"])
    one_training(model, torch.from_numpy(noise(2, model.min_samples)), held=False)
    norm: Any = model.get_submodule("first_bn")
    assert norm.num_batches_tracked == 3


def test_hold_covers_frozen_normalisations_alone(small_config: dict[str, Any]) -> None:
    model = fresh(small_config)
    freeze(model, ["encoder.0.*", "encoder.1.*.conv?.weight", "encoder.1.0.bn2.weight"])
    assert [name for name, module in model.named_modules() if module in frozen_norms(model)] == [
        "encoder.0.0.bn2"
    ]
    model.train()
    hold(model)
    modes = {n: m.training for n, m in model.named_modules() if isinstance(m, NORM)}
    assert [name for name, training in modes.items() if not training] == ["encoder.0.0.bn2"]
    assert len(modes) > 5


def test_normalisation_without_parameters_goes_by_the_module_that_holds_it() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), nn.Linear(2, 2)
    )
    assert frozen_norms(model) == []
    freeze(model, ["0.*"])
    assert frozen_norms(model) == [model.get_submodule("0.1")]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("encodr.*", r"encoder\.\*"),
        ("out_layer", r"out_layer\.\*"),
        ("gat_layer_s.*", r"GAT_layer_[ST]\.\*"),
        ("", r"like ''; near are \w"),
    ],
)
def test_pattern_that_matches_nothing_is_refused_with_near_names(
    small_config: dict[str, Any], pattern: str, near: str
) -> None:
    model = fresh(small_config)
    with pytest.raises(UsageError, match=near):
        freeze(model, ["first_bn.*", pattern])
    assert all(p.requires_grad for p in model.parameters())


def test_freezing_everything_is_refused(small_config: dict[str, Any]) -> None:
    model = fresh(small_config)
    with pytest.raises(UsageError, match="none is left to train"):
        freeze(model, ["*"])
    assert freeze(model, []) == []


GOLDEN_ATOL = 2e-5  # as in tests/parity/test_eager_golden.py: measured 2.9e-6 on another CPU


@pytest.mark.parametrize("name", ["AASIST-L", "AASIST"])
def test_published_weights_as_init_give_the_golden_logits(name: str, shared: Path) -> None:
    model = fresh(dict(PUBLISHED[name.lower()].model_config))
    init_weights(model, shared / "models" / "clovaai" / f"{name}.pth")
    golden = np.load(shared / "golden" / f"{name}.LA_mini.npz")
    index = next(i for i, utterance in enumerate(golden["utt"]) if str(utterance)[3] == "D")
    folder = shared / "data" / "LA_mini" / "ASVspoof2019_LA_dev" / "flac"
    wave = fit_length(read_audio(folder / f"{golden['utt'][index]}.flac").wave)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(wave[None]))[1]
    np.testing.assert_allclose(logits[0], golden["logits"][index], rtol=0, atol=GOLDEN_ATOL)


def test_a_checkpoint_that_is_not_there_is_told_once(
    small_config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        init_weights(build_model(small_config), tmp_path / "nothing.pth")
    assert str(caught.value).count("cannot be read") == 1
    assert caught.value.fix is not None
