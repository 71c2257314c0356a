"""The state of a run on disk: whole or not at all, and everything in it."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aasist_deploy.errors import OutputError, TrainingError
from aasist_deploy.trainer.state import (
    Position,
    random_state,
    read_state,
    restore_random_state,
    seed_all,
    write_state,
)

REPOSITORY = Path(__file__).resolve().parents[3]
CONTENT: dict[str, Any] = {
    "model": {"weight": torch.arange(6.0)},
    "best": None,
    "recipe": "[model]",
}


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.standard_normal()),  # noqa: NPY002  # the state under test
        float(torch.rand(())),
    ]


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    position = Position(epoch=2, batch=3, step=17, loss_sum=1.1, loss_count=3)
    path = write_state(tmp_path, CONTENT, position, keep=2)
    state = read_state(tmp_path)
    assert state is not None
    assert Position(**state["position"]) == position
    assert torch.equal(state["model"]["weight"], CONTENT["model"]["weight"])
    assert torch.load(path, weights_only=True).keys() == state.keys()
    assert json.loads((tmp_path / "last.json").read_text())["step"] == 17


def test_the_generators_go_on_where_they_were(tmp_path: Path) -> None:
    seed_all(5)
    draws()  # leaves numpy and random with half of a pair of Gaussian draws
    write_state(tmp_path, {"random": random_state()}, Position(), keep=1)
    expected = [draws(), draws()]
    state = read_state(tmp_path)
    assert state is not None
    restore_random_state(state["random"])
    assert [draws(), draws()] == expected


def test_every_generator_follows_the_seed_and_each_number_of_it() -> None:
    def after(*numbers: int) -> list[float]:
        seed_all(*numbers)
        return draws()

    assert after(1, 2, 3) == after(1, 2, 3)
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not set(after(*other)) & set(after(1, 2, 3))


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    for step in (0, 5, 10, 15):
        write_state(tmp_path, CONTENT, Position(step=step), keep=2)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000000010.pt", "step-000000015.pt"]


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2], ids=["state", "pointer"])
def test_a_full_disk_leaves_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, nth: int
) -> None:
    write_state(tmp_path, CONTENT, Position(step=1), keep=1)
    before = files(tmp_path)
    calls = 0

    def fails(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            # fsync is called for the file and for its folder
            calls += 1
            if calls == (2 * nth - 1 if failing == "fsync" else nth):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fails(os.fsync))
    else:
        name = "open" if failing == "write" else "replace"
        monkeypatch.setattr(Path, name, fails(getattr(Path, name)))
    with pytest.raises(OutputError, match=r"No space left on device.*saved before is kept"):
        write_state(tmp_path, CONTENT, Position(step=2), keep=1)
    monkeypatch.undo()
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert not [name for name in after if name.endswith(".tmp")]
    state = read_state(tmp_path)
    assert state is not None
    assert state["position"]["step"] == 1


def test_a_limit_of_the_system_on_file_size_is_such_a_failure(tmp_path: Path) -> None:
    script = f"""
import resource, sys, torch
from pathlib import Path
from aasist_deploy.errors import OutputError
from aasist_deploy.trainer.state import Position, write_state

out = Path({str(tmp_path)!r})
write_state(out, {{"model": torch.zeros(10)}}, Position(step=1), keep=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_state(out, {{"model": torch.zeros(100_000)}}, Position(step=2), keep=1)
except OutputError as error:
    print(error)
    sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert "File too large" in done.stdout
    assert sorted(files(tmp_path)) == ["checkpoints/step-000000001.pt", "last.json"]
    state = read_state(tmp_path)
    assert state is not None
    assert state["position"]["step"] == 1


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Not a directory"):
        write_state(tmp_path / "file", CONTENT, Position(), keep=1)


def test_a_damaged_or_foreign_state_is_refused(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    path = write_state(tmp_path, CONTENT, Position(), keep=1)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TrainingError, match="is damaged"):
        read_state(tmp_path)
    path.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        read_state(tmp_path)
    (tmp_path / "last.json").write_text("[]")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_state(tmp_path)


def test_a_state_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasist_deploy.trainer.state.STATE_FORMAT", "of/tomorrow")
    write_state(tmp_path, CONTENT, Position(), keep=1)
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="'of/tomorrow'"):
        read_state(tmp_path)
