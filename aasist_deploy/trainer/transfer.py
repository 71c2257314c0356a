"""Starting from trained weights, and keeping a part of them as it is."""

from __future__ import annotations

import difflib
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from torch.nn.modules.batchnorm import _BatchNorm

from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from aasist_deploy.models import Checkpoint
    from aasist_deploy.models.network import Network

# The window may differ: the weights of a network that takes any length do not depend on it, and
# those of another do not load into it. The name of the architecture has synonyms.
_MAY_DIFFER: Final = frozenset({"architecture", "nb_samp", "n_samples"})
_ABSENT: Final = "absent"


def init_weights(model: Network, path: Path | str, code: str | None = None) -> None:
    """Give a model the weights of a checkpoint of the same architecture and configuration.

    Args:
        model: The network to fill, on any device.
        path: Any checkpoint that `load_checkpoint` takes. One that does not say how it is
            configured is read with the configuration of `model`.
        code: Where the class of a custom model is; without it no code of a checkpoint runs.

    Raises:
        CheckpointError: it cannot be read, or architecture, configuration or shapes differ.
    """
    checkpoint = _read(model, path, code)
    theirs, ours = checkpoint.model, model
    if theirs.architecture != ours.architecture:
        raise CheckpointError(
            f"The initial weights {path} are of the architecture {theirs.architecture}, and the "
            f"model to train is {ours.architecture}.",
            fix=f"give a checkpoint of {ours.architecture}, or train {theirs.architecture}",
        )
    if different := _differences(theirs.settings, ours.settings):
        raise CheckpointError(
            f"The initial weights {path} are of {theirs.architecture} as is the model to train, "
            f"but the configurations differ: {'; '.join(different)}.",
            fix="give a checkpoint of the same configuration, or put its configuration into the "
            "recipe",
        )
    state, expected = theirs.state_dict(), ours.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(value.shape)} here"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if shapes or state.keys() != expected.keys():
        names = [f"{name} is in one of them alone" for name in sorted(state.keys() ^ expected)]
        raise CheckpointError(
            f"The initial weights {path} are of {theirs.architecture} for windows of "
            f"{theirs.n_samples} samples and do not fit the model to train, for "
            f"{ours.n_samples}: {(shapes + names)[0]}.",
            fix="train with the same window",
        )
    ours.load_state_dict(state, strict=True)


def _read(model: Network, path: Path | str, code: str | None) -> Checkpoint:
    try:
        return load_checkpoint(path, code=code)
    except (CheckpointError, UsageError) as first:
        if code is not None:  # for the model to train; the file may be of a built-in network
            with suppress(CheckpointError):
                return load_checkpoint(path)
        # Perhaps the file only lacks a configuration, and the model has one. It is loaded strictly
        # all the same.
        try:
            return load_checkpoint(path, model.settings, code=code)
        except (CheckpointError, UsageError) as second:
            if str(second) == str(first):
                raise first from None
            raise CheckpointError(
                f"{first} As a checkpoint of the model to train, {model.architecture}: {second}",
                fix=f"give a checkpoint of {model.architecture} as the recipe configures it, or "
                "put the file's own configuration beside it, as a .conf file of its name",
            ) from first


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {theirs.get(key, _ABSENT)} there and {ours.get(key, _ABSENT)} here"
        for key in sorted((theirs.keys() | ours.keys()) - _MAY_DIFFER)
        if _plain(theirs.get(key, _ABSENT)) != _plain(ours.get(key, _ABSENT))
    ]


def _plain(value: Any) -> Any:  # noqa: ANN401  # a JSON value; tuples are lists in a file
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def freeze(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Exclude parameters from training.

    A normalisation whose parameters are all frozen is to keep its running statistics too: call
    `hold` after each `model.train()`.

    Args:
        model: The network.
        patterns: Of parameter names, with `*`, `?` and `[...]` as in a shell; `encoder.*` is all
            of the encoder.

    Returns:
        The names of the frozen parameters, in the order of the model.

    Raises:
        UsageError: a pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            raise UsageError(
                f"No parameter of the model has a name like {pattern!r}; near are "
                f"{', '.join(_near(pattern, names))}.",
                fix="freeze takes shell patterns of parameter names, such as 'encoder.*'",
            )
        chosen |= matched
    if chosen and len(chosen) == len(names):
        raise UsageError(
            f"All {len(names)} parameters of the model would be frozen, and none is left to train.",
            fix="leave out a pattern",
        )
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad = False
    return [name for name in names if name in chosen]


def _near(pattern: str, names: list[str]) -> list[str]:
    """Up to three names or module patterns of the model that look like `pattern`."""
    modules = {
        ".".join(parts[:depth]) + ".*"
        for parts in (name.split(".") for name in names)
        for depth in range(1, len(parts))
    }
    return difflib.get_close_matches(pattern, [*sorted(modules), *names], n=3, cutoff=0.0)


def frozen_norms(model: nn.Module) -> list[_BatchNorm]:
    """The normalisations of which every parameter is frozen.

    One without parameters of its own goes by those of the module that holds it.
    """
    found: list[_BatchNorm] = []
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        owner = module if module.affine else model.get_submodule(name.rpartition(".")[0])
        parameters = list(owner.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.append(module)
    return found


def hold(model: nn.Module) -> None:
    """Put frozen normalisations into evaluation mode; call it after each `model.train()`."""
    for norm in frozen_norms(model):
        norm.eval()
