"""A deserialized TensorRT plan: whether it fits this machine, its tensors, profiles and contexts.

Only calls that TensorRT has since 8.5 are needed; newer ones are used where they are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.engines.tensorrt_runtime import Messages
from aasist_deploy.errors import EnvironmentLacks, ModelFileError
from aasist_deploy.plan_file import rebuild_command

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt
    from aasist_deploy.plan_file import PlanContract, Profile

_REBUILD = "build the plan again from its ONNX file: "
_AMPERE = (8, 0)


def check_fits(plan: PlanContract, path: Path, tensorrt: TensorRt, gpu: Gpu) -> None:
    """Refuse a plan that was built by another TensorRT, or for another GPU, than is here.

    A plan runs on the version of TensorRT that built it and on the compute capability it was built
    for. One built version-compatible also runs on newer versions of the same major; one built
    hardware-compatible also runs on newer GPUs, from compute capability 8.0 on.

    Raises:
        ModelFileError: it does not fit; the message has both sides and the command to rebuild it.
    """
    here = f"this machine has {tensorrt.title} and {gpu.name} (sm {gpu.sm_text})"
    fix = _REBUILD + rebuild_command(plan)
    if plan.runtime != tensorrt.name or not _version_fits(plan, tensorrt):
        raise ModelFileError(f"{path} was built by {plan.built_for()}; {here}.", fix=fix)
    if not _gpu_fits(plan, gpu):
        raise ModelFileError(
            f"{path} was built for sm {plan.sm} by {plan.built_for()}; {here}.", fix=fix
        )


def _version_fits(plan: PlanContract, tensorrt: TensorRt) -> bool:
    if plan.tensorrt_version == tensorrt.version:
        return True
    if not plan.build.get("version_compatible"):
        return False
    built, here = (_numbers(v) for v in (plan.tensorrt_version, tensorrt.version))
    return built[:1] == here[:1] and built <= here


def _gpu_fits(plan: PlanContract, gpu: Gpu) -> bool:
    if gpu.sm_text in plan.sms:
        return True
    built = [_numbers(sm) for sm in plan.sms]
    return bool(plan.build.get("hardware_compatible")) and gpu.sm >= max(_AMPERE, min(built))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output of a plan.

    Attributes:
        shape: Of one wave's part: () for scores, (2,) for logits.
        dtype: Of its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one wave's part."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class LoadedPlan:
    """A plan in TensorRT's memory. The CUDA context must be current in every call.

    Args:
        content: The plan's bytes, checked against their hash.
        plan: What it says of itself.
        path: For messages.
        tensorrt: What runs it.

    Attributes:
        input_name: Name of the (batch, samples) float32 input.
        n_samples: Length of a wave.
        outputs: Output name -> its shape and type.
        profiles: (smallest, optimal, largest) batch of each optimization profile.

    Raises:
        EnvironmentLacks: TensorRT cannot start here.
        ModelFileError: TensorRT refuses the plan, or it is not what its contract says.
    """

    def __init__(self, content: bytes, plan: PlanContract, path: Path, tensorrt: TensorRt) -> None:
        self.path, self.tensorrt = path, tensorrt
        self.messages = Messages(tensorrt)
        self._uses: dict[int, int] = {}
        self._lock = threading.Lock()
        self._engine: Any = None
        self._config: Any = None
        self._runtime: Any = self._new_runtime(plan)
        try:
            self._engine = self._deserialized(content, plan)
            self._config = self._runtime_config()
            self._read_tensors(plan)
            self._read_profiles(plan)
        except BaseException:
            self.close()  # now, while the CUDA context is current
            raise

    def batch_for(self, n_waves: int) -> int:
        """The batch that `n_waves` run in: their number, or the next one that a profile holds."""
        fitting = [max(low, n_waves) for low, _, high in self.profiles if n_waves <= high]
        return min(fitting, default=n_waves)

    def profiles_up_to(self, max_batch: int) -> list[int]:
        """The profiles that batches of up to `max_batch` waves may be run with."""
        largest = self.batch_for(max_batch)
        return [i for i, (low, _, _) in enumerate(self.profiles) if low <= largest]

    def activation_bytes(self, profiles: list[int]) -> int:
        """Device memory that a context needs for inner values, whichever of the profiles it has."""
        of_profile = getattr(self._engine, "get_device_memory_size_for_profile_v2", None)
        if of_profile is not None and len(profiles) < len(self.profiles):
            return int(max(of_profile(index) for index in profiles))
        size = getattr(self._engine, "device_memory_size_v2", None)  # since 10.1
        return int(self._engine.device_memory_size if size is None else size)

    def new_context(self, batch: int, memory: tuple[int, int], stream: int) -> PlanContext:
        """An execution context whose profile holds `batch`, with inner values in `memory`.

        Of the profiles that hold the batch, the one with the nearest optimal batch is taken; of
        equal ones the least used, because TensorRT before 8.6 lets no two contexts share one.

        Args:
            batch: The waves it is for.
            memory: Address and bytes of device memory.
            stream: Work of choosing the profile is queued here; wait for it.

        Raises:
            EnvironmentLacks: TensorRT gives no context.
        """
        with self._lock:
            holding = [i for i, (low, _, high) in enumerate(self.profiles) if low <= batch <= high]
            profile = min(
                holding, key=lambda i: (abs(self.profiles[i][1] - batch), self._uses.get(i, 0), i)
            )
            self._uses[profile] = self._uses.get(profile, 0) + 1
        try:
            return PlanContext(self, self._new_context(), profile, memory, stream)
        except BaseException:
            self.forget_context(profile)
            raise

    def forget_context(self, profile: int) -> None:
        """A context with this profile is gone."""
        with self._lock:
            self._uses[profile] -= 1

    def failed(self, what: str) -> EnvironmentLacks:
        """An error that quotes TensorRT's own messages."""
        return EnvironmentLacks(
            f"{self.tensorrt.title} {what} for {self.path}: {self.messages.said()}.",
            fix="free memory on the GPU, or use a smaller batch (max_batch) or fewer contexts",
        )

    def close(self) -> None:
        """Let go of TensorRT's objects, the last made first; contexts must be gone."""
        self._config = None
        self._engine = None
        self._runtime = None

    def _new_runtime(self, plan: PlanContract) -> Any:  # noqa: ANN401  # TensorRT has no types
        try:
            runtime = self.tensorrt.module.Runtime(self.messages.logger)
        except TypeError as error:  # its binding's word for "gave no object"
            raise EnvironmentLacks(
                f"{self.tensorrt.title} cannot start here: {self.messages.said()}.",
                fix="`aasist-deploy doctor` says what is missing",
            ) from error
        if plan.build.get("version_compatible"):
            # Such a plan holds a lean runtime, which is code. Its hash was checked.
            runtime.engine_host_code_allowed = True
        return runtime

    def _deserialized(self, content: bytes, plan: PlanContract) -> Any:  # noqa: ANN401
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise ModelFileError(
                f"{self.tensorrt.title} does not take {self.path}: {self.messages.said()}.",
                fix=_REBUILD + rebuild_command(plan),
            )
        return engine

    def _runtime_config(self) -> Any:  # noqa: ANN401
        """What TensorRT-RTX needs to compile a kernel once for all contexts; else None.

        Its kernels are compiled for a shape when the shape is first used; done at once, rather than
        behind the first calls, equal waves have equal scores in every call.
        """
        if not hasattr(self._engine, "create_runtime_config"):
            return None
        config = self._engine.create_runtime_config()
        if not hasattr(config, "create_runtime_cache"):
            return None
        module = self.tensorrt.module
        strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        config.set_runtime_cache(config.create_runtime_cache())
        config.dynamic_shapes_kernel_specialization_strategy = (
            module.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        return config

    def _new_context(self) -> Any:  # noqa: ANN401
        engine, module = self._engine, self.tensorrt.module
        self.messages.forget()
        if self._config is not None:
            context = engine.create_execution_context(self._config)
        elif hasattr(module, "ExecutionContextAllocationStrategy"):  # since 10.0
            strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
            context = engine.create_execution_context(strategy)
        else:
            context = engine.create_execution_context_without_device_memory()
        if context is None:
            raise self.failed("gave no execution context")
        return context

    def _read_tensors(self, plan: PlanContract) -> None:
        engine, contract = self._engine, plan.contract
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        mode = self.tensorrt.module.TensorIOMode.INPUT
        inputs = [n for n in names if engine.get_tensor_mode(n) == mode]
        outputs = [n for n in names if n not in inputs]
        if inputs != [contract.input_name] or not set(contract.outputs) <= set(outputs):
            raise self._other(
                f"says {contract.input_name} -> {', '.join(contract.outputs)}; the plan has "
                f"{', '.join(inputs)} -> {', '.join(outputs)}"
            )
        shape = tuple(engine.get_tensor_shape(inputs[0]))
        wanted = contract.n_samples
        if wanted is None or len(shape) != 2 or shape[1] != wanted:
            raise self._other(
                f"says waves of {wanted or 'any number of'} samples; the plan's input is {shape}"
            )
        self.input_name, self.n_samples = inputs[0], wanted
        self.outputs = {name: self._output(name) for name in outputs}
        types = {inputs[0]: self._dtype(inputs[0])}
        types |= {name: self.outputs[name].dtype for name in contract.outputs}
        for name, dtype in types.items():
            if dtype != np.float32:
                raise self._other(f"means float32 tensors; the plan's {name} is {dtype}")

    def _output(self, name: str) -> OutputTensor:
        shape = tuple(self._engine.get_tensor_shape(name))
        if not shape or any(size < 1 for size in shape[1:]):
            raise self._other(f"means outputs whose first axis alone varies; {name} is {shape}")
        return OutputTensor(shape[1:], self._dtype(name))

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype = self._engine.get_tensor_dtype(name)
        try:
            known: np.dtype[Any] = np.dtype(self.tensorrt.module.nptype(dtype))
        except TypeError as error:  # bfloat16 and the like, which numpy has no type for
            raise self._other(f"means tensors that numpy can hold; {name} is {dtype}") from error
        return known

    def _read_profiles(self, plan: PlanContract) -> None:
        engine = self._engine
        found: list[Profile] = []
        for index in range(engine.num_optimization_profiles):
            low, best, high = (
                shape[0] for shape in engine.get_tensor_profile_shape(self.input_name, index)
            )
            found.append((low, best, high))
        if tuple(found) != plan.profiles:
            raise self._other(f"says the profiles {plan.profiles}; the plan has {tuple(found)}")
        self.profiles = tuple(found)

    def _other(self, disagreement: str) -> ModelFileError:
        return ModelFileError(
            f"The contract beside {self.path} {disagreement}.",
            fix="build the plan again with: aasist-deploy export MODEL --to trt",
        )


class PlanContext:
    """One execution context: its profile, the shape and addresses it is set to.

    Used by one thread at a time.
    """

    def __init__(
        self,
        plan: LoadedPlan,
        context: Any,  # noqa: ANN401  # TensorRT has no types
        profile: int,
        memory: tuple[int, int],
        stream: int,
    ) -> None:
        self._plan, self.profile = plan, profile
        self._context: Any = context
        self._batch = 0
        self._addresses: dict[str, int] = {}
        if not context.set_optimization_profile_async(profile, stream):
            self._context = context = None
            sizes = plan.profiles[profile]
            raise plan.failed(f"gave no execution context with the profile {sizes}")
        if hasattr(context, "set_device_memory"):  # since 10.1
            context.set_device_memory(*memory)
        else:
            context.device_memory = memory[0]

    def execute(self, batch: int, addresses: dict[str, int], stream: int) -> None:
        """Queue the plan on a stream.

        Args:
            batch: Waves at the input's address.
            addresses: Device address of the input and of every output.
            stream: Where.

        Raises:
            EnvironmentLacks: TensorRT refuses.
        """
        plan = self._plan
        done = True
        if batch != self._batch:
            self._batch = batch
            done = self._context.set_input_shape(plan.input_name, (batch, plan.n_samples))
        for name, address in addresses.items():
            if self._addresses.get(name) != address:
                done = done and self._context.set_tensor_address(name, address)
                self._addresses[name] = address
        if not (done and self._context.execute_async_v3(stream)):
            self._batch = 0
            self._addresses.clear()
            raise plan.failed(f"did not run a batch of {batch}")

    def close(self) -> None:
        """Let go of it; its work must be done. A second call does nothing."""
        if self._context is not None:
            self._context = None
            self._plan.forget_context(self.profile)
