from __future__ import annotations

import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.engines import tensorrt_runtime
from aasist_deploy.engines.tensorrt_runtime import (
    Gpu,
    Messages,
    TensorRt,
    load_tensorrt,
    primary_context,
    probe_gpus,
    require_gpu,
)
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeDriver:
    """libcuda without a GPU: functions write where their first argument points, as CUDA does."""

    def __init__(self, names: tuple[str, ...], codes: dict[str, int]) -> None:
        self.names, self.codes = names, codes
        self.calls: list[str] = []

    def __getattr__(self, function: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(function)
            if code := self.codes.get(function, 0):
                return code
            values = {
                "cuDriverGetVersion": 13_000,
                "cuDeviceGetCount": len(self.names),
                "cuDeviceTotalMem_v2": 141 * 2**30,
                "cuDevicePrimaryCtxRetain": 0xC0DE,
            }
            if function in values:
                arguments[0]._obj.value = values[function]
            elif function == "cuDeviceGet":
                arguments[0]._obj.value = arguments[1]
            elif function == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
            elif function == "cuDeviceGetName":
                arguments[0].value = self.names[arguments[2]].encode()
            return 0

        return call


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDriver]:
    def install(names: tuple[str, ...] = ("NVIDIA H200",), **codes: int) -> FakeDriver:
        driver = FakeDriver(names, codes)
        monkeypatch.setattr(tensorrt_runtime, "_libcuda", lambda: driver)
        return driver

    return install


@pytest.fixture
def fake_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """(name, version) -> such a module of TensorRT, with a logger class and nothing that works."""
    monkeypatch.setattr(tensorrt_runtime, "find_spec", sys.modules.get)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)

    def install(name: str, version: str, **attributes: Any) -> Any:
        module: Any = ModuleType(name)
        module.__version__ = version
        module.Builder = module.Runtime = object
        module.ILogger = type("ILogger", (), {"__init__": lambda _self: None})
        for key, value in attributes.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return install


def test_tensorrt_is_preferred_to_tensorrt_rtx(fake_module: Any) -> None:
    fake_module("tensorrt_rtx", "1.7.1.116")
    assert load_tensorrt().title == "TensorRT-RTX 1.7.1.116"
    fake_module("tensorrt", "10.13.3.9")
    found = load_tensorrt()
    assert (found.name, found.version, found.major) == ("tensorrt", "10.13.3.9", 10)
    assert load_tensorrt("tensorrt_rtx").title == "TensorRT-RTX 1.7.1.116"


def test_missing_package_is_told_with_the_extra(fake_module: Any) -> None:
    assert fake_module  # hides what is installed
    with pytest.raises(EnvironmentLacks, match="no package tensorrt or tensorrt_rtx") as caught:
        load_tensorrt()
    assert caught.value.fix == "pip install 'aasist-deploy[trt]'"
    with pytest.raises(EnvironmentLacks, match=r"no package tensorrt_rtx\."):
        load_tensorrt("tensorrt_rtx")


@pytest.mark.parametrize("version", ["8.5.3.1", "9.3.0", "unknown"])
def test_version_without_strong_types_is_refused(fake_module: Any, version: str) -> None:
    fake_module("tensorrt", version)
    with pytest.raises(EnvironmentLacks, match=f"{version} is too old"):
        load_tensorrt()


def test_folder_that_an_uninstall_left_is_told(fake_module: Any) -> None:
    del fake_module("tensorrt", "10.13").Builder
    with pytest.raises(EnvironmentLacks, match="installed but cannot be imported"):
        load_tensorrt()


