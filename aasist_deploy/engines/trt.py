"""TensorRT plans on an NVIDIA GPU, with device memory from pycuda or cuda-python.

Thread-safety: several threads may call everything at once but `close`, which waits for them.

A call copies waves into pinned memory and from there to the GPU, while the GPU computes the piece
before; sizes of a batch that come again are replayed as CUDA graphs. `docs/tensorrt.md` says how to
build plans and how to choose the options.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from aasist_deploy.engines.base import BaseEngine, Waves, check_threads
from aasist_deploy.engines.cuda_memory import open_cuda
from aasist_deploy.engines.tensorrt_runtime import load_tensorrt, require_gpu
from aasist_deploy.engines.trt_plan import LoadedPlan, check_fits
from aasist_deploy.engines.trt_pool import WorkerPool
from aasist_deploy.engines.trt_worker import Worker
from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.plan_file import read_plan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_CONTEXTS: Final = 2  # one computes while the other's host side copies and waits


class DeviceArray(Protocol):
    """An array on the GPU, of PyTorch, CuPy, Numba or others.

    Attributes:
        __cuda_array_interface__: Shape, type and address, as Numba's documentation defines them.
    """

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class TrtEngine(BaseEngine):
    """A TensorRT plan on one GPU.

    Args:
        path: The plan; its JSON lies beside it, and its hash is checked before TensorRT sees it.
        device_id: Which GPU, as the driver numbers them.
        max_batch: Larger batches are run in pieces of this size; by default, and at most, the
            largest batch of the plan's profiles, and at least their smallest. A smaller value takes
            less device memory.
        contexts: Most threads that run at once, each with an execution context and its memory; the
            second and further ones are made when threads would wait, and only if they fit.
        cuda_graphs: Replay the kernels of a batch size from its third use on as one CUDA graph,
            which takes less time for small batches, and some memory.
        cuda: "pycuda" or "cuda-python"; None takes the first that is installed.
        threads: Without effect, because the GPU computes; taken so that all backends have it.

    Raises:
        ModelFileError: no plan, damaged, altered, without its JSON, or for another TensorRT or GPU.
        EnvironmentLacks: no driver, GPU, TensorRT or CUDA package, or too little device memory.
        UsageError: an option is out of its range.
    """

    backend = "trt"

    def __init__(
        self,
        path: Path,
        *,
        device_id: int = 0,
        max_batch: int | None = None,
        contexts: int = DEFAULT_CONTEXTS,
        cuda_graphs: bool = True,
        cuda: str | None = None,
        threads: int | None = None,
    ) -> None:
        check_threads(threads)
        for name, value in (
            ("contexts", contexts),
            ("max_batch", 1 if max_batch is None else max_batch),
        ):
            if value < 1:
                raise UsageError(f"{name} is {value}; it must be 1 or more.")
        plan, content = read_plan(path)
        gpu = require_gpu(device_id)
        tensorrt = load_tensorrt(plan.runtime)
        check_fits(plan, path, tensorrt, gpu)
        smallest = min(low for low, _, _ in plan.profiles)
        largest = plan.max_batch if max_batch is None else min(max_batch, plan.max_batch)
        largest = max(largest, smallest)
        contract = replace(plan.contract, batch=(smallest, plan.max_batch))
        with ExitStack() as undo:
            self._cuda = open_cuda(device_id, cuda)
            undo.callback(self._cuda.close)
            with self._cuda.active():
                self._plan = LoadedPlan(content, plan, path, tensorrt)
                undo.callback(self._release_plan)  # TensorRT's objects go before the memory
                self._pool = WorkerPool(lambda: self._new_worker(largest, cuda_graphs), contexts)
            undo.pop_all()
        where = f"{gpu.name} (GPU {gpu.index}), {tensorrt.title} through {self._cuda.driver.name}"
        super().__init__(contract, where, max_batch=largest)

    @property
    def best_batch(self) -> int:
        """The largest batch of the plan."""
        return self.max_batch

    def run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        """All outputs of the model by name, for the same input as `score`.

        Raises:
            ShapeError: the waves do not fit the contract, or hold NaN or infinity.
            EnvironmentLacks: TensorRT or the driver failed while it ran.
        """
        return self._run(self._checked(waves))

    def run_on_device(
        self, waves: DeviceArray, outputs: Mapping[str, DeviceArray], *, stream: int = 0
    ) -> None:
        """Score waves that are on the GPU already, into arrays that are there too.

        Nothing is copied and nothing waited for: the work is queued behind what `stream` holds, and
        `stream` waits for it. Values are not looked at, so NaN goes in and comes out.

        Args:
            waves: (B, samples) float32, C-contiguous, on this engine's GPU; B is one that a profile
                of the plan holds.
            outputs: Output name -> a C-contiguous array for it, of its type and of shape (B, ...),
                on this GPU; outputs that are left out are computed and dropped.
            stream: Handle of a CUDA stream, e.g. `torch.cuda.current_stream().cuda_stream`; 0 is
                the default stream.

        Raises:
            ShapeError: an array has another shape, type or layout.
            EnvironmentLacks: TensorRT or the driver failed.
        """
        if not self._open:
            raise ShapeError("The engine is closed.", fix="open it again with open_engine")
        plan = self._plan
        batch = int(next(iter(waves.__cuda_array_interface__["shape"]), 0))
        if not 1 <= batch <= self.max_batch or plan.batch_for(batch) != batch:
            raise ShapeError(
                f"A batch of {batch} waves cannot run on the device: the plan's profiles are "
                f"{plan.profiles}, and max_batch is {self.max_batch}.",
                fix="give a batch that a profile holds",
            )
        addresses = {
            plan.input_name: _address(plan.input_name, waves, (batch, plan.n_samples), "float32")
        }
        for name, array in outputs.items():
            if name not in plan.outputs:
                raise ShapeError(
                    f"The plan has no output '{name}'; it has {', '.join(plan.outputs)}."
                )
            output = plan.outputs[name]
            addresses[name] = _address(name, array, (batch, *output.shape), str(output.dtype))
        with self._pool.taken() as worker, self._cuda.active():
            worker.run_on_device(batch, addresses, stream)

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        with self._cuda.active(), self._pool.taken() as worker:
            return worker.run(waves, tuple(self.contract.outputs))

    def _close(self) -> None:
        workers = self._pool.close()
        with self._cuda.active():
            for worker in workers:
                worker.close()
            self._plan.close()
        self._cuda.close()

    def _new_worker(self, max_batch: int, graphs: bool) -> Worker:
        return Worker(self._plan, self._cuda, max_batch, graphs=graphs)

    def _release_plan(self) -> None:
        with self._cuda.active():
            self._plan.close()


def _address(name: str, array: DeviceArray, shape: tuple[int, ...], dtype: str) -> int:
    """Where an array on the GPU lies, once it is what TensorRT will read or write there."""
    about = array.__cuda_array_interface__
    wanted = np.dtype(dtype)
    given = np.dtype(about["typestr"])
    strides = about.get("strides")
    packed = tuple(np.cumprod((wanted.itemsize, *shape[:0:-1]))[::-1].tolist())
    if tuple(about["shape"]) != shape or given != wanted or strides not in (None, packed):
        layout = "" if strides in (None, packed) else f", with the strides {tuple(strides)}"
        raise ShapeError(
            f"The array for {name} must be {wanted} of the shape {shape}, C-contiguous; this one "
            f"is {given} of the shape {tuple(about['shape'])}{layout}.",
            fix="give a contiguous array of that type and shape",
        )
    return int(about["data"][0])


ENGINE = TrtEngine
