"""A fake GPU, on which work that is queued is done when somebody waits for it.

`FakeCudaDriver` does nothing when work is queued: it does it when somebody waits for it, in the
order that streams and events demand and no other. So a result that is read before it was waited
for, or a wait that is missing between two streams, gives wrong scores here as it does on a GPU.
"""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.engines.cuda_memory import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

OUT_OF_MEMORY = 2


class FakeCudaDriver:
    """Host memory that stands for device memory; `log` has every call that queues or waits."""

    name = "fake CUDA"

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.memory_bytes = memory_bytes
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.pinned: dict[int, NDArray[np.uint8]] = {}
        self.queues: dict[int, deque[Any]] = {0: deque()}
        self.events: dict[int, Any] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.log: list[tuple[Any, ...]] = []
        self.fail: dict[str, CudaError] = {}
        self.released = 0
        self._depth = threading.local()
        self._next = 1 << 20
        self._lock = threading.RLock()

    def alive(self) -> dict[str, int]:
        streams = len(self.queues) - 1  # the default stream is not ours
        kinds = (self.memory, self.pinned, self.events, self.graphs)
        return dict(
            zip(
                ("memory", "pinned", "events", "graphs", "streams"),
                (*map(len, kinds), streams),
                strict=True,
            )
        )

    def view(self, address: int, n_bytes: int) -> NDArray[np.uint8]:
        """The bytes at an address, inside one allocation."""
        for start, block in self.memory.items():
            if start <= address and address + n_bytes <= start + len(block):
                return block[address - start : address - start + n_bytes]
        raise CudaError("copy", "CUDA_ERROR_ILLEGAL_ADDRESS", 700)

    def queue(self, stream: int, work: Callable[[], None], *logged: object) -> None:
        """Put work at the end of a stream, or of the graph that it captures."""
        self._check(str(logged[0]))
        with self._lock:
            if stream in self.capturing:
                self.capturing[stream].append(work)
            else:
                self.queues[stream].append(work)
            self.log.append((*logged, stream))

    def push(self) -> None:
        self._check("push", current=False)
        self._depth.value = getattr(self._depth, "value", 0) + 1

    def pop(self) -> None:
        self._depth.value -= 1
        assert self._depth.value >= 0

    def memory_info(self) -> tuple[int, int]:
        return self.memory_bytes - sum(map(len, self.memory.values())), self.memory_bytes

    def allocate(self, n_bytes: int) -> int:
        self._check("allocate")
        with self._lock:
            if n_bytes > self.memory_info()[0]:
                raise CudaError("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", OUT_OF_MEMORY)
            address = self._handle(n_bytes)
            self.memory[address] = np.full(n_bytes, 0xA5, np.uint8)
            return address

    def free(self, address: int) -> None:
        self._check("free")
        del self.memory[address]

    def pin(self, n_bytes: int) -> NDArray[np.uint8]:
        self._check("pin")
        array = np.full(n_bytes, 0xA5, np.uint8)
        self.pinned[array.ctypes.data] = array
        return array

    def unpin(self, address: int) -> None:
        del self.pinned[address]

    def create_stream(self) -> int:
        self._check("create_stream")
        handle = self._handle()
        self.queues[handle] = deque()
        return handle

    def destroy_stream(self, stream: int) -> None:
        self.synchronize_stream(stream)
        del self.queues[stream]

    def create_event(self, *, timing: bool = False) -> int:  # noqa: ARG002
        self._check("create_event")
        handle = self._handle()
        self.events[handle] = None
        return handle

    def destroy_event(self, event: int) -> None:
        del self.events[event]

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        assert host.flags.c_contiguous

        def work() -> None:
            self.view(address, host.nbytes)[:] = host.reshape(-1).view(np.uint8)

        self.queue(stream, work, "copy_in", len(host))

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        assert host.flags.c_contiguous

        def work() -> None:
            host.reshape(-1).view(np.uint8)[:] = self.view(address, host.nbytes)

        self.queue(stream, work, "copy_out", len(host))

    def record(self, event: int, stream: int) -> None:
        with self._lock:
            marker = SimpleNamespace(stream=stream, done=False)
            self.events[event] = marker

            def work() -> None:
                marker.done = True

            self.queue(stream, work, "record", event)

    def wait(self, stream: int, event: int) -> None:
        marker = self.events[event]
        self.queue(stream, lambda: self._reach(marker), "wait", event)

    def synchronize_event(self, event: int) -> None:
        self._check("synchronize_event")
        self.log.append(("synchronize_event", event))
        self._reach(self.events[event])

    def synchronize_stream(self, stream: int) -> None:
        self._check("synchronize_stream")
        with self._lock:
            while self.queues[stream]:
                self.queues[stream].popleft()()

    def elapsed_ms(self, start: int, end: int) -> float:
        raise NotImplementedError

    def begin_capture(self, stream: int) -> None:
        self._check("begin_capture")
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        recorded = self.capturing.pop(stream)
        self._check("end_capture")
        handle = self._handle()
        self.graphs[handle] = recorded
        self.log.append(("captured", handle))
        return handle

    def launch(self, graph: int, stream: int) -> None:
        works = self.graphs[graph]

        def work() -> None:
            for part in works:
                part()

        self.queue(stream, work, "launch", graph)

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def release(self) -> None:
        self.released += 1

    def _handle(self, n_bytes: int = 1) -> int:
        with self._lock:
            handle = self._next
            self._next += 256 * (n_bytes // 256 + 2)
            return handle

    def _check(self, call: str, *, current: bool = True) -> None:
        if call in self.fail:
            raise self.fail[call]
        if current and not getattr(self._depth, "value", 0):
            raise CudaError(call, "CUDA_ERROR_INVALID_CONTEXT", 201)

    def _reach(self, marker: Any) -> None:
        """Do the work that comes before a marker on its stream."""
        with self._lock:
            while marker is not None and not marker.done:
                self.queues[marker.stream].popleft()()
