from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
import torch

from aasist_deploy.engines.cpu_features import lacks_bf16
from aasist_deploy.models import build_model, load_checkpoint, save_weights

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


@pytest.fixture(scope="module")
def saturated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RawGAT-ST whose pooling scores are all exactly 1, so that any nodes may be kept."""
    torch.manual_seed(1)
    model: Any = build_model(
        {
            "architecture": "RawGAT-ST",
            "nb_samp": 16_000,
            "first_conv": 128,
            "filts": [70, [1, 2], [2, 2], [2, 3], [3, 3]],
        }
    )
    with torch.no_grad():
        for pool in (model.pool_T, model.pool_S, model.pool_ST):
            pool.proj.bias.fill_(40.0)
        model.proj_T.weight.mul_(30.0)
    path = tmp_path_factory.mktemp("saturated") / "saturated.safetensors"
    save_weights(path, model)
    return path


def test_equal_scores_at_the_pooling_boundary_are_compared_with_the_nodes_of_the_file(
    cli: Any, saturated: Path, clips: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    model = tmp_path / "m.onnx"
    assert cli("export", saturated, "-o", model).code == 0
    arguments = ("parity", model, "--reference", saturated, "--audio", clips)
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert "equal scores at the pooling boundary" in result.out
    assert "compared with the nodes the file kept" in " ".join(result.out.split())
    report = json.loads(cli(*arguments, "--json").out)
    assert report["max_difference"] < 1e-4
    assert report["equal_scores"]["n_clips"] == 6
    # What makes the comparison with each one's own nodes unfit for telling two models apart.
    assert report["equal_scores"]["max_difference"] > 1e-3

    changed: Any = load_checkpoint(saturated).model
    with torch.no_grad():
        changed.proj_T.weight[0, 0] += 1.0
    save_weights(tmp_path / "other.safetensors", changed)
    other = cli("parity", model, "--reference", tmp_path / "other.safetensors", "--audio", clips)
    assert other.code == 1
    assert "a score differs by" in other.err


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


def test_precision_is_of_the_model_and_each_says_what_ran_it(
    cli: Any, small_onnx: Callable[..., Path], clips: Path
) -> None:
    if find_spec("openvino") is None or lacks_bf16() is not None:
        pytest.skip("needs OpenVINO on a CPU that computes bf16")
    model = small_onnx()
    arguments = ("parity", model, "--reference", model, "--audio", clips, "--precision", "bf16")
    result = cli(*arguments, "--reference-backend", "onnx", "--json")
    assert result.code == 1  # bf16 is further than 1e-4 from fp32
    report = json.loads(result.out)
    assert report["backend"]["name"] == "openvino"
    assert report["backend"]["device"].startswith("CPU, bf16, ")
    assert report["reference_backend"]["name"] == "onnx"
    assert 1e-4 < report["max_difference"] < 0.5
    assert "which has the option precision" in result.err


def test_option_that_neither_backend_has_is_refused(
    cli: Any, small_onnx: Callable[..., Path], clips: Path
) -> None:
    model = small_onnx()
    result = cli("parity", model, "--reference", model, "--audio", clips, "--device", "cuda")
    assert result.code == 2
    assert "--device cuda belongs to the backends torch and trt; these models run on" in result.err
