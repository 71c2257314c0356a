"""`export --to trt`: TensorRT-RTX for other machines, and what is said where there is no GPU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.engines import tensorrt_runtime
from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.plan_file import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AASIST_DEPLOY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a driver, whatever this one has."""

    def missing() -> None:
        raise EnvironmentLacks("There is no NVIDIA driver here.", fix="run elsewhere")

    monkeypatch.setattr(tensorrt_runtime, "_libcuda", missing)


@pytest.mark.trt
@pytest.mark.usefixtures("rtx")
def test_exported_file_becomes_a_plan(
    cli: Any, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    plan_path, report = tmp_path / "small.plan", tmp_path / "layers.json"
    result = cli(
        *("export", small_onnx(topk="rank"), "--to", "trt", "-o", plan_path),
        *("--for-sm", "86,120", "--profile", "1,4,16", "--profile", "32", "--report", report),
    )
    assert result.code == 0, result.err
    assert "for sm 8.6 12.0; batches of 1 to 16 (best at 4) and 32 to 32" in result.out
    plan, _ = read_plan(plan_path)
    assert plan.profiles == ((1, 4, 16), (32, 32, 32))
    assert json.loads(report.read_text())["n_layers"] > 100


@pytest.mark.trt
@pytest.mark.usefixtures("rtx", "traced_before")
def test_checkpoint_becomes_a_plan_beside_its_onnx_file_in_one_command(
    cli: Any, small_checkpoint: Any, tmp_path: Path
) -> None:
    plan_path = tmp_path / "small.plan"
    result = cli(
        "export", small_checkpoint.path, "--to", "trt", "-o", plan_path, "--for-sm", "89", "--json"
    )
    assert result.code == 0, result.err
    said = json.loads(result.out)
    plan, _ = read_plan(plan_path)
    assert said["plan"] == json.loads(json.dumps(plan.to_dict()))
    assert said["from_cache"] is False
    assert said["onnx"]["path"] == str(tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").is_file()
    assert plan.contract.topk["method"] == "rank"  # the default for TensorRT
    again = cli("export", tmp_path / "small.onnx", "--to", "trt", "-o", plan_path, "--for-sm", "89")
    assert "from the cache" in again.out


@pytest.mark.trt
@pytest.mark.usefixtures("rtx")
def test_inspect_shows_the_plan_and_refuses_an_altered_one(
    cli: Any, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "small.plan"
    cli("export", small_onnx(topk="rank"), "--to", "trt", "-o", path, "--for-sm", "86")
    shown = cli("inspect", path)
    for word in ("tensorrt_rtx", "8.6", "contract: architecture", "AASIST"):
        assert word in shown.out
    printed = json.loads(cli("inspect", path, "--json").out)
    assert printed["contract"]["architecture"] == "AASIST"
    assert printed["bytes"] == printed["plan_bytes"] == path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    refused = cli("inspect", path)
    assert refused.code == 2
    assert "was altered" in refused.err


@pytest.mark.usefixtures("rtx", "no_driver")
def test_missing_gpu_is_one_sentence_and_exit_code_3_before_any_work(
    cli: Any, tmp_path: Path
) -> None:
    result = cli("export", "no-such-model.pth", "--to", "trt", "-o", tmp_path / "m.plan")
    assert result.code == 3
    assert result.err.splitlines() == [
        "error: There is no NVIDIA driver here.",
        "Fix: run elsewhere",
    ]
    assert not list(tmp_path.iterdir())


def test_missing_tensorrt_is_one_sentence_and_exit_code_3(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda _name: None)
    result = cli("export", "aasist", "--to", "trt", "-o", tmp_path / "m.plan")
    assert result.code == 3
    assert "TensorRT is not installed" in result.err
    assert "aasist-deploy[trt]" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tvm", "-o", "m.onnx"], "no destination 'tvm'"),
        (["--to", "trt", "-o", "m.onnx"], "does not end in .plan"),
        (["-o", "m.plan"], "does not end in .onnx"),
        (
            ["-o", "m.onnx", "--tf32", "--profile", "1,8,32"],
            "--profile, --tf32 belongs to TensorRT",
        ),
        (["--to", "trt", "-o", "m.plan", "--profile", "1,8"], "three whole numbers"),
        (["--to", "trt", "-o", "m.plan", "--profile", "8,1,32"], "in this order"),
        (["--to", "trt", "-o", "m.plan", "--builder-level", "9"], "must be 0 to 5"),
        (["--to", "trt", "-o", "m.plan", "--for-sm", "ninety"], "no compute capability"),
        (["--to", "trt", "-o", "m.plan", "--for-sm", "86", "--device", "1"], "leave out one"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    cli: Any, arguments: list[str], message: str
) -> None:
    result = cli("export", "no-such-model.pth", *arguments)
    assert result.code == 2
    assert message in result.err
