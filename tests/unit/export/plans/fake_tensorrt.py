"""A module with TensorRT's names, for what needs a GPU or TensorRT's own package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class FakeConfig:
    """A builder's configuration that keeps what is set; `takes` are values that it changes."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.flags: set[str] = {"TF32"}  # TensorRT's default
        self.profiles: list[Any] = []
        self.capabilities: list[str] = []
        self.builder_optimization_level = 3
        self.pool: dict[str, int] = {}
        self.hardware_compatibility_level = "NONE"
        self.cache: Any = None

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return int(self.module.profile_index)

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.pool[pool] = min(limit, self.module.most_workspace)

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.pool[pool]

    def set_compute_capability(self, capability: str, _index: int) -> bool:
        self.capabilities.append(capability)
        return True

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content + b"+measured")

    def set_timing_cache(self, cache: Any, _ignore: bool) -> bool:
        self.cache = cache
        return bool(self.module.cache_fits)

    def get_timing_cache(self) -> Any:
        return self.cache


class FakeTensorRt:
    """A module with TensorRT's names, without TensorRT: what `said` holds is what it logs."""

    __version__ = "10.13.3.9"
    BuilderFlag = SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VC", REFIT="REFIT")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS")
    ProfilingVerbosity = SimpleNamespace(DETAILED="DETAILED")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)

    class ILogger:
        """The base class of loggers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.built: bytes | None = b"a fake plan"
        self.profile_index, self.cache_fits, self.most_workspace = 0, True, 2**40
        self.config: Any = None
        self.network_flags = -1
        self.builder_error: Exception | None = None
        self.refuses_to_load: str | None = None

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        def load(content: bytes) -> bytes | None:
            if self.refuses_to_load is None:
                return content
            logger.log(SimpleNamespace(name="ERROR"), self.refuses_to_load)
            return None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def Builder(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        if self.builder_error is not None:
            raise self.builder_error

        def network(flags: int) -> Any:
            self.network_flags = flags
            float_ = SimpleNamespace(name="FLOAT")
            return SimpleNamespace(
                num_inputs=1,
                num_outputs=1,
                get_input=lambda _i: SimpleNamespace(name="wave", shape=(-1, 64), dtype=float_),
                get_output=lambda _i: SimpleNamespace(name="logits", dtype=float_),
            )

        def new_config() -> FakeConfig:
            config = self.config = FakeConfig(self)
            return config

        def build(_network: Any, _config: Any) -> bytes | None:
            for line in self.said:
                logger.log(SimpleNamespace(name="ERROR"), line)
            return self.built

        return SimpleNamespace(
            create_network=network,
            create_builder_config=new_config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *_: None),
            build_serialized_network=build,
        )

    @staticmethod
    def OnnxParser(_network: Any, _logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        return SimpleNamespace(parse=lambda _content: True)
