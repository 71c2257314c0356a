"""TensorRT as it is on this machine: its module, the GPUs that the driver lists, and its messages.

Two packages give the same API: `tensorrt`, and `tensorrt_rtx` for consumer GPUs. The first one that
can be imported is taken, and every message names it. GPUs are looked for through the driver alone,
before a builder or runtime is made: TensorRT without a driver ends in a crash, not in an error.

Source: names and numbers of the driver API from cuda.h (CUDA 13); they have not changed since the
driver API exists in its present form.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

MODULES: Final = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # in order of preference
OLDEST: Final = {
    "tensorrt": 10,
    "tensorrt_rtx": 1,
}  # major version that has strongly typed networks
INSTALL: Final = "pip install 'aasist-deploy[trt]'"
_KEPT_MESSAGES: Final = 200

# cuda.h: CUdevice_attribute and the CUresult values whose cause can be named.
_MAJOR, _MINOR = 75, 76
_CUDA_REASONS: Final = {
    2: "out of memory",
    3: "the driver is shutting down",
    34: "libcuda.so.1 is the stub of the toolkit, not a driver",
    100: "no CUDA device is visible",
    46: "another process uses the GPU exclusively",
    101: "the device ordinal is invalid",
    802: "the system's NVSwitch fabric is not ready",
    803: "the driver's library and its kernel module have different versions",
    804: "this GPU does not allow CUDA's forward compatibility package",
    999: "an unknown error of the driver",
}


@dataclass(frozen=True, slots=True)
class TensorRt:
    """The TensorRT of this environment.

    Attributes:
        module: The imported module.
        name: "tensorrt" or "tensorrt_rtx".
        version: Its version, e.g. "10.13.3.9".
    """

    module: Any
    name: str
    version: str

    @property
    def title(self) -> str:
        """What it is called, for a person: "TensorRT-RTX 1.7.1.116"."""
        return f"{MODULES[self.name]} {self.version}"

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".", maxsplit=1)[0])


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it, which CUDA_VISIBLE_DEVICES may limit and reorder.

    Attributes:
        index: Its number for CUDA.
        name: E.g. "NVIDIA H200".
        sm: Compute capability, e.g. (9, 0).
        memory_bytes: All of its memory.
        driver_cuda: Newest CUDA version that the driver runs, e.g. "13.0".
    """

    index: int
    name: str
    sm: tuple[int, int]
    memory_bytes: int
    driver_cuda: str

    @property
    def sm_text(self) -> str:
        """Compute capability as text: "9.0"."""
        return f"{self.sm[0]}.{self.sm[1]}"


def load_tensorrt(name: str | None = None) -> TensorRt:
    """Import TensorRT; no builder, runtime or CUDA context is made.

    Args:
        name: The one module that will do, e.g. the one that a plan was built by. None: `tensorrt`,
            or else `tensorrt_rtx`.

    Raises:
        EnvironmentLacks: no such package is installed, it cannot be imported, or it is too old.
    """
    names = tuple(MODULES) if name is None else (name,)
    broken = []
    for candidate in names:
        if find_spec(candidate) is None:
            continue
        try:
            found = _imported(candidate)
        except EnvironmentLacks as error:
            broken.append(str(error))
            continue
        if broken:
            log.warning("%s %s is used instead.", " ".join(broken), found.title)
        return found
    if broken:
        raise EnvironmentLacks(" ".join(broken), fix=f"repair the package, or {INSTALL}")
    raise EnvironmentLacks(
        f"TensorRT is not installed: there is no package {' or '.join(names)}.", fix=INSTALL
    )


def _imported(name: str) -> TensorRt:
    try:
        module: Any = import_module(name)
        version = str(module.__version__)
        module.Builder  # noqa: B018  # gone when only the package's folder is left
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EnvironmentLacks(
            f"{MODULES[name]} is installed but cannot be imported: {reason.rstrip('.')}.",
            fix=f"repair the package, or {INSTALL}",
        ) from error
    found = TensorRt(module, name, version)
    if not version[:1].isdigit() or found.major < OLDEST[name]:
        raise EnvironmentLacks(
            f"{found.title} is too old: strongly typed networks need {MODULES[name]} "
            f"{OLDEST[name]} or newer.",
            fix=INSTALL,
        )
    return found


