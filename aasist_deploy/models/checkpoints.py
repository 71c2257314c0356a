"""Checkpoints: a file of weights and the configuration that belongs to it, loaded strictly.

Loading never runs code from the file: `weights_only=True` always, and the code of a network of
one's own is run only when the caller names it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models.build import build_model
from aasist_deploy.models.custom import CUSTOM
from aasist_deploy.models.weights_file import CONFIG_KEY, RECIPE_KEY, read_weights, write_weights
from aasist_deploy.published import published_by_sha256
from aasist_deploy.textfile import json_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aasist_deploy.models.network import Network


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network in evaluation mode with its weights, and where both came from.

    Attributes:
        model: The network; `model(wave)` gives (embedding, output).
        architecture: Its name, e.g. "AASIST".
        config: The configuration as plain JSON types.
        path: The file of the weights.
        sha256: Its hash.
        recipe: The recipe it was trained with as TOML text, or None when the file carries none.
    """

    model: Network
    architecture: str
    config: dict[str, Any]
    path: Path
    sha256: str
    recipe: str | None = None


def read_config(path: Path | str) -> dict[str, Any]:
    """The `model_config` object of a published `.conf` file, or of a JSON file that is only that.

    Raises:
        CheckpointError: the file is no JSON object or names no architecture.
    """
    path = Path(path)
    try:
        content = json_of(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The configuration {path} cannot be read: {error}.",
            fix="give a JSON file like the published AASIST.conf",
        ) from error
    config = content.get(CONFIG_KEY, content) if isinstance(content, dict) else None
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(
            f"The configuration {path} names no architecture.",
            fix='give a JSON file with "model_config": {"architecture": "AASIST", ...}',
        )
    return config


def load_checkpoint(
    path: Path | str, config: Mapping[str, Any] | None = None, *, code: str | None = None
) -> Checkpoint:
    """Load weights strictly into their architecture.

    Args:
        path: A .pth, .pt, .ckpt or .safetensors file.
        config: The model configuration. When None it is looked for in the checkpoint, in the table
            of published weights (by the file's hash), and in a `.conf` file beside the weights.
        code: "module:Class" or "path/to/file.py:Class" of a network of your own; it is run.

    Raises:
        CheckpointError: no weights, no configuration, weights that do not fit it, or a network
            that needs code which is not named.
        UsageError: code is named for a built-in network, or the class cannot be found.
    """
    path = Path(path)
    try:
        digest = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error.strerror}.",
            fix="check the path; `aasist-deploy pull aasist` fetches the published weights",
        ) from error
    weights = read_weights(path)
    found = config or weights.config or _config_for(path, digest)
    if found is None and code is not None:
        found = {"architecture": CUSTOM}
    if found is None:
        raise CheckpointError(
            f"Nothing says how {path} is configured: it is no published checkpoint, carries no "
            f"configuration, and there is no {path.with_suffix('.conf').name} beside it.",
            fix="add --config FILE, a JSON file like the published AASIST.conf",
        )
    model = build_model(found, code)
    _load_strictly(model, weights.state, path)
    return Checkpoint(
        model=model.eval(),
        architecture=model.architecture,
        config=json.loads(json.dumps(model.settings)),
        path=path,
        sha256=digest,
        recipe=weights.recipe,
    )


def save_weights(
    path: Path | str,
    model: Network,
    *,
    recipe: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a network's weights so that `load_checkpoint` needs nothing but the file.

    The place holds either what it held or the whole new file. A network of one's own needs its
    code too; the file records which.

    Args:
        path: A .safetensors file.
        model: The network, on any device; it is not changed.
        recipe: The recipe it was trained with, as TOML text.
        notes: Further texts to keep beside the weights.

    Raises:
        CheckpointError: the network's state holds something other than tensors.
        OutputError: the place cannot be written.
        UsageError: the place is no .safetensors file, or a note has a name of ours.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(
            f"Weights are written as safetensors, and {path.name} is named otherwise.",
            fix=f"write to {path.with_suffix('.safetensors').name}",
        )
    taken = {CONFIG_KEY, RECIPE_KEY} & set(notes or {})
    if taken:
        raise UsageError(f"A note has a name that is ours: {', '.join(sorted(taken))}.")
    metadata = {**(notes or {}), CONFIG_KEY: json.dumps(model.settings)}
    if recipe is not None:
        metadata[RECIPE_KEY] = recipe
    write_weights(path, model.state_dict(), metadata)


def _config_for(path: Path, digest: str) -> Mapping[str, Any] | None:
    known = published_by_sha256(digest)
    if known is not None:
        return known.model_config
    beside = path.with_suffix(".conf")
    return read_config(beside) if beside.is_file() else None


def _load_strictly(model: Network, state: dict[str, Tensor], path: Path) -> None:
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
            f"The weights in {path} do not fit {model.architecture} as configured: "
            f"{', '.join(parts)}.",
            fix="give the configuration that these weights were trained with (--config)",
        )
    odd = [name for name, value in state.items() if not _is_plain(value)]
    if odd:
        raise CheckpointError(
            f"The weights in {path} hold tensors that are no plain real numbers on the CPU: "
            f"{', '.join(odd[:3])}.",
            fix="save the float32 weights of the network",
        )
    bad = [name for name, value in state.items() if not torch.isfinite(value.float()).all()]
    if bad:
        raise CheckpointError(f"The weights in {path} hold NaN or infinity: {', '.join(bad[:3])}.")
    model.load_state_dict(state, strict=True)


def _is_plain(value: Tensor) -> bool:
    """Whether it is dense, real, and has its numbers here."""
    dense = value.layout is torch.strided and value.device.type == "cpu"
    return dense and not (value.is_quantized or value.is_complex())