def test_broken_package_is_told_when_the_other_takes_its_place(
    fake_module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    del fake_module("tensorrt", "10.13").Builder
    fake_module("tensorrt_rtx", "1.7")
    assert load_tensorrt().name == "tensorrt_rtx"
    assert "TensorRT is installed but cannot be imported" in caplog.text
    assert "TensorRT-RTX 1.7 is used instead" in caplog.text


def test_gpus_are_listed_with_what_a_plan_must_fit(fake_driver: Any) -> None:
    driver = fake_driver(("NVIDIA H200", "NVIDIA L4"))
    first, second = probe_gpus()
    assert first == Gpu(0, "NVIDIA H200", (9, 0), 141 * 2**30, "13.0")
    assert (second.index, second.name, second.sm_text) == (1, "NVIDIA L4", "9.0")
    assert "cuDevicePrimaryCtxRetain" not in driver.calls  # looking makes no context
    assert require_gpu(1) == second


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_gpu_that_is_not_there_is_told_with_those_that_are(fake_driver: Any, index: int) -> None:
    fake_driver(("NVIDIA H200", "NVIDIA L4"))
    with pytest.raises(EnvironmentLacks, match=rf"no GPU {index}; the driver lists 0 \(NVIDIA H"):
        require_gpu(index)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(100, "no CUDA device"), (803, "different versions"), (34, "stub"), (777, "error 777")],
)
def test_driver_that_does_not_start_is_told_with_its_reason(
    fake_driver: Any, code: int, reason: str
) -> None:
    fake_driver(cuInit=code)
    with pytest.raises(EnvironmentLacks, match=reason):
        probe_gpus()


def test_driver_without_a_gpu_is_told(fake_driver: Any) -> None:
    fake_driver(())
    with pytest.raises(EnvironmentLacks, match="lists no GPU"):
        probe_gpus()


def test_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", nowhere)
    with pytest.raises(EnvironmentLacks, match="no NVIDIA driver here"):
        probe_gpus()


def test_context_is_popped_and_released_also_after_an_error(fake_driver: Any) -> None:
    driver = fake_driver()
    gpu = probe_gpus()[0]

    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"), primary_context(gpu):
        fail()
    assert driver.calls[-4:] == [
        "cuDevicePrimaryCtxRetain",
        "cuCtxPushCurrent_v2",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


def test_context_that_cannot_be_had_is_told_and_released(fake_driver: Any) -> None:
    driver = fake_driver(cuCtxPushCurrent_v2=2)
    with (
        pytest.raises(EnvironmentLacks, match="out of memory"),
        primary_context(Gpu(0, "x", (9, 0), 1, "13.0")),
    ):
        pytest.fail("the context was entered")
    assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def speak(messages: Messages, severity: str, text: str) -> None:
    messages.logger.log(SimpleNamespace(name=severity), text)


@pytest.fixture
def tensorrt(fake_module: Any) -> TensorRt:
    fake_module("tensorrt", "10.13")
    return load_tensorrt()


def test_errors_come_before_warnings_and_repeat_once(tensorrt: TensorRt) -> None:
    messages = Messages(tensorrt)
    assert messages.said() == "TensorRT 10.13 gave no reason"
    speak(messages, "WARNING", "slow")
    speak(messages, "INFO", "hello")
    assert messages.said() == "slow"
    speak(messages, "ERROR", "bad ")
    speak(messages, "ERROR", "bad")
    speak(messages, "INTERNAL_ERROR", "worse")
    assert messages.said() == "bad | worse"
    assert messages.said(1) == "worse"
    messages.forget()
    assert messages.said() == "TensorRT 10.13 gave no reason"


def test_a_process_has_one_logger_and_each_listener_hears_it(tensorrt: TensorRt) -> None:
    first, second = Messages(tensorrt), Messages(tensorrt)
    assert first.logger is second.logger
    speak(first, "ERROR", "for both")
    assert first.said() == second.said() == "for both"
    first.forget()
    assert second.said() == "for both"


def test_listeners_that_are_gone_are_let_go(tensorrt: TensorRt) -> None:
    kept = Messages(tensorrt)
    before = len(kept._ear._listeners)
    for _ in range(5):
        Messages(tensorrt)
    gc.collect()
    assert len(kept._ear._listeners) == before


def test_lines_reach_the_log_with_the_name_of_the_module(
    tensorrt: TensorRt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    speak(Messages(tensorrt), "VERBOSE", "details")
    assert "TensorRT 10.13: details" in caplog.text
    assert caplog.records[-1].levelname == "DEBUG"


@pytest.mark.trt
def test_real_module_takes_the_logger_and_speaks_to_it() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    tensorrt = load_tensorrt("tensorrt_rtx")
    messages = Messages(tensorrt)
    builder = tensorrt.module.Builder(messages.logger)
    network = builder.create_network(1)
    parser = tensorrt.module.OnnxParser(network, messages.logger)
    assert not parser.parse(b"no ONNX")
    assert "Failed to parse the ONNX model" in messages.said()
