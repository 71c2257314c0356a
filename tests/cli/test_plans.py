"""Plans as MODEL of the verbs that score, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from aasist_deploy import engines
from aasist_deploy.cli.engine_options import EngineChoice
from aasist_deploy.cli.parity import _refuse_unused, _way
from aasist_deploy.errors import UsageError
from tests.contracts import contract_of, write_tiny_plan


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan by its JSON, with bytes that no TensorRT made."""
    return write_tiny_plan(
        tmp_path / "model.plan", contract_of(architecture="AASIST", n_samples=64_600)
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    return path


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(engines, "missing_packages", lambda _name: [])
    monkeypatch.setattr("ctypes.CDLL", missing)


@pytest.mark.usefixtures("no_driver")
def test_score_without_a_driver_says_so_with_exit_code_3(cli: Any, plan: Path, clip: Path) -> None:
    result = cli("score", plan, clip)
    assert result.code == 3
    assert "There is no NVIDIA driver here: libcuda.so.1 cannot be loaded." in result.err
    assert result.out == ""


@pytest.mark.usefixtures("no_driver")
def test_altered_plan_is_refused_before_the_driver_is_asked(
    cli: Any, plan: Path, clip: Path
) -> None:
    plan.write_bytes(b"A plan")
    result = cli("score", plan, clip, "--backend", "trt")
    assert result.code == 2
    assert "was altered" in result.err


def test_missing_packages_are_named_with_the_extra(
    cli: Any, plan: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    result = cli("score", plan, clip)
    assert result.code == 3
    assert "tensorrt or tensorrt_rtx, pycuda or cuda.bindings" in result.err
    assert "aasist-deploy[trt]" in result.err


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)]
)
def test_device_chooses_the_gpu_of_a_plan(device: str, index: int) -> None:
    assert EngineChoice(device=device).options_of("trt")["device_id"] == index


def test_parity_gives_the_device_to_a_plan_and_to_a_checkpoint() -> None:
    asked = EngineChoice(device="cuda:1", code="net.py:Net")
    assert _way(Path("m.plan"), asked).options["device_id"] == 1
    assert _way(Path("m.pth"), asked).options["device"] == "cuda:1"
    _refuse_unused(asked, {"trt", "torch"})
    with pytest.raises(UsageError, match=r"--code net\.py:Net belongs to"):
        _refuse_unused(asked, {"trt", "onnx"})


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "gpu:1", "1", "cuda:-1"])
def test_device_that_is_no_gpu_is_refused_for_a_plan(device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device} is no GPU"):
        EngineChoice(device=device).options_of("trt")
