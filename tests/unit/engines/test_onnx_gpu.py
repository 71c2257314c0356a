"""GPU providers of the onnx engine: what they are told, and runs through bound buffers.

There is no GPU here. `FakeGpuOnnxRuntime` is the real ONNX Runtime on the CPU that says it is on a
GPU, so that graphs, bindings and threads are real and the device is not.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy import open_engine
from aasist_deploy.contract import read_contract
from aasist_deploy.engines import onnx as onnx_engine
from aasist_deploy.engines.onnx_bound import KEPT_SETS, BoundSession
from aasist_deploy.errors import EnvironmentLacks, ShapeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

LISTED = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
# One graph run at another batch size: rounding of float32; measured max 4.8e-7 (test_onnx.py).
BATCH_ATOL = 5e-6


class FakeSession:
    """A real session on the CPU that says which provider it took."""

    def __init__(self, ort: Any, content: bytes, providers: list[Any]) -> None:
        self._inner = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        self._taken = [providers[0][0], "CPUExecutionProvider"]

    def get_providers(self) -> list[str]:
        return self._taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FakeGpuOnnxRuntime:
    """The real module, but for providers and devices; `settings` is what a session was told."""

    def __init__(self, ort: Any) -> None:
        self._ort = ort
        self.settings: list[dict[str, Any]] = []
        self.buffers: list[Any] = []
        self.preloaded = 0
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._value)

    def get_available_providers(self) -> list[str]:
        return LISTED

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def InferenceSession(self, content: bytes, _options: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.settings.append(providers[0][1])
        return FakeSession(self._ort, content, providers)

    def _value(self, array: NDArray[np.float32], device: str, device_id: int) -> Any:
        assert (device, device_id) == ("cuda", 1)
        value = self._ort.OrtValue.ortvalue_from_numpy(array.copy(), "cpu", 0)
        self.buffers.append(value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ort, name)


class OnCpu:
    """A binding whose outputs stay on the CPU, whatever device is named."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    def bind_output(self, name: str, device: str, device_id: int) -> None:
        assert (device, device_id) == ("cuda", 1)
        self._binding.bind_output(name, "cpu", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding, name)


@pytest.fixture
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10)


@pytest.fixture
def fake_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's libraries are found and TF32 is off."""
    monkeypatch.setattr("ctypes.CDLL", lambda _path: object())
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch, small_onnx: Callable[..., Path]) -> Any:
    small_onnx()  # exported before onnxruntime is another one
    import onnxruntime

    fake = FakeGpuOnnxRuntime(onnxruntime)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    real = FakeSession.__getattr__

    def attribute(session: FakeSession, name: str) -> Any:
        value = real(session, name)
        if name == "io_binding":
            return lambda: OnCpu(value())
        if name == "run_with_iobinding":
            return lambda bound: value(bound._binding)
        return value

    monkeypatch.setattr(FakeSession, "__getattr__", attribute)
    return fake


def open_on_gpu(path: Path, provider: str = "cuda", **options: Any) -> Any:
    return open_engine(path, provider=provider, device_id=1, **options)


