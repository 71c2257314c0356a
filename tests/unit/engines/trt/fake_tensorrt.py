"""A fake TensorRT that computes on the fake GPU."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.contracts import N_SAMPLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.unit.engines.trt.fake_cuda import FakeCudaDriver


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
