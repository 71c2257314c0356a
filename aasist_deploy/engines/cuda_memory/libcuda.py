"""The driver's library itself, for what pycuda has no objects for: events by handle, and graphs.

Source: signatures and numbers from cuda.h (CUDA 12 and 13).
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_float, c_uint, c_ulonglong, c_void_p
from typing import Any, Final

from aasist_deploy.engines.cuda_memory.context import CudaError

_CAPTURE_THIS_THREAD: Final = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: others may allocate
_EVENT_WITHOUT_TIMING: Final = 2  # CU_EVENT_DISABLE_TIMING


class LibCuda:
    """Calls of `libcuda.so.1`; a context must be current in the calling thread.

    ctypes lets other threads run while a call waits.
    """

    def __init__(self) -> None:
        try:
            self._library: Any = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError("libcuda.so.1", str(error)) from error

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401  # ctypes values
        """Call a function.

        Raises:
            CudaError: its result is not 0.
        """
        code = int(getattr(self._library, name)(*arguments))
        if code != 0:
            text = c_char_p()
            self._library.cuGetErrorName(code, byref(text))
            raise CudaError(name, (text.value or b"an unknown error").decode(), code)

    def create_event(self, *, timing: bool = False) -> int:
        """A new event."""
        event = c_void_p()
        self.call("cuEventCreate", byref(event), c_uint(0 if timing else _EVENT_WITHOUT_TIMING))
        return event.value or 0

    def destroy_event(self, event: int) -> None:
        """Give it back."""
        self.call("cuEventDestroy_v2", c_void_p(event))

    def record(self, event: int, stream: int) -> None:
        """Queue it on a stream."""
        self.call("cuEventRecord", c_void_p(event), c_void_p(stream))

    def wait(self, stream: int, event: int) -> None:
        """Queue waiting for it on a stream."""
        self.call("cuStreamWaitEvent", c_void_p(stream), c_void_p(event), c_uint(0))

    def synchronize_event(self, event: int) -> None:
        """Wait for it."""
        self.call("cuEventSynchronize", c_void_p(event))

    def synchronize_stream(self, stream: int) -> None:
        """Wait for all work on a stream."""
        self.call("cuStreamSynchronize", c_void_p(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events."""
        took = c_float()
        self.call("cuEventElapsedTime", byref(took), c_void_p(start), c_void_p(end))
        return float(took.value)

    def begin_capture(self, stream: int) -> None:
        """Record instead of run."""
        self.call("cuStreamBeginCapture_v2", c_void_p(stream), c_uint(_CAPTURE_THIS_THREAD))

    def end_capture(self, stream: int) -> int:
        """The recorded graph, instantiated."""
        graph, ready = c_void_p(), c_void_p()
        self.call("cuStreamEndCapture", c_void_p(stream), byref(graph))
        try:
            self.call("cuGraphInstantiateWithFlags", byref(ready), graph, c_ulonglong(0))
        finally:
            self.call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""
        self.call("cuGraphLaunch", c_void_p(graph), c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""
        self.call("cuGraphExecDestroy", c_void_p(graph))
