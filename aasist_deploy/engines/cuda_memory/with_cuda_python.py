"""Device memory, streams, events and graphs through cuda-python (`cuda.bindings.driver`)."""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines.cuda_memory.context import CudaError
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NON_BLOCKING: Final = 1  # cuda.h: CU_STREAM_NON_BLOCKING
_EVENT_WITHOUT_TIMING: Final = 2  # cuda.h: CU_EVENT_DISABLE_TIMING


class CudaPythonDriver:
    """`CudaDriver` over cuda-python; its functions give (error, results...) and take integers."""

    def __init__(self, gpu: int) -> None:
        self._cuda = _import_bindings()
        self.name = f"cuda-python {import_module('cuda.bindings').__version__}"
        try:
            self._call("cuInit", 0)
        except RuntimeError as error:  # the package's own error when there is no libcuda.so.1
            raise EnvironmentLacks(
                f"cuda-python finds no NVIDIA driver: {str(error).splitlines()[0]}",
                fix="run on a machine with an NVIDIA GPU and its driver",
            ) from error
        self._device = self._call("cuDeviceGet", gpu)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        mode: Any = self._cuda.CUstreamCaptureMode
        self._capture_mode = mode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # others may allocate

    def push(self) -> None:
        """See `CudaDriver`."""
        self._call("cuCtxPushCurrent", self._context)

    def pop(self) -> None:
        """See `CudaDriver`."""
        self._call("cuCtxPopCurrent")

    def memory_info(self) -> tuple[int, int]:
        """See `CudaDriver`."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, n_bytes: int) -> int:
        """See `CudaDriver`."""
        return int(self._call("cuMemAlloc", n_bytes))

    def free(self, address: int) -> None:
        """See `CudaDriver`."""
        self._call("cuMemFree", address)

    def pin(self, n_bytes: int) -> NDArray[np.uint8]:
        """See `CudaDriver`."""
        address = int(self._call("cuMemHostAlloc", n_bytes, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address))

    def unpin(self, address: int) -> None:
        """See `CudaDriver`."""
        self._call("cuMemFreeHost", address)

    def create_stream(self) -> int:
        """See `CudaDriver`."""
        return int(self._call("cuStreamCreate", _NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuStreamSynchronize", stream)
        self._call("cuStreamDestroy", stream)

    def create_event(self, *, timing: bool = False) -> int:
        """See `CudaDriver`."""
        return int(self._call("cuEventCreate", 0 if timing else _EVENT_WITHOUT_TIMING))

    def destroy_event(self, event: int) -> None:
        """See `CudaDriver`."""
        self._call("cuEventDestroy", event)

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuMemcpyHtoDAsync", address, host.ctypes.data, host.nbytes, stream)

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, stream)

    def record(self, event: int, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """See `CudaDriver`."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        """See `CudaDriver`."""
        self._call("cuEventSynchronize", event)

    def synchronize_stream(self, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuStreamSynchronize", stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """See `CudaDriver`."""
        return float(self._call("cuEventElapsedTime", start, end))

    def begin_capture(self, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuStreamBeginCapture", stream, self._capture_mode)

    def end_capture(self, stream: int) -> int:
        """See `CudaDriver`."""
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """See `CudaDriver`."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """See `CudaDriver`."""
        self._call("cuGraphExecDestroy", graph)

    def release(self) -> None:
        """See `CudaDriver`."""
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def _call(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401  # the package has no types
        """Results of a driver call: None, one value, or a tuple of several."""
        error, *results = getattr(self._cuda, name)(*arguments)
        if int(error) != 0:
            raise CudaError(name, getattr(error, "name", str(error)), int(error))
        return results[0] if len(results) == 1 else tuple(results) or None


def _import_bindings() -> Any:  # noqa: ANN401  # the package has no types
    try:
        return import_module("cuda.bindings.driver")
    except (ImportError, OSError) as error:
        raise EnvironmentLacks(
            f"cuda-python is installed but cannot be imported: {str(error).splitlines()[0]}.",
            fix="pip install --force-reinstall cuda-python",
        ) from error