@pytest.mark.usefixtures("fake_gpu")
def test_bound_buffers_give_the_scores_of_a_plain_run(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    with open_engine(small_onnx(), "onnx") as plain:
        expected = plain.run(waves)
    with open_on_gpu(small_onnx(), max_batch=4) as engine:
        assert engine.device == "CUDAExecutionProvider, device 1"
        for _ in range(2):  # the second time through buffers that were used
            found = engine.run(waves)
            assert set(found) == set(expected)
            for name, value in found.items():
                assert value.dtype == np.float32
                assert np.abs(value - expected[name]).max() <= BATCH_ATOL


@pytest.mark.usefixtures("fake_gpu")
def test_results_are_fresh_and_waves_are_not_kept(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    with open_on_gpu(small_onnx()) as engine:
        first = engine.score(waves[:2])
        kept = first.copy()
        given = waves[2:4].copy()
        second = engine.score(given)
        given[:] = 0
        assert np.array_equal(first, kept)
        assert not np.array_equal(first, second)
        assert np.array_equal(engine.score(waves[2:4]), second)


@pytest.mark.usefixtures("fake_gpu")
def test_threads_with_mixed_batches_get_their_own_rows(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    with open_on_gpu(small_onnx(), max_batch=4) as engine:
        expected = engine.score(waves)
        jobs = [(start, 1 + start % 3) for start in range(8)] * 6
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda job: engine.score(waves[job[0] : sum(job)]), jobs))
    for (start, n), scores in zip(jobs, found, strict=True):
        assert np.abs(scores - expected[start : start + n]).max() <= BATCH_ATOL


def test_buffers_are_reused_bounded_and_freed(
    fake_gpu: Any, small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    engine = open_on_gpu(small_onnx(), max_batch=16)
    for _ in range(5):
        engine.score(waves[:3])
    assert len(fake_gpu.buffers) == 1
    many = np.concatenate([waves, waves])
    for n in range(1, 2 + KEPT_SETS):
        engine.score(many[:n])
    bound: BoundSession = engine._bound
    assert bound.n_kept == KEPT_SETS
    engine.close()
    engine.close()
    assert bound.n_kept == 0
    with pytest.raises(ShapeError, match="closed"):
        engine.score(waves)


@pytest.mark.parametrize("tf32", [False, True])
def test_cuda_provider_is_told_the_device_and_whether_tf32_is_allowed(
    tf32: bool, fake_gpu: Any, small_onnx: Callable[..., Path]
) -> None:
    open_on_gpu(small_onnx(), tf32=tf32).close()
    assert fake_gpu.settings == [{"device_id": 1, "use_tf32": int(tf32)}]
    assert fake_gpu.preloaded == 1


@pytest.mark.usefixtures("fake_libraries")
def test_tensorrt_provider_gets_one_profile_for_every_batch(
    fake_gpu: Any, small_onnx: Callable[..., Path]
) -> None:
    open_on_gpu(small_onnx(), "tensorrt", max_batch=32).close()
    assert fake_gpu.settings == [
        {
            "device_id": 1,
            "trt_profile_min_shapes": "wave:1x16000",
            "trt_profile_opt_shapes": "wave:32x16000",
            "trt_profile_max_shapes": "wave:32x16000",
        }
    ]


def test_tensorrt_provider_without_its_library_is_refused_in_a_sentence(
    fake_gpu: Any, small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: str) -> Any:
        raise OSError(f"{path}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(
        EnvironmentLacks, match=r"needs libnvinfer\.so\.10 of TensorRT 10"
    ) as raised:
        open_on_gpu(small_onnx(), "tensorrt")
    assert "--backend trt" in str(raised.value.fix)
    assert not fake_gpu.settings  # no session was tried


@pytest.mark.usefixtures("fake_gpu")
def test_tensorrt_library_is_found_in_its_python_package(
    small_onnx: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []

    def only_in_package(path: str) -> Any:
        if "/" not in path:
            raise OSError(path)
        loaded.append(path)

    spec = SimpleNamespace(submodule_search_locations=["/packages/tensorrt_libs"])
    monkeypatch.setattr("ctypes.CDLL", only_in_package)
    monkeypatch.setattr(onnx_engine, "find_spec", lambda _name: spec)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    open_on_gpu(small_onnx(), "tensorrt").close()
    assert loaded == [
        "/packages/tensorrt_libs/libnvinfer.so.10",
        "/packages/tensorrt_libs/libnvonnxparser.so.10",
    ]


@pytest.mark.parametrize("value", [None, "1"])
@pytest.mark.usefixtures("fake_gpu", "fake_libraries")
def test_tensorrt_provider_is_refused_while_it_would_use_tf32(
    value: str | None,
    small_onnx: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if value is None:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    else:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    with pytest.raises(EnvironmentLacks, match=f"is {value or 'not set'}") as raised:
        open_on_gpu(small_onnx(), "tensorrt")
    assert "NVIDIA_TF32_OVERRIDE=0" in str(raised.value.fix)
    open_on_gpu(small_onnx(), "tensorrt", tf32=True).close()


@pytest.mark.usefixtures("fake_gpu", "fake_libraries")
def test_lower_precision_runs_on_cuda_and_not_in_weakly_typed_tensorrt(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    contract, _ = read_contract(small_onnx())
    model = onnx.load(small_onnx())
    onnx.helper.set_model_props(model, replace(contract, precision="fp16").to_metadata())
    path = tmp_path / "low.onnx"
    onnx.save(model, path)
    open_on_gpu(path).close()
    with pytest.raises(UsageError, match="weakly typed") as raised:
        open_on_gpu(path, "tensorrt")
    assert "--to trt" in str(raised.value.fix)


@pytest.mark.parametrize(("provider", "name"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
@pytest.mark.usefixtures("fake_libraries")
def test_provider_that_is_listed_and_not_taken_is_an_error_and_no_fallback(
    provider: str,
    name: str,
    small_onnx: Callable[..., Path],
    fake_onnxruntime: Any,
) -> None:
    path = small_onnx()
    listed = [f"{name}ExecutionProvider", "CPUExecutionProvider"]
    fake_onnxruntime(listed, ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentLacks, match="ONNX Runtime took CPUExecutionProvider"):
        open_engine(path, provider=provider)
    fake_onnxruntime(listed, RuntimeError("libcudnn.so.9 is missing\nand more"))
    with pytest.raises(EnvironmentLacks, match=r"libcudnn\.so\.9 is missing$"):
        open_engine(path, provider=provider)
