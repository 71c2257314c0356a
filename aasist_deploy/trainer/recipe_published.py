"""Published `.conf` files (JSON) as recipes, unchanged.

Source of what each key does: clovaai/aasist, main.py, utils.py (create_optimizer, str_to_bool).
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aasist_deploy.errors import RecipeError
from aasist_deploy.trainer.recipe_values import unknown_key

_LOG = logging.getLogger(__name__)

_TRACKS: Final = {"LA": "asvspoof2019-la", "PA": "asvspoof2019-pa"}

# What has no effect here, and why. `lr` and `weight_decay` at the top of RawNet2_baseline.conf have
# none in the published code either: it reads those of optim_config.
_WITHOUT_EFFECT: Final = {
    "asv_score_path": "the t-DCF on dev takes the ASV scores of dev",
    "model_path": "the run folder holds the weights",
    "eval_output": "the run folder holds the scores",
    "eval_all_best": "training never scores the evaluation set",
    "lr": "base_lr counts",
    "weight_decay": "that of optim_config counts",
    "cudnn_benchmark_toggle": "the run is deterministic, or not",
}
_TOP: Final = (
    "database_path", "batch_size", "num_epochs", "loss", "track", "freq_aug",
    "cudnn_deterministic_toggle", "model_config", "optim_config", *_WITHOUT_EFFECT,
)  # fmt: skip
_OPTIM: Final = (
    "optimizer", "amsgrad", "base_lr", "lr_min", "betas", "weight_decay", "scheduler",
)  # fmt: skip


def from_published(content: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """The sections of a recipe, from the content of a published `.conf` file.

    Keys that have no effect here are named in one line of the log.

    Args:
        content: The JSON object.
        name: Its file name, for messages.

    Raises:
        RecipeError: A key is unknown, or asks for something that is not offered.
    """
    model, optim = (_table(content, key, name) for key in ("model_config", "optim_config"))
    for given, known, where in ((content, _TOP, name), (optim, _OPTIM, f"{name}: optim_config")):
        for key in given.keys() - set(known):
            raise unknown_key(key, known, where)
    _only(content, "loss", ("CCE",), name)
    _only(optim, "optimizer", ("adam",), name)
    _only(optim, "scheduler", ("cosine",), name)
    _only(content, "track", tuple(_TRACKS), name)
    if idle := [key for key in _WITHOUT_EFFECT if key in content]:
        reasons = "; ".join(f"{key} ({_WITHOUT_EFFECT[key]})" for key in idle)
        _LOG.warning("%s: no effect here: %s", name, reasons)
    sections: dict[str, dict[str, Any]] = {
        "model": dict(model),
        "data": {
            "root": content.get("database_path"),
            "dataset": _TRACKS[content.get("track", "LA")],
        },
        "training": {
            "batch_size": content.get("batch_size"),
            "epochs": content.get("num_epochs"),
            "freq_mask": _boolean(content, "freq_aug", name),
            "deterministic": _boolean(content, "cudnn_deterministic_toggle", name),
        },
        "optimizer": {
            "name": optim.get("optimizer"),
            "lr": optim.get("base_lr"),
            "betas": optim.get("betas"),
            "weight_decay": optim.get("weight_decay"),
            "amsgrad": _boolean(optim, "amsgrad", name),
        },
        # Without a scheduler the published code never changes the rate.
        "schedule": {
            "name": optim.get("scheduler", "constant"),
            "lr_min": optim.get("lr_min"),
        },
    }
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }


def _table(content: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise RecipeError(
            f"{name} has no object {key}.",
            fix="give a .conf file like the published AASIST.conf, or a recipe in TOML",
        )
    return value


def _only(content: dict[str, Any], key: str, offered: tuple[str, ...], name: str) -> None:
    value = content.get(key, offered[0])
    if value not in offered:
        raise RecipeError(
            f"{name}: {key} is {value!r}; offered here: {', '.join(offered)}.",
            fix="write a recipe in TOML with what is offered",
        )


def _boolean(content: dict[str, Any], key: str, name: str) -> bool | None:
    """The published files write "True" and "False"; JSON's own are taken too."""
    value = content.get(key)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise RecipeError(f'{name}: {key} is {value!r}; it must be "True" or "False".')
