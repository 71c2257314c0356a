"""Weights written and read back."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from aasist_deploy.errors import CheckpointError, OutputError, UsageError
from aasist_deploy.models import build_model, load_checkpoint, save_weights
from aasist_deploy.models.weights_file import write_weights

safetensors = pytest.importorskip("safetensors", reason="needs safetensors")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPE = '[training]\nepochs = 3  # "ü"\n'


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def test_saved_weights_load_bit_for_bit_with_nothing_but_the_file(
    small_settings: dict[str, Any], tmp_path: Path
) -> None:
    model = build_model(small_settings)
    with torch.no_grad():
        next(model.parameters()).fill_(-0.0).flatten()[0] = 1e-42  # a denormal number
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, recipe=RECIPE, notes={"epoch": "7"})
    loaded = load_checkpoint(path)
    assert loaded.recipe == RECIPE
    assert loaded.config == small_settings
    assert loaded.architecture == model.architecture
    state = model.state_dict()
    assert list(loaded.model.state_dict()) == list(state)
    assert all(same_bits(v, state[k]) for k, v in loaded.model.state_dict().items())
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["epoch"] == "7"


def test_saving_leaves_the_network_as_it_was(
    settings_of: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    model = build_model(settings_of("AASIST")).train()
    before = {key: (value.data_ptr(), value.clone()) for key, value in model.state_dict().items()}
    save_weights(tmp_path / "weights.safetensors", model)
    assert model.training
    for key, value in model.state_dict().items():
        assert value.data_ptr() == before[key][0]
        assert torch.equal(value, before[key][1])


def test_checkpoint_without_a_recipe_has_none(
    settings_of: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, build_model(settings_of("RawNet2")))
    assert load_checkpoint(path).recipe is None


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_failing_write_leaves_the_old_file_and_no_other(
    step: str,
    settings_of: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "weights.safetensors"
    model = build_model(settings_of("AASIST"))
    save_weights(path, model)
    old = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        monkeypatch.setattr("pathlib.Path.open", full)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr("pathlib.Path.replace", full)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    with pytest.raises(OutputError, match="No space left on device"):
        save_weights(path, model)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_tensors_that_share_memory_are_all_written(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"whole": shared, "part": shared[:2], "turned": shared.view(2, 3).T}, {})
    with safetensors.safe_open(path, framework="pt") as file:
        read = {name: file.get_tensor(name) for name in ("whole", "part", "turned")}
    assert read["whole"].tolist() == [0, 1, 2, 3, 4, 5]
    assert read["part"].tolist() == [0, 1]
    assert read["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_other_ending_is_refused(
    settings_of: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"weights\.pth is named otherwise"):
        save_weights(tmp_path / "weights.pth", build_model(settings_of("AASIST")))


@pytest.mark.parametrize("name", ["model_config", "recipe"])
def test_note_cannot_take_a_name_of_ours(
    name: str, settings_of: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UsageError, match=f"a name that is ours: {name}"):
        save_weights(path, build_model(settings_of("AASIST")), notes={name: "x"})
    assert not path.exists()


def test_configuration_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"a": torch.zeros(1)}, {"model_config": "[1, 2]"})
    with pytest.raises(CheckpointError, match="its model_config is no JSON object"):
        load_checkpoint(path)
