"""A run folder opened: new, or gone on with from its last state."""

from __future__ import annotations

import json
import logging
import os
import platform
import tomllib
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from aasist_deploy import __version__
from aasist_deploy.errors import OutputError, TrainingError, UsageError
from aasist_deploy.textfile import write_text_atomically
from aasist_deploy.trainer.recipe import recipe_from
from aasist_deploy.trainer.state import (
    POINTER,
    Position,
    random_state,
    read_state,
    restore_random_state,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aasist_deploy.trainer.prepare import Machine
    from aasist_deploy.trainer.recipe import Recipe

RECIPE: Final = "recipe.toml"

_log = logging.getLogger(__name__)


def open_run(out: Path, recipe: Recipe, *, resume: bool) -> dict[str, Any] | None:
    """Read the state of the run that is to go on; nothing is written.

    Returns:
        The state; None for a run that begins, also one that ended before its first state.

    Raises:
        UsageError: There is a run and it is not to be resumed, or the other way round.
        TrainingError: The recipe differs from that of the run, or its state is damaged.
        OutputError: A run that begins has no place that could be written.
    """
    if not resume:
        if (out / POINTER).exists():
            raise UsageError(
                f"{out} holds a run already.",
                fix="go on with it by --resume, or give another folder",
            )
        _check_place(out)
        return None
    if not (out / RECIPE).exists():
        raise UsageError(
            f"There is no run in {out} that could go on.",
            fix="leave out --resume, or give the folder of the run",
        )
    state = read_state(out)
    if state is not None:
        _check_same(out, state, recipe)
    return state


def begin_run(out: Path, recipe: Recipe) -> None:
    """Make the run folder, with the recipe in it.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The run folder {out} cannot be made: {error.strerror or error}.",
            fix="give --out a folder in a place that you may write to",
        ) from error
    write_text_atomically(out / RECIPE, [recipe.to_toml()])


def content_of(recipe: Recipe, machine: Machine, best: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that a run goes on from, but its position."""
    toml = recipe.to_toml()
    settings = dict(machine.model.settings)
    return {
        "model": machine.model.state_dict(),
        "model_config": json.loads(json.dumps(settings)),  # plain types alone
        "optimizer": machine.optimizer.state_dict(),
        "swa": None if machine.swa is None else machine.swa.state_dict(),
        "ema": None if machine.ema is None else machine.ema.state_dict(),
        "random": random_state(),
        "best": None if best is None else dict(best),
        "recipe": toml,
        "recipe_sha256": sha256(toml.encode()).hexdigest(),
        "versions": _versions(),
    }


def restore(
    state: Mapping[str, Any], machine: Machine, device: torch.device
) -> tuple[Position, dict[str, Any] | None]:
    """Put a state into the network and what changes it; returns the position and the best so far.

    Raises:
        TrainingError: It does not fit, though the recipe does.
    """
    try:
        machine.model.load_state_dict(state["model"], strict=True)
        machine.optimizer.load_state_dict(state["optimizer"])
        for average, name in ((machine.swa, "swa"), (machine.ema, "ema")):
            if average is not None:
                average.load_state_dict(state[name], device)
        restore_random_state(state["random"])
        return Position(**state["position"]), state["best"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"The saved state does not fit the network of the recipe: {error}.",
            fix="if the code of the network has changed, begin a new run with --init",
        ) from error


def _check_place(out: Path) -> None:
    """Refuse at once what could not be written after all clips were looked at."""
    there = next(each for each in (out, *out.absolute().parents) if each.exists())
    if not there.is_dir():
        trouble = f"{there} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        trouble = f"{there} is not writable"
    else:
        return
    raise OutputError(
        f"The run folder {out} cannot be made: {trouble}.",
        fix="give --out a folder in a place that you may write to",
    )


def _check_same(out: Path, state: Mapping[str, Any], recipe: Recipe) -> None:
    try:
        before = recipe_from(tomllib.loads(state["recipe"]))
    except (UsageError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TrainingError(
            f"The state of {out} holds no recipe that can be read: {error}.",
            fix="begin a new run",
        ) from error
    if different := before.differences(recipe):
        raise TrainingError(
            f"The run in {out} was started with another recipe; different are "
            f"{', '.join(different)}.",
            fix=f"resume with {out / RECIPE} as it is, or begin a new run",
        )
    for name, version in _versions().items():
        if state["versions"].get(name) != version:
            _log.warning(
                "the run was started with %s %s and goes on with %s: losses may differ in the last "
                "digits from those of a run that was not interrupted",
                name,
                state["versions"].get(name),
                version,
            )


def _versions() -> dict[str, str]:
    return {
        "aasist_deploy": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