def probe_gpus() -> list[Gpu]:
    """The GPUs that the CUDA driver lists; no context is made and nothing is allocated.

    Raises:
        EnvironmentLacks: there is no driver, it does not start, or it lists no device.
    """
    driver = _Driver(_libcuda())
    driver.call("cuInit", 0)
    cuda = _read_int(driver, "cuDriverGetVersion")
    count = _read_int(driver, "cuDeviceGetCount")
    if count < 1:
        raise EnvironmentLacks(
            "The NVIDIA driver lists no GPU.", fix="look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    driver_cuda = f"{cuda // 1000}.{cuda % 1000 // 10}"  # 13000 is 13.0, 12080 is 12.8
    return [_gpu(driver, index, driver_cuda) for index in range(count)]


def require_gpu(index: int = 0) -> Gpu:
    """One GPU by its number.

    Raises:
        EnvironmentLacks: there is no such GPU, or none at all.
    """
    gpus = probe_gpus()
    if not 0 <= index < len(gpus):
        listed = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in gpus)
        raise EnvironmentLacks(
            f"There is no GPU {index}; the driver lists {listed}.",
            fix=f"choose one of 0 to {len(gpus) - 1}, and look at CUDA_VISIBLE_DEVICES",
        )
    return gpus[index]


@contextmanager
def primary_context(gpu: Gpu) -> Iterator[None]:
    """Make a GPU the current one of this thread, through the context that CUDA's runtime shares.

    What was current before is current again afterwards. Objects of TensorRT that were made inside
    must be gone when it ends.

    Raises:
        EnvironmentLacks: the driver refuses, e.g. because the GPU is used exclusively by another
            process or has no memory left.
    """
    driver = _Driver(_libcuda())
    driver.call("cuInit", 0)
    device = _read_int(driver, "cuDeviceGet", gpu.index)
    context = ctypes.c_void_p()
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        driver.call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            driver.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.call("cuDevicePrimaryCtxRelease_v2", device)


def _gpu(driver: _Driver, index: int, driver_cuda: str) -> Gpu:
    device = _read_int(driver, "cuDeviceGet", index)
    name = ctypes.create_string_buffer(256)
    driver.call("cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    driver.call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major = _read_int(driver, "cuDeviceGetAttribute", _MAJOR, device)
    minor = _read_int(driver, "cuDeviceGetAttribute", _MINOR, device)
    return Gpu(
        index=index,
        name=name.value.decode(errors="replace"),
        sm=(major, minor),
        memory_bytes=memory.value,
        driver_cuda=driver_cuda,
    )


def _libcuda() -> Any:  # noqa: ANN401  # a ctypes library has no attributes a checker knows
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EnvironmentLacks(
            "There is no NVIDIA driver here: libcuda.so.1 cannot be loaded.",
            fix="run on a machine with an NVIDIA GPU and its driver",
        ) from error


@dataclass(frozen=True, slots=True)
class _Driver:
    """The driver's functions, with their error numbers turned into errors."""

    library: Any

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401  # ctypes values
        code = int(getattr(self.library, name)(*arguments))
        if code != 0:
            reason = _CUDA_REASONS.get(code)
            raise EnvironmentLacks(
                f"The NVIDIA driver cannot be used: {name} gave error {code}"
                f"{f' ({reason})' if reason else ''}.",
                fix="look at nvidia-smi and CUDA_VISIBLE_DEVICES",
            )


def _read_int(driver: _Driver, name: str, *arguments: int) -> int:
    """The number that a function of the driver writes where its first argument points."""
    value = ctypes.c_int()
    driver.call(name, ctypes.byref(value), *arguments)
    return value.value


class Messages:
    """What TensorRT says while it works: kept for errors, and passed on to Python's logging.

    TensorRT tells its logger why it returns None, and nowhere else. A process has one logger: one
    that is given while a builder or runtime lives is not used (measured with TensorRT-RTX 1.7.1).
    So all objects of this class share it, and each keeps what was said since it was made, by
    whichever builder or runtime.

    Args:
        tensorrt: The TensorRT that will speak.

    Attributes:
        logger: The `ILogger` to give to builders, parsers and runtimes; it is never let go.
        lines: The last errors and warnings, as (severity, text); severity is "INTERNAL_ERROR",
            "ERROR" or "WARNING".
    """

    def __init__(self, tensorrt: TensorRt) -> None:
        self.lines: deque[tuple[str, str]] = deque(maxlen=_KEPT_MESSAGES)
        self._title = tensorrt.title
        self._ear = _ear_of(tensorrt)
        self._ear.listen(self.lines)
        self.logger: Any = self._ear.logger
        finalize(self, self._ear.forget, self.lines)

    def said(self, n: int = 3) -> str:
        """The last `n` errors, or the last warnings where there was no error, as one text."""
        lines = list(self.lines)
        errors = [text for severity, text in lines if severity != "WARNING"]
        texts = list(dict.fromkeys(errors or [text for _, text in lines]))[-n:]
        return " | ".join(texts) if texts else f"{self._title} gave no reason"

    def forget(self) -> None:
        """Drop what was said so far, so that a later error quotes only what belongs to it."""
        self.lines.clear()


# TensorRT's errors become errors of ours, so its own lines are one level lower in the log.
_LEVELS: Final = {
    "INTERNAL_ERROR": logging.WARNING,
    "ERROR": logging.INFO,
    "WARNING": logging.INFO,
    "INFO": logging.DEBUG,
}


class _Ear:
    """The one logger of a module, and who listens to it; TensorRT speaks from any thread."""

    def __init__(self, tensorrt: TensorRt) -> None:
        self._title = tensorrt.title
        self._listeners: list[deque[tuple[str, str]]] = []
        self._lock = threading.Lock()
        self.module = tensorrt.module  # keeps its id from being given to another module
        self.logger = _logger_of(tensorrt, self.take)

    def listen(self, lines: deque[tuple[str, str]]) -> None:
        with self._lock:
            self._listeners.append(lines)

    def forget(self, lines: deque[tuple[str, str]]) -> None:
        with self._lock:
            self._listeners = [known for known in self._listeners if known is not lines]

    def take(self, severity: str, text: str) -> None:
        text = text.strip()
        if severity in ("INTERNAL_ERROR", "ERROR", "WARNING"):
            with self._lock:
                for lines in self._listeners:
                    lines.append((severity, text))
        log.log(_LEVELS.get(severity, logging.DEBUG), "%s: %s", self._title, text)


_EARS: Final[dict[int, _Ear]] = {}  # by the id of the module
_EARS_LOCK: Final = threading.Lock()


def _ear_of(tensorrt: TensorRt) -> _Ear:
    with _EARS_LOCK:
        key = id(tensorrt.module)
        if key not in _EARS:
            _EARS[key] = _Ear(tensorrt)
        return _EARS[key]


def _logger_of(tensorrt: TensorRt, take: Callable[[str, str], None]) -> Any:  # noqa: ANN401
    base: Any = tensorrt.module.ILogger

    class Logger(base):  # type: ignore[misc]  # the base class is known at run time only
        """Hands each line on; a name of the severity is the same in all versions."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401  # an enum of the module
            take(str(getattr(severity, "name", severity)), msg)

    return Logger()
