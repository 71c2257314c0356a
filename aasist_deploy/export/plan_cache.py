"""Plans that were built before, found again by everything that they depend on.

A build takes seconds to minutes, and for the same file, TensorRT, GPU and options one plan is as
good as the next. The key is a hash of all of these; what is found is used only when the plan's own
description agrees and its bytes hash to what that says.
"""

from __future__ import annotations

import json
import logging
import platform
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import ModelFileError, OutputError
from aasist_deploy.plan_file import PlanContract, json_path, read_plan, write_plan
from aasist_deploy.published import cache_dir

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_KEY_SCHEMA: Final = "aasist-deploy/plan-key/1"


def plan_key(wanted: PlanContract) -> str:
    """The key of a plan: the same for two builds that would give interchangeable plans.

    Args:
        wanted: What the plan will say of itself; the hash and the size of its bytes are not known
            before it is built, and are left out.

    Returns:
        64 hexadecimal digits.
    """
    values: dict[str, Any] = {
        name: value
        for name, value in wanted.to_dict().items()
        if name not in ("plan_sha256", "plan_bytes", "contract")  # onnx_sha256 covers the contract
    }
    # A plan is for one operating system and processor too.
    values["key"] = [_KEY_SCHEMA, platform.system(), platform.machine()]
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _as_text(plan: PlanContract) -> str:
    return json.dumps(plan.to_dict(), sort_keys=True)


def cached_plan_path(wanted: PlanContract) -> Path:
    """Where the cache keeps such a plan."""
    return cache_dir() / "plans" / f"{plan_key(wanted)}.plan"


def find_plan(wanted: PlanContract) -> tuple[PlanContract, bytes] | None:
    """Such a plan from the cache; None when there is none, or it is damaged and was removed."""
    path = cached_plan_path(wanted)
    if not path.is_file():
        return None
    try:
        found, content = read_plan(path)
    except ModelFileError as error:
        log.warning("The cached plan is not used and was removed: %s", error)
        _remove(path)
        return None
    same = replace(wanted, plan_sha256=found.plan_sha256, plan_bytes=found.plan_bytes)
    if _as_text(found) != _as_text(same):
        log.warning("The cached plan %s is not what its key says and was removed.", path)
        _remove(path)
        return None
    return found, content


def keep_plan(plan_bytes: bytes, contract: PlanContract) -> None:
    """Put a plan into the cache; a cache that cannot be written costs a later build, no more."""
    path = cached_plan_path(contract)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_plan(plan_bytes, contract, path)
    except (OSError, OutputError) as error:
        log.warning("The plan was not kept in the cache: %s", error)


def _remove(path: Path) -> None:
    for file in (path, json_path(path)):
        with suppress(OSError):
            file.unlink(missing_ok=True)
