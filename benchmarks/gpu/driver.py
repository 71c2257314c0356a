"""The few calls of the CUDA driver that a benchmark needs beside the engine it measures."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np


class Driver:
    """The few calls of libcuda that a benchmark needs, in the context that TensorRT shares."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._do("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self.device = device
        self.stream = ctypes.c_void_p()
        self._do("cuStreamCreate", ctypes.byref(self.stream), 1)
        self.events = [ctypes.c_void_p() for _ in range(2)]
        for event in self.events:
            self._do("cuEventCreate", ctypes.byref(event), 0)

    def _do(self, name: str, *values: Any) -> None:  # noqa: ANN401
        code = getattr(self._cuda, name)(*values)
        if code != 0:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name} failed with {code}: {(text.value or b'?').decode()}")

    def facts(self) -> dict[str, Any]:
        """Name, compute capability, driver version."""
        name = ctypes.create_string_buffer(128)
        self._do("cuDeviceGetName", name, 128, self.device)
        major, minor, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._do("cuDeviceGetAttribute", ctypes.byref(major), 75, self.device)
        self._do("cuDeviceGetAttribute", ctypes.byref(minor), 76, self.device)
        self._do("cuDriverGetVersion", ctypes.byref(version))
        sm = [major.value, minor.value]
        return {"device": name.value.decode(), "sm": sm, "cuda_of_driver": version.value}

    def allocate(self, n_bytes: int) -> int:
        """Device memory; it lives as long as the process."""
        address = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(n_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._do("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: Any) -> None:  # noqa: ANN401
        """Host to device, blocking."""
        data = np.ascontiguousarray(array)
        size = ctypes.c_size_t(data.nbytes)
        self._do(
            "cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(data.ctypes.data), size
        )
        self._do("cuCtxSynchronize")  # that call may return while the last piece is on its way

    def download(self, array: Any, address: int) -> None:  # noqa: ANN401
        """Device to host, blocking."""
        size = ctypes.c_size_t(array.nbytes)
        self._do(
            "cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address), size
        )

    def free_mib(self) -> int:
        """Device memory that is not in use."""
        left, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._do("cuMemGetInfo_v2", ctypes.byref(left), ctypes.byref(total))
        return left.value // 2**20

    def start(self) -> None:
        """Mark the begin of a timed region on the stream."""
        self._do("cuEventRecord", self.events[0], self.stream)

    def stop_ms(self) -> float:
        """Mark its end, wait for it, and give the time between."""
        self._do("cuEventRecord", self.events[1], self.stream)
        self._do("cuEventSynchronize", self.events[1])
        took = ctypes.c_float()
        self._do("cuEventElapsedTime", ctypes.byref(took), *self.events)
        return float(took.value)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._do("cuStreamSynchronize", self.stream)

    def begin_capture(self) -> None:
        """Record what follows on the stream instead of running it."""
        self._do("cuStreamBeginCapture_v2", self.stream, 1)  # thread-local: allocations stay legal

    def end_capture(self) -> Any:  # noqa: ANN401
        """The recorded CUDA graph, ready to launch."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        self._do("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0))
        return ready

    def launch(self, ready: Any) -> None:  # noqa: ANN401
        """Replay a recorded graph."""
        self._do("cuGraphLaunch", ready, self.stream)


@dataclass(frozen=True)
class OnDevice:
    """Device memory as the arrays that `TrtEngine.run_on_device` takes."""

    address: int
    shape: tuple[int, ...]
    typestr: str = "<f4"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Shape, type and address, as Numba's documentation defines them."""
        about = {"shape": self.shape, "typestr": self.typestr, "version": 3}
        return {**about, "data": (self.address, False), "strides": None}
