from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint


@pytest.fixture
def clips(tmp_path: Path, noise: Callable[..., NDArray[np.float32]]) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for index, wave in enumerate(noise(6, 20_000)):
        soundfile.write(folder / f"{index}.wav", wave, 16_000, subtype="FLOAT")
    return folder


@pytest.fixture
def perturbed(small_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The small weights, one of them a little off."""
    state = {k: v.clone() for k, v in small_checkpoint.model.state_dict().items()}
    state["out_layer.bias"] += 0.01
    path = tmp_path / "perturbed.pth"
    torch.save(state, path)
    path.with_suffix(".conf").write_text(json.dumps({"model_config": small_checkpoint.config}))
    return path


@pytest.mark.parametrize("topk", ["topk", "rank"])
def test_exported_model_equals_its_checkpoint(
    topk: str,
    cli: Any,
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    clips: Path,
) -> None:
    model = small_onnx(topk=topk)
    arguments = ("parity", model, "--reference", small_checkpoint.path, "--audio", clips)
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert "holds" in result.out
    report = json.loads(cli(*arguments, "--json").out)
    assert report["holds"] is True
    assert report["n_clips"] == 6
    assert report["max_difference"] < 1e-5
    assert report["flips"] == 0
    assert report["rank_correlation"] == 1.0
    assert set(report["topk_agreement"].values()) == {1.0}
    assert report["length_differences"] == {}
    assert report["breaches"] == []


def test_perturbed_weights_break_parity(
    cli: Any, small_onnx: Callable[..., Path], perturbed: Path, clips: Path
) -> None:
    arguments = ("parity", small_onnx(), "--reference", perturbed, "--audio", clips)
    result = cli(*arguments)
    assert result.code == 1
    assert "does not hold" in result.out
    assert "is not the same as perturbed.pth: a score differs by 1.00e-02, over 1e-04" in result.err
    result = cli(*arguments, "--json")
    assert result.code == 1
    assert json.loads(result.out)["holds"] is False
    assert cli(*arguments, "--max-difference", "0.02", "--max-flips", "6").code == 0


@pytest.mark.slow
def test_variable_lengths_are_compared_with_the_checkpoint(
    cli: Any, small_onnx: Callable[..., Path], small_checkpoint: Checkpoint, clips: Path
) -> None:
    arguments = (
        *("parity", small_onnx(n_samples=None), "--reference", small_checkpoint.path),
        *("--audio", clips, "--limit", "2", "--json"),
    )
    report = json.loads(cli(*arguments, "--lengths", "7000,16000,33333").out)
    assert report["n_clips"] == 2
    assert set(report["length_differences"]) == {"7000", "16000", "33333"}
    assert max(report["length_differences"].values()) < 1e-5
    fixed = ("--reference", small_onnx())
    result = cli("parity", small_onnx(n_samples=None), *fixed, "--audio", clips, "--limit", "2")
    assert result.code == 0, result.err
    assert "the reference has a fixed length; other lengths are not compared" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lengths", "16000,long"), "--lengths is 'long'; it must be a whole number >= 1."),
        (("--lengths", "7000"), "The length 7000 cannot be compared"),
        (("--provider", "rocm"), "no provider 'rocm'"),
        (("--device", "tpu"), "no device 'tpu'"),
    ],
)
def test_option_that_cannot_be_is_refused(
    options: tuple[str, str],
    message: str,
    cli: Any,
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    clips: Path,
) -> None:
    arguments = ("--reference", small_checkpoint.path, "--audio", clips, "--limit", "1")
    result = cli("parity", small_onnx(), *arguments, *options)
    assert result.code == 2
    assert message in result.err


def test_file_names_with_brackets_are_no_markup(
    cli: Any, small_onnx: Callable[..., Path], small_checkpoint: Checkpoint, clips: Path
) -> None:
    odd = clips.parent / "[red] model.onnx"
    odd.write_bytes(small_onnx().read_bytes())
    arguments = ("--reference", small_checkpoint.path, "--audio", clips, "--limit", "1")
    result = cli("parity", odd, *arguments)
    assert result.code == 0
    assert "[red] model.onnx against small.pth" in result.out
