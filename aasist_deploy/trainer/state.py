"""The whole state of a run in one file, written all or nothing, and found again by a pointer.

A state is a PyTorch file of tensors, numbers, text, lists and mappings, so it loads with
`weights_only=True`. It carries the network's weights and configuration as a checkpoint does:
`export` takes it as it is.
"""

from __future__ import annotations

import io
import json
import os
import random
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from aasist_deploy.errors import OutputError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_FORMAT: Final = "aasist-deploy/training-state/1"
STATES_FOLDER: Final = "checkpoints"
POINTER: Final = "last.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a run is.

    Attributes:
        epoch: Epochs that are done.
        batch: Batches of the next epoch that are done.
        step: Optimiser steps that are done, over all epochs; the schedule follows it alone.
        loss_sum: Sum of the losses of the steps in the unfinished epoch.
        loss_count: Their number.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0


def write_state(out: Path, content: Mapping[str, Any], position: Position, keep: int) -> Path:
    """Write a state, move the pointer to it, and then remove all but the newest.

    Args:
        out: The run folder.
        content: Tensors, numbers, text, lists, mappings.
        position: How far the run is.
        keep: How many states stay.

    Raises:
        OutputError: It cannot be written; the states and the pointer from before are as they were.
    """
    folder = out / STATES_FOLDER
    path = folder / f"step-{position.step:09d}.pt"
    buffer = io.BytesIO()  # so that a full disk is an OSError, and never a half-written archive
    torch.save({"format": STATE_FORMAT, "position": asdict(position), **content}, buffer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, buffer.getbuffer())
        pointer = {
            "state": f"{STATES_FOLDER}/{path.name}",
            "step": position.step,
            "epoch": position.epoch,
            "sha256": sha256(buffer.getbuffer()).hexdigest(),
        }
        _write_atomically(out / POINTER, (json.dumps(pointer) + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"The state after step {position.step} cannot be written to {path}: "
            f"{error.strerror or error}. What was saved before is kept.",
            fix="make room, then go on with --resume",
        ) from error
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        if old != path:
            with suppress(OSError):  # costs room and nothing else
                old.unlink()
    return path


def read_state(out: Path) -> dict[str, Any] | None:
    """Read the state that the pointer names; None where the run has none yet.

    Raises:
        TrainingError: The pointer or the state is missing, damaged, or of another version.
    """
    if not (out / POINTER).is_file():
        return None
    try:
        pointer = json.loads((out / POINTER).read_text(encoding="utf-8"))
        path, expected = out / STATES_FOLDER / Path(pointer["state"]).name, pointer["sha256"]
        data = path.read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(
            f"The state that {out / POINTER} names cannot be read: {error}.",
            fix=f"point it to another file of {out / STATES_FOLDER}, or start in a new folder",
        ) from error
    damaged = TrainingError(
        f"{path} is damaged: it is not what was written.",
        fix=f"remove {out / POINTER} and start again in a new folder",
    )
    if sha256(data).hexdigest() != expected:
        raise damaged
    try:
        content: dict[str, Any] = torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        )
    except Exception as error:  # its unpickler raises a dozen types on damaged bytes
        raise damaged from error
    if not isinstance(content, dict):
        raise damaged
    if content.get("format") != STATE_FORMAT:
        raise TrainingError(
            f"{path} has the format {content.get('format')!r}; this version reads {STATE_FORMAT}."
        )
    return content


def _write_atomically(path: Path, data: bytes | memoryview) -> None:
    """The place holds either the old file or the whole new one, even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def random_state() -> dict[str, Any]:
    """The states of all generators that a network may draw from, as plain types and tensors."""
    version, words, gauss = random.getstate()
    legacy: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": {
            "key": legacy["state"]["key"].tolist(),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` took; of CUDA devices those that are there now."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        {
            "bit_generator": "MT19937",
            "state": {"key": np.array(numpy["key"], dtype=np.uint32), "pos": numpy["pos"]},
            "has_gauss": numpy["has_gauss"],
            "gauss": numpy["gauss"],
        }
    )
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for index, each in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(each, index)


def seed_all(*numbers: int) -> None:
    """Seed Python, NumPy, PyTorch on the CPU and on every CUDA device from numbers >= 0."""
    words = np.random.SeedSequence(numbers).generate_state(4, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002  # for networks that draw from it
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)
