from __future__ import annotations

import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import CheckpointError
from aasist_deploy.models import load_checkpoint, read_config
from tests.fuzzing import n_examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.models import Checkpoint

PUBLISHED = ("AASIST", "AASIST-L")


@pytest.fixture
def state(small_checkpoint: Checkpoint) -> dict[str, Any]:
    return dict(small_checkpoint.model.state_dict())


def saved(folder: Path, content: Any) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_need_no_configuration(
    name: str, published_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    alone = tmp_path / "renamed.pth"
    alone.write_bytes(published_checkpoint(name).read_bytes())
    loaded = load_checkpoint(alone)
    config = read_config(published_checkpoint(name).with_suffix(".conf"))
    assert loaded.config == config
    assert loaded.architecture == "AASIST"
    assert not loaded.model.training


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configuration_file_is_taken_as_it_is(
    name: str, published_checkpoint: Callable[[str], Path]
) -> None:
    path = published_checkpoint(name)
    config = read_config(path.with_suffix(".conf"))
    assert load_checkpoint(path, config).config == load_checkpoint(path).config


def wrapped(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {key: state, "epoch": 3}


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda state: state,
    "prefixed": lambda state: {f"module.{k}": v for k, v in state.items()},
    "state_dict": wrapped("state_dict"),
    "model": wrapped("model"),
    "model_state_dict": wrapped("model_state_dict"),
    "nested twice": lambda state: {"model": {"state_dict": state}},
    "nested and prefixed": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "half precision": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_checkpoint_loads(
    form: str, state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    loaded = load_checkpoint(saved(tmp_path, FORMS[form](state)), small_config)
    atol = 1e-2 if form == "half precision" else 0.0
    for key, value in loaded.model.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.allclose(value.double(), state[key].double(), rtol=1e-3 if atol else 0.0)


def test_configuration_inside_the_checkpoint_is_used(
    state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(tmp_path, {"model": state, "model_config": small_config})
    assert load_checkpoint(path).config == small_config


def test_safetensors_round_trip(
    state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="needs safetensors").save_file
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata={"model_config": json.dumps(small_config)})
    loaded = load_checkpoint(path)
    assert loaded.config == small_config
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a safetensors file, or it is damaged"):
        load_checkpoint(path)


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_checkpoint_with_code_is_refused_and_the_code_is_not_run(
    state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    path = saved(tmp_path, {"state_dict": state, "extra": Payload(mark)})
    with pytest.raises(CheckpointError, match="cannot be loaded without running code from it"):
        load_checkpoint(path, small_config)
    path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(CheckpointError, match="cannot be loaded without running code from it"):
        load_checkpoint(path, small_config)
    assert not mark.exists()


def test_missing_extra_and_misshapen_keys_are_counted_and_named(
    state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    del state["out_layer.bias"]
    state["out_layer.extra"] = torch.zeros(1)
    state["pos_S"] = torch.zeros(1, 23, 5)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(saved(tmp_path, state), small_config)
    message = str(raised.value)
    assert "1 keys missing (first: out_layer.bias)" in message
    assert "1 keys too many (first: out_layer.extra)" in message
    assert "pos_S is (1, 23, 5), not (1, 23, 6)" in message
    assert raised.value.fix is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    bad: float, state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    state["master1"] = torch.full_like(state["master1"], bad)
    with pytest.raises(CheckpointError, match="NaN or infinity: master1"):
        load_checkpoint(saved(tmp_path, state), small_config)


def test_checkpoint_without_configuration_says_what_to_add(
    state: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"no weights\.conf beside it") as raised:
        load_checkpoint(saved(tmp_path, state))
    assert "--config" in str(raised.value.fix)


@pytest.mark.parametrize("name", ["RawGAT-ST", "RawNet2-small"])
def test_checkpoint_of_another_architecture_is_refused(
    name: str, shared: Path, small_config: dict[str, Any]
) -> None:
    path = shared / "golden" / f"{name}.random-init.pth"
    with pytest.raises(CheckpointError, match="do not fit AASIST as configured"):
        load_checkpoint(path, small_config)


def test_unknown_architecture_is_refused_with_the_known_ones(
    state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"'SSL' is not known; known are: AASIST .*RawNet2"):
        load_checkpoint(path, {**small_config, "architecture": "SSL"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch checkpoint, or it is damaged"),
        (b"just text\n", "not a PyTorch checkpoint, or it is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is not a file of weights"),
        (b"PK\x03\x04" + bytes(64), "not a PyTorch checkpoint, or it is damaged"),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], 7, {}])
def test_file_without_tensors_holds_no_state_dict(content: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(saved(tmp_path, content))


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(path)


@settings(
    max_examples=n_examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_checkpoint_loads_or_raises_one_error(
    data: st.DataObject, state: dict[str, Any], small_config: dict[str, Any], tmp_path: Path
) -> None:
    legacy = data.draw(st.booleans())
    path = tmp_path / "weights.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(CheckpointError):
        load_checkpoint(path, small_config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "cannot be read"),
        ("[1]", "names no architecture"),
        ("{}", "names no architecture"),
        ('{"model_config": 3}', "names no architecture"),
    ],
)
def test_bad_configuration_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.conf"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_config(path)
