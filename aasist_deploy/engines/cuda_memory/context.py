"""The interface to the CUDA driver, and a context that knows everything that was made in it.

Handles are plain integers: addresses, and the driver's own pointers to streams, events and graphs.
So TensorRT and both packages take them as they are.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

OUT_OF_MEMORY: Final = 2  # cuda.h: CUDA_ERROR_OUT_OF_MEMORY
MIB: Final = 2**20
# Graphs hold kernels that use memory, streams may still run: what others rest on goes last.
_FREED_IN_ORDER: Final = ("graphs", "events", "streams", "pinned arrays", "device allocations")


class CudaError(EnvironmentLacks):
    """A call of the CUDA driver failed.

    Args:
        call: Name of the function.
        reason: What the driver says, e.g. "CUDA_ERROR_LAUNCH_FAILED".
        code: Its number; 0 when the package does not tell it.
    """

    def __init__(self, call: str, reason: str, code: int = 0) -> None:
        super().__init__(
            f"The CUDA driver's {call} failed: {reason}.",
            fix="look at nvidia-smi and the kernel's log (dmesg) for the GPU's state",
        )
        self.code = code
        self.out_of_memory = code == OUT_OF_MEMORY


class CudaDriver(Protocol):
    """The driver calls that engines need, in the primary context of one GPU.

    Every call but `push` needs the context to be current in the calling thread. Calls may come from
    several threads; one stream is used by one thread at a time.

    Attributes:
        name: The package and its version, e.g. "pycuda 2026.1".

    Raises:
        CudaError: a call failed, maybe one of earlier asynchronous work.
    """

    name: str

    def push(self) -> None:
        """Make the context current in this thread, on top of the one that is."""
        ...

    def pop(self) -> None:
        """Make the context current again that was before `push`."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the GPU's memory."""
        ...

    def allocate(self, n_bytes: int) -> int:
        """Address of new device memory, aligned to 256 bytes."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def pin(self, n_bytes: int) -> NDArray[np.uint8]:
        """New page-locked host memory, which the GPU copies from and to without a stop."""
        ...

    def unpin(self, address: int) -> None:
        """Give page-locked memory back, by the address of its first byte."""
        ...

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back; work on it is finished first."""
        ...

    def create_event(self, *, timing: bool = False) -> int:
        """An event; one that measures time costs a little more."""
        ...

    def destroy_event(self, event: int) -> None:
        """Give an event back."""
        ...

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        """Queue a copy of a C-contiguous array to the device."""
        ...

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        """Queue a copy from the device into a C-contiguous array."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Let the event stand for everything queued on the stream so far."""
        ...

    def wait(self, stream: int, event: int) -> None:
        """Let what is queued on the stream from now on wait for the event; returns at once."""
        ...

    def synchronize_event(self, event: int) -> None:
        """Wait in this thread until the event has happened; one never recorded has."""
        ...

    def synchronize_stream(self, stream: int) -> None:
        """Wait in this thread until everything queued on the stream is done."""
        ...

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two timing events that have happened."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Record what this thread queues on the stream from now on instead of running it."""
        ...

    def end_capture(self, stream: int) -> int:
        """What was recorded, as a graph that is ready to launch."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Queue a recorded graph on a stream."""
        ...

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back; it must not be running."""
        ...

    def release(self) -> None:
        """Let go of the context; it is not current in this thread."""
        ...


class CudaContext:
    """The primary context of one GPU, and everything that was made in it through this object.

    `close` frees what is still alive, in the order that the driver needs, so an owner that fails
    half-way needs no other cleaning up.

    Thread-safety: several threads may use it at once, each within `active`; `close` only one, when
    no other does.

    Args:
        driver: The driver calls; the context takes it over.
        gpu: Number of the GPU, for messages.
    """

    def __init__(self, driver: CudaDriver, gpu: int) -> None:
        self.driver = driver
        self.gpu = gpu
        self._open = True
        self._alive: dict[str, dict[int, Callable[[int], None]]] = {
            kind: {} for kind in _FREED_IN_ORDER
        }

    @contextmanager
    def active(self) -> Iterator[CudaDriver]:
        """The context is current in this thread inside the `with` block."""
        self.driver.push()
        try:
            yield self.driver
        finally:
            self.driver.pop()

    def alive(self) -> dict[str, int]:
        """How many things of each kind were made and not freed."""
        return {kind: len(handles) for kind, handles in self._alive.items()}

    def allocate(self, n_bytes: int, what: str) -> int:
        """Device memory.

        Args:
            n_bytes: How much, at least 1.
            what: What it is for, in a message: "the input of a batch of 128".

        Returns:
            Its address.

        Raises:
            EnvironmentLacks: the GPU has no room for it.
        """
        try:
            address = self.driver.allocate(n_bytes)
        except CudaError as error:
            if not error.out_of_memory:
                raise
            free, total = self.driver.memory_info()
            message = (
                f"GPU {self.gpu} has no room for {what}: {n_bytes / MIB:,.0f} MiB are needed, "
                f"{free / MIB:,.0f} of {total / MIB:,.0f} MiB are free."
            )
            raise CudaMemoryLacks(message) from error
        self._alive["device allocations"][address] = self.driver.free
        return address

    def pin(self, n_bytes: int, what: str) -> NDArray[np.uint8]:
        """Page-locked host memory, (n_bytes,) uint8; not to be used after `close`.

        Raises:
            EnvironmentLacks: the system does not lock so much.
        """
        try:
            array = self.driver.pin(n_bytes)
        except CudaError as error:
            if not error.out_of_memory:
                raise
            message = f"The system does not lock {n_bytes / MIB:,.0f} MiB of memory for {what}."
            raise EnvironmentLacks(message, fix="use a smaller batch: max_batch") from error
        self._alive["pinned arrays"][array.ctypes.data] = self.driver.unpin
        return array

    def stream(self) -> int:
        """A new stream."""
        return self._made("streams", self.driver.create_stream(), self.driver.destroy_stream)

    def event(self, *, timing: bool = False) -> int:
        """A new event."""
        made = self.driver.create_event(timing=timing)
        return self._made("events", made, self.driver.destroy_event)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """A graph of what `work` queues on the stream; nothing of it is run.

        Raises:
            CudaError: something in it cannot be part of a graph.
        """
        self.driver.begin_capture(stream)
        try:
            work()
        except BaseException:
            # The stream stays in capture until it is ended, and ending a broken one fails too.
            try:
                self.driver.destroy_graph(self.driver.end_capture(stream))
            except CudaError as error:
                log.debug("A capture that failed was ended: %s", error)
            raise
        graph = self.driver.end_capture(stream)
        return self._made("graphs", graph, self.driver.destroy_graph)

    def free(self, handle: int) -> None:
        """Free one thing that was made here: an address, a pinned array's address, a handle."""
        for handles in self._alive.values():
            if (release := handles.pop(handle, None)) is not None:
                release(handle)
                return

    def close(self) -> None:
        """Free everything and let go of the context; a second call does nothing.

        What cannot be freed, because the GPU is in an error state, is logged and left.
        """
        if not self._open:
            return
        self._open = False
        try:
            with self.active():
                for kind in _FREED_IN_ORDER:
                    handles = self._alive[kind]
                    while handles:
                        handle, release = handles.popitem()
                        try:
                            release(handle)
                        except CudaError as error:
                            log.warning("One of the %s could not be freed: %s", kind, error)
        except CudaError as error:
            log.warning("The context of GPU %d cannot be used any more: %s", self.gpu, error)
        self.driver.release()

    def _made(self, kind: str, handle: int, release: Callable[[int], None]) -> int:
        self._alive[kind][handle] = release
        return handle


class CudaMemoryLacks(EnvironmentLacks):
    """The GPU has no room; the message says for what, and how much is free."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            fix="use a smaller batch (max_batch), fewer contexts, or free memory on the GPU",
        )
