from __future__ import annotations

import re
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from aasist_deploy import doctor, extras
from aasist_deploy.doctor import Finding, examine
from aasist_deploy.engines import tensorrt_runtime
from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt
from aasist_deploy.errors import EnvironmentLacks


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_this_environment_runs_both_backends_and_exports() -> None:
    found = findings()
    assert found["onnx"].works
    assert "ONNX Runtime" in found["onnx"].detail
    assert found["torch"].works
    assert found["export"].works


@pytest.mark.parametrize("reason", [None, "this made-up CPU has neither AVX512_BF16 nor AMX"])
def test_openvino_says_its_cpu_and_what_that_would_emulate(
    reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("needs OpenVINO")
    monkeypatch.setattr(doctor, "lacks_bf16", lambda: reason)
    monkeypatch.setattr(doctor, "lacks_int8", lambda: None)
    monkeypatch.setattr(doctor, "cpu_name", lambda: "Made-up CPU")
    found = findings()["openvino"]
    assert found.works
    assert re.match(r"OpenVINO \d+\.\d+\.\d+ on Made-up CPU, \d+ cores, fp32, ", found.detail)
    if reason is None:
        assert found.detail.endswith("fp32, bf16, int8")
    else:
        assert found.detail.endswith(f"fp32, int8; bf16 would be emulated: {reason}")


def test_every_finding_that_does_not_work_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasist_deploy.engines.find_spec", lambda _name: None)
    monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda _name: None)
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    found = findings()
    assert not any(finding.works for finding in found.values())
    assert found["onnx"].detail == "needs onnxruntime: pip install 'aasist-deploy[onnx]'"
    assert found["openvino"].detail == "needs openvino: pip install 'aasist-deploy[openvino]'"
    assert found["torch"].detail == "needs torch: pip install 'aasist-deploy[torch]'"
    assert "aasist-deploy[export" in found["export"].detail
    assert "TensorRT is not installed" in found["trt"].detail
    assert "pip install 'aasist-deploy[trt]'" in found["trt"].detail


@pytest.fixture
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TensorRT of which nothing but the name is there."""
    found = TensorRt(SimpleNamespace(), "tensorrt", "10.13.3.9")
    monkeypatch.setattr(doctor, "load_tensorrt", lambda: found)


@pytest.mark.usefixtures("fake_tensorrt")
def test_tensorrt_without_a_gpu_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise EnvironmentLacks("There is no driver.", fix="get one")

    monkeypatch.setattr(doctor, "probe_gpus", no_driver)
    finding = findings()["trt"]
    assert not finding.works
    assert finding.detail == (
        "TensorRT 10.13.3.9 (module tensorrt), but: There is no driver. get one"
    )


@pytest.mark.usefixtures("fake_tensorrt")
def test_tensorrt_with_a_gpu_works_when_its_memory_can_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(0, "NVIDIA H200", (9, 0), 140 * 2**30, "13.0")
    monkeypatch.setattr(doctor, "probe_gpus", lambda: [gpu])
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package == "cuda.bindings")
    finding = findings()["trt"]
    assert finding.works
    assert "GPU 0: NVIDIA H200, sm 9.0, 140 GiB; driver for CUDA 13.0" in finding.detail
    monkeypatch.setattr(doctor, "_is_installed", lambda _package: False)
    finding = findings()["trt"]
    assert not finding.works
    assert "running plans needs pycuda or cuda-python" in finding.detail


def test_provider_that_the_build_lacks_is_told(fake_onnxruntime: Any) -> None:
    fake_onnxruntime(["CPUExecutionProvider"], ["CPUExecutionProvider"])
    found = findings()
    assert not found["onnx, cuda"].works
    assert "this build of ONNX Runtime has no CUDAExecutionProvider" in found["onnx, cuda"].detail


def test_listed_provider_is_tried_because_listing_proves_nothing(fake_onnxruntime: Any) -> None:
    listed = ["CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"]
    fake_onnxruntime(listed, ["CPUExecutionProvider"])
    found = findings()
    assert not found["onnx, cuda"].works
    assert "a session took CPUExecutionProvider instead" in found["onnx, cuda"].detail
    fake_onnxruntime(listed, RuntimeError("no libcudnn\nsecond line"))
    assert "no libcudnn" in findings()["onnx, cuda"].detail
    fake_onnxruntime(listed, listed)
    assert findings()["onnx, cuda"].works
    assert findings()["onnx, tensorrt"].works


def test_probe_model_is_a_model_that_onnx_runtime_takes() -> None:
    assert doctor._try_provider("CPUExecutionProvider") is None


@pytest.mark.parametrize(
    "names", [["onnxruntime", "onnxruntime-gpu"], ["ONNXRuntime-GPU", "onnxruntime"]]
)
def test_both_packages_of_onnx_runtime_together_are_told(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = [SimpleNamespace(metadata={"Name": name}) for name in [*names, "numpy"]]
    monkeypatch.setattr(doctor, "distributions", lambda: installed)
    finding = findings()["onnx packages"]
    assert not finding.works
    assert "overwrite each other" in finding.detail


def test_one_package_of_onnx_runtime_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [SimpleNamespace(metadata={"Name": name}) for name in ("onnxruntime", None)]
    monkeypatch.setattr(doctor, "distributions", lambda: installed)
    assert "onnx packages" not in findings()


def test_empty_folder_that_an_uninstall_left_is_explained(fake_onnxruntime: Any) -> None:
    fake_onnxruntime(None, [])
    found = findings()
    assert not found["onnx"].works
    assert "cannot be used" in found["onnx"].detail
    assert "then install one of the two" in found["onnx"].detail
    assert "onnx, cuda" not in found
