"""Files of weights: read without running code from them, written whole or not at all.

Read are state dicts as the published project saves them, nested ones (`state_dict`, `model`,
`model_state_dict`), keys with the `module.` prefix of DataParallel, and safetensors. Written is
safetensors, with the configuration and the recipe as metadata.
"""

from __future__ import annotations

import pickle  # for the name of the error only; nothing is unpickled here
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from aasist_deploy.errors import CheckpointError, EnvironmentLacks
from aasist_deploy.onnx_file import write_onnx_file as write_whole_file
from aasist_deploy.textfile import json_of

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_KEY: Final = "model_config"  # of a .conf file, a nested checkpoint, safetensors metadata
RECIPE_KEY: Final = "recipe"
_NESTED_UNDER: Final = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIX: Final = "module."


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        state: Name -> tensor on the CPU.
        config: The configuration, if the file carries one.
        recipe: The recipe it was trained with as TOML text, if the file carries one.
    """

    state: dict[str, Tensor]
    config: dict[str, Any] | None
    recipe: str | None


def read_weights(path: Path) -> WeightsFile:
    """Read a .pth, .pt, .ckpt or .safetensors file.

    Raises:
        CheckpointError: it is damaged, holds code, or holds no state dict.
        EnvironmentLacks: safetensors is not installed.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is raised
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            # PyTorch's own words advise to let the file run its code.
            f"{path} is not a file of weights: it cannot be loaded without running code from it.",
            fix="save the model's state_dict(), not the model object",
        ) from error
    except Exception as error:  # its unpickler raises a dozen types on damaged bytes
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or it is damaged "
            f"({type(error).__name__}: {_first_line(error)}).",
            fix="give a .pth or .safetensors file of weights",
        ) from error
    config = content.get(CONFIG_KEY) if isinstance(content, dict) else None
    return WeightsFile(
        _state_dict(content, path), config if isinstance(config, dict) else None, None
    )


def write_weights(path: Path, state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write a state dict and texts beside it as safetensors, whole or not at all.

    Tensors that share memory are written once for each name.

    Raises:
        CheckpointError: the state dict holds something that is no tensor of a kind safetensors has.
        OutputError: the place cannot be written.
        EnvironmentLacks: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise _lacks_safetensors(f"Writing {path.name}") from error
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"The network's state dict holds what is no tensor: {', '.join(others[:3])}.",
            fix="keep it in the configuration, or register it as a buffer",
        )
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()
    }
    try:
        content = save(tensors, dict(metadata))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"The weights cannot be written as safetensors: {error}.") from error
    write_whole_file(path, content)


def _lacks_safetensors(doing: str) -> EnvironmentLacks:
    return EnvironmentLacks(
        f"{doing} needs the package safetensors.", fix="pip install 'aasist-deploy[torch]'"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise _lacks_safetensors(f"Reading {path.name}") from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json_of(metadata[CONFIG_KEY]) if CONFIG_KEY in metadata else None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or it is damaged: {error}."
        ) from error
    if config is not None and not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: its {CONFIG_KEY} is no JSON object.")
    return WeightsFile(_state_dict(content, path), config, metadata.get(RECIPE_KEY))


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401  # whatever was saved
    """Find the state dict in what a checkpoint holds, and strip DataParallel's prefix."""
    for _ in range(3):  # e.g. {"model": {"state_dict": ...}}
        if isinstance(content, Mapping) and not any(
            isinstance(v, Tensor) for v in content.values()
        ):
            content = next((content[k] for k in _NESTED_UNDER if k in content), None)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds no state dict (looked for tensors at the top and under "
            f"{', '.join(_NESTED_UNDER)}).",
            fix="save model.state_dict()",
        )
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if all(name.startswith(_PREFIX) for name in state):
        state = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    return state
