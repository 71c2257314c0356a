"""A fake GPU and a fake TensorRT, on which the engine for plans runs without either.

`FakeCudaDriver` does nothing when work is queued: it does it when somebody waits for it, in the
order that streams and events demand and no other. So a result that is read before it was waited
for, or a wait that is missing between two streams, gives wrong scores here as it does on a GPU.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.engines.cuda_memory import CudaContext, CudaError
from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt
from tests.contracts import N_SAMPLES, contract_of, write_tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


class FakeTensorRt:
    """A fake tensorrt module whose plans compute scores from the means of waves.

    Attributes:
        profiles: Of the plan that it deserializes.
        tensors: Name -> (is input, shape, type) of it.
        refuse: Names of calls that give None or False.
        shares_profiles: Whether two contexts may have one profile, as since TensorRT 8.6.
        activation_bytes: What a context needs.
    """

    float32, float16, int64, bfloat16 = "float32", "float16", "int64", "bfloat16"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    Builder = object
    __version__ = "10.13.3"

    class ILogger:
        pass

    def __init__(self, driver: FakeCudaDriver, profiles: tuple[tuple[int, int, int], ...]) -> None:
        self.driver, self.profiles = driver, profiles
        self.tensors: dict[str, tuple[bool, tuple[int, ...], str]] = {
            "wave": (True, (-1, N_SAMPLES), self.float32),
            "score": (False, (-1,), self.float32),
            "logits": (False, (-1, 2), self.float32),
            "embedding": (False, (-1, 3), self.float32),
        }
        self.refuse: set[str] = set()
        self.shares_profiles = True
        self.activation_bytes = 4096
        self.alive: Counter[str] = Counter()
        self.in_use: Counter[int] = Counter()
        self.host_code_allowed = False
        self.loggers: list[Any] = []

    def nptype(self, dtype: str) -> Any:
        if dtype == self.bfloat16:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(dtype).type

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        self.loggers.append(logger)
        if "Runtime" in self.refuse:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return _FakeRuntime(self)

    def says(self, text: str) -> None:
        self.loggers[-1].log(SimpleNamespace(name="ERROR"), text)

    @staticmethod
    def compute(waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        score = (10 * waves.mean(axis=1)).astype(np.float32)
        return {
            "score": score,
            "logits": np.stack([-score, score], axis=1),
            "embedding": np.ascontiguousarray(waves[:, :3]),
        }


class _Counted:
    def __init__(self, kind: str, module: FakeTensorRt) -> None:
        self.kind, self.module = kind, module
        module.alive[kind] += 1

    def __del__(self) -> None:
        self.module.alive[self.kind] -= 1


class _FakeRuntime(_Counted):
    def __init__(self, module: FakeTensorRt) -> None:
        super().__init__("runtimes", module)

    @property
    def engine_host_code_allowed(self) -> bool:
        return self.module.host_code_allowed

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        self.module.host_code_allowed = value

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        assert content == b"a plan"
        if "deserialize" in self.module.refuse:
            self.module.says("Serialization assertion magicTagRead failed")
            return None
        return _FakeTrtEngine(self.module)


class _FakeTrtEngine(_Counted):
    def __init__(self, module: FakeTensorRt) -> None:
        super().__init__("engines", module)
        self.num_io_tensors = len(module.tensors)
        self.num_optimization_profiles = len(module.profiles)
        self.device_memory_size = module.activation_bytes

    def get_tensor_name(self, index: int) -> str:
        return list(self.module.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if self.module.tensors[name][0] else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.module.tensors[name][1]

    def get_tensor_dtype(self, name: str) -> str:
        return self.module.tensors[name][2]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert self.module.tensors[name][0]
        return [(size, N_SAMPLES) for size in self.module.profiles[index]]

    def create_execution_context(self, strategy: str) -> Any:
        assert strategy == "user"
        if "context" in self.module.refuse:
            self.module.says("Requested amount of GPU memory could not be allocated")
            return None
        return _FakeTrtContext(self.module)


class _FakeTrtContext(_Counted):
    def __init__(self, module: FakeTensorRt) -> None:
        super().__init__("contexts", module)
        self.profile: int | None = None
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.memory: int | None = None

    def __del__(self) -> None:
        super().__del__()
        if self.profile is not None:
            self.module.in_use[self.profile] -= 1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream in self.module.driver.queues
        taken = self.module.in_use[index] and not self.module.shares_profiles
        if "profile" in self.module.refuse or taken:
            self.module.says("Profile is already in use by another context")
            return False
        self.profile = index
        self.module.in_use[index] += 1
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.module.activation_bytes
        self.module.driver.view(address, size)
        self.memory = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "wave"
        low, _, high = self.module.profiles[self.profile or 0]
        self.shape = shape
        return low <= shape[0] <= high and shape[1] == N_SAMPLES

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.module.tensors

    def execute_async_v3(self, stream: int) -> bool:
        module, driver = self.module, self.module.driver
        assert self.profile is not None
        assert self.memory is not None
        assert self.shape is not None
        assert set(self.addresses) == set(module.tensors)
        if "execute" in module.refuse:
            module.says("Cuda Runtime (an illegal memory access was encountered)")
            return False
        if "capture" in module.refuse and stream in driver.capturing:
            module.says("Cuda Runtime (operation not permitted when stream is capturing)")
            return False
        (batch, n_samples), addresses = self.shape, dict(self.addresses)

        def work() -> None:
            given = driver.view(addresses["wave"], batch * n_samples * 4).view(np.float32)
            for name, values in module.compute(given.reshape(batch, n_samples)).items():
                if name in addresses:
                    target = driver.view(addresses[name], values.nbytes)
                    target[:] = values.reshape(-1).view(np.uint8)

        driver.queue(stream, work, "compute", batch)
        return True


class FakePlan:
    """A plan file of the fake TensorRT, and the engine opened on the fake GPU."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "model.plan"
        self.driver = FakeCudaDriver()
        self.module = FakeTensorRt(self.driver, ((1, 4, 8),))
        self.gpu = Gpu(0, "Fake GPU", (9, 0), self.driver.memory_bytes, "13.0")
        self.name = "tensorrt"
        self.fields: dict[str, Any] = {}
        self.contract: dict[str, Any] = {}
        engine = "aasist_deploy.engines.trt"

        def load(name: str) -> TensorRt:
            assert name in ("tensorrt", "tensorrt_rtx")
            return TensorRt(self.module, self.name, self.module.__version__)

        def cuda(gpu: int, _package: str | None) -> CudaContext:
            return CudaContext(self.driver, gpu)

        monkeypatch.setattr(f"{engine}.require_gpu", lambda _index: self.gpu)
        monkeypatch.setattr(f"{engine}.load_tensorrt", load)
        monkeypatch.setattr(f"{engine}.open_cuda", cuda)

    def write(self) -> Path:
        outputs = dict.fromkeys(("score", "logits", "embedding"), "fake")
        plain = {"architecture": "Fake", "outputs": outputs}
        contract = contract_of(**plain | self.contract)
        fields: dict[str, Any] = {"profiles": self.module.profiles, **self.fields}
        return write_tiny_plan(self.path, contract, **fields)

    def open(self, **options: Any) -> Any:
        from aasist_deploy.engines.trt import TrtEngine

        return TrtEngine(self.write(), **options)

    def left(self) -> dict[str, int]:
        """What is still alive on the fake GPU and in the fake TensorRT."""
        return {k: n for k, n in {**self.driver.alive(), **self.module.alive}.items() if n}


@pytest.fixture
def fake_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePlan:
    return FakePlan(tmp_path, monkeypatch)
