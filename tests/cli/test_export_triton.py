"""`export --to triton` as its users meet it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("onnx", reason="needs the package onnx")

from tests.tiny_models import write_tiny_model


def test_an_exported_file_becomes_a_repository(cli: Callable[..., Any], tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    outcome = cli("export", model, "--to", "triton", "-o", tmp_path / "repo")
    assert outcome.code == 0, outcome.err
    assert f"tritonserver --model-repository {tmp_path}/repo" in outcome.out
    assert (tmp_path / "repo" / "tiny" / "1" / "model.onnx").is_file()
    again = cli("export", model, "--to", "triton", "-o", tmp_path / "repo")
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.usefixtures("traced_before")
def test_a_checkpoint_is_exported_into_the_repository(
    cli: Callable[..., Any], small_checkpoint: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    repository = tmp_path / "repo"
    outcome = cli(
        "export", small_checkpoint.path, "--to", "triton", "-o", repository, "--json",
        "--instances", "2",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    said = json.loads(outcome.out)
    assert said["models"] == ["small"]
    assert said["path"] == str(repository / "small" / "1" / "model.onnx")
    assert said["max_difference"] < 1e-4
    assert [one.name for one in repository.iterdir()] == ["small"]
    assert "count: 2" in (repository / "small" / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x.onnx", "--plan", "none.plan"], "--plan belongs to model repositories"),
        (["-o", "x.onnx", "--instances", "2"], "--instances belongs to model repositories"),
        (["-o", "repo", "--to", "triton", "--plan", "none.plan"], "There is no plan none.plan"),
        (["-o", "repo", "--to", "triton", "--profile", "1,2,3"], "add --to trt"),
        (["-o", "repo", "--to", "triton", "--stream"], "file for streams is made from"),
    ],
)
def test_options_that_do_not_go_together_leave_nothing_behind(
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = write_tiny_model(tmp_path / "tiny.onnx")
    outcome = cli("export", model, *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert [one.name for one in tmp_path.iterdir()] == ["tiny.onnx"]
