"""Device memory, pinned memory, copies and streams through pycuda.

pycuda keeps a stack of contexts for each thread and frees things only where their context is on
top, so everything here happens between `push` and `pop`. It has no graphs, and its events have no
handle: those calls go to the driver's library directly, in the same context.
"""

from __future__ import annotations

import atexit
import re
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.engines.cuda_memory.context import OUT_OF_MEMORY, CudaError
from aasist_deploy.engines.cuda_memory.libcuda import LibCuda
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

_NON_BLOCKING: Final = 1  # cuda.h: CU_STREAM_NON_BLOCKING


class PycudaDriver:
    """`CudaDriver` over pycuda.

    The primary context of a GPU is retained once for the process and stays until it ends: pycuda
    lets go of a context only in the thread that retained it, and leaves it current there.
    """

    def __init__(self, gpu: int) -> None:
        self._cuda = _import_pycuda()
        with _translated(self._cuda):
            self._context: Any = _primary_context(gpu)
        self._library = LibCuda()
        self.name = f"pycuda {import_module('pycuda').VERSION_TEXT}"
        self._memory: dict[int, Any] = {}
        self._pinned: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self.create_event = self._library.create_event
        self.destroy_event = self._library.destroy_event
        self.record = self._library.record
        self.wait = self._library.wait
        self.synchronize_event = self._library.synchronize_event
        self.synchronize_stream = self._library.synchronize_stream
        self.elapsed_ms = self._library.elapsed_ms
        self.begin_capture = self._library.begin_capture
        self.end_capture = self._library.end_capture
        self.launch = self._library.launch
        self.destroy_graph = self._library.destroy_graph

    def push(self) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._context.push()

    def pop(self) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._context.pop()

    def memory_info(self) -> tuple[int, int]:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, n_bytes: int) -> int:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            memory = self._cuda.mem_alloc(n_bytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._memory.pop(address).free()

    def pin(self, n_bytes: int) -> NDArray[np.uint8]:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            array: NDArray[np.uint8] = self._cuda.pagelocked_empty((n_bytes,), "uint8")
        self._pinned[array.ctypes.data] = array.base  # frees the memory; the array only points
        return array

    def unpin(self, address: int) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._pinned.pop(address).free()

    def create_stream(self) -> int:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            stream = self._cuda.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """See `CudaDriver`."""
        self._library.synchronize_stream(stream)
        del self._streams[stream]  # pycuda destroys it with its last reference

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._cuda.memcpy_htod_async(address, host, self._streams[stream])

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        """See `CudaDriver`."""
        with _translated(self._cuda):
            self._cuda.memcpy_dtoh_async(host, address, self._streams[stream])

    def release(self) -> None:
        """The context stays retained; see the class."""


@cache
def _primary_context(gpu: int) -> Any:  # noqa: ANN401  # pycuda has no types
    """One object a GPU: pycuda compares contexts by object, and things are freed in their own."""
    cuda = _import_pycuda()
    cuda.init()
    context = cuda.Device(gpu).retain_primary_context()
    atexit.register(context.detach)  # left to pycuda's destructor, it complains
    return context


def _import_pycuda() -> Any:  # noqa: ANN401  # pycuda has no types
    try:
        return import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise EnvironmentLacks(
            f"pycuda is installed but cannot be imported: {str(error).splitlines()[0]}.",
            fix="pycuda needs NVIDIA's driver (libcuda.so.1) and a build for this CUDA version",
        ) from error


@contextmanager
def _translated(cuda: Any) -> Iterator[None]:  # noqa: ANN401
    """Turn pycuda's errors into ours; their text is "cuMemAlloc failed: out of memory"."""
    try:
        yield
    except cuda.Error as error:
        call, _, reason = str(error).partition(" failed: ")
        code = OUT_OF_MEMORY if isinstance(error, cuda.MemoryError) else 0
        name = call if re.fullmatch(r"\w+", call) else "call"
        raise CudaError(name, (reason or str(error)).strip().rstrip("."), code) from error
