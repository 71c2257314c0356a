"""Checkpoints: a file of weights and the configuration that belongs to it, loaded strictly.

Accepted are state dicts as the published project saves them, nested ones (`state_dict`, `model`,
`model_state_dict`), keys with the `module.` prefix of DataParallel, and safetensors. Loading never
runs code from the file: `weights_only=True` always.
"""

from __future__ import annotations

import json
import pickle  # for the name of the error only; nothing is unpickled here
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from aasist_deploy.errors import CheckpointError, EnvironmentLacks
from aasist_deploy.models.aasist import Aasist, AasistConfig
from aasist_deploy.published import published_by_sha256

_NESTED_UNDER: Final = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIX: Final = "module."
_CONFIG_KEY: Final = "model_config"  # of a .conf file, a nested checkpoint, safetensors metadata


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network in evaluation mode with its weights, and where both came from.

    Attributes:
        model: The network; `model(wave)` gives (embedding, logits).
        architecture: The name in the configuration.
        config: The configuration as plain JSON types.
        path: The file of the weights.
        sha256: Its hash.
    """

    model: Aasist
    architecture: str
    config: dict[str, Any]
    path: Path
    sha256: str


def read_config(path: Path | str) -> dict[str, Any]:
    """The `model_config` object of a published `.conf` file, or of a JSON file that is only that.

    Raises:
        CheckpointError: the file is no JSON object or names no architecture.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The configuration {path} cannot be read: {error}.",
            fix="give a JSON file like the published AASIST.conf",
        ) from error
    config = content.get(_CONFIG_KEY, content) if isinstance(content, dict) else None
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(
            f"The configuration {path} names no architecture.",
            fix='give a JSON file with "model_config": {"architecture": "AASIST", ...}',
        )
    return config


def load_checkpoint(path: Path | str, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """Load weights strictly into their architecture.

    Args:
        path: A .pth, .pt, .ckpt or .safetensors file.
        config: The model configuration. When None it is looked for in the checkpoint, in the table
            of published weights (by the file's hash), and in a `.conf` file beside the weights.

    Raises:
        CheckpointError: no weights, no configuration, or weights that do not fit it.
    """
    path = Path(path)
    try:
        digest = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error.strerror}.",
            fix="check the path; `aasist-deploy pull aasist` fetches the published weights",
        ) from error
    content, stored_config = _read_weights(path)
    state = _state_dict(content, path)
    found = config or stored_config or _config_for(path, digest)
    if found is None:
        raise CheckpointError(
            f"Nothing says how {path} is configured: it is no published checkpoint, carries no "
            f"configuration, and there is no {path.with_suffix('.conf').name} beside it.",
            fix="add --config FILE, a JSON file like the published AASIST.conf",
        )
    model = build_model(found)
    _load_strictly(model, state, path, str(found["architecture"]))
    return Checkpoint(
        model=model.eval(),
        architecture=str(found["architecture"]),
        config=json.loads(json.dumps(asdict(model.config))),
        path=path,
        sha256=digest,
    )


def build_model(config: Mapping[str, Any]) -> Aasist:
    """The network that a configuration names, with untrained weights.

    Raises:
        CheckpointError: the architecture is not known here, or the configuration does not fit it.
    """
    architecture = config.get("architecture")
    if architecture != "AASIST":
        raise CheckpointError(
            f"The architecture '{architecture}' is not known; known are: AASIST (also AASIST-L).",
            fix="give the configuration of an AASIST model",
        )
    return Aasist(AasistConfig.from_mapping(config))


def _read_weights(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The content of the file, and the configuration if the file carries one."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is raised
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of weights: loading it without running code from it failed "
            f"({_first_line(error)}).",
            fix="save the model's state_dict(), not the model object",
        ) from error
    except Exception as error:  # its unpickler raises a dozen types on damaged bytes
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or it is damaged "
            f"({type(error).__name__}: {_first_line(error)}).",
            fix="give a .pth or .safetensors file of weights",
        ) from error
    config = content.get(_CONFIG_KEY) if isinstance(content, dict) else None
    return content, config if isinstance(config, dict) else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any] | None]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise EnvironmentLacks(
            f"Reading {path.name} needs the package safetensors.",
            fix="pip install 'aasist-deploy[torch]'",
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(metadata[_CONFIG_KEY]) if _CONFIG_KEY in metadata else None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or it is damaged: {error}."
        ) from error
    return state, config


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


def _config_for(path: Path, digest: str) -> Mapping[str, Any] | None:
    known = published_by_sha256(digest)
    if known is not None:
        return known.model_config
    beside = path.with_suffix(".conf")
    return read_config(beside) if beside.is_file() else None


def _load_strictly(
    model: nn.Module, state: dict[str, Tensor], path: Path, architecture: str
) -> None:
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if missing or unknown or shapes:
        parts = [
            f"{len(names)} {what} (first: {names[0]})"
            for names, what in (
                (missing, "keys missing"),
                (unknown, "keys too many"),
                (shapes, "shapes that differ"),
            )
            if names
        ]
        raise CheckpointError(
            f"The weights in {path} do not fit {architecture} as configured: {', '.join(parts)}.",
            fix="give the configuration that these weights were trained with (--config)",
        )
    bad = [name for name, value in state.items() if not torch.isfinite(value.float()).all()]
    if bad:
        raise CheckpointError(f"The weights in {path} hold NaN or infinity: {', '.join(bad[:3])}.")
    model.load_state_dict(state, strict=True)
