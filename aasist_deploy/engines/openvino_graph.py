"""One ONNX graph compiled by OpenVINO: arrays by name in, arrays by name out, no contract.

`OpenvinoEngine` puts the contract's checks in front of it; parts of a model run on it as they are.

Thread-safety: several threads may call `run` and `run_all` of one graph at once. Each call takes
infer requests of its own from a pool as large as the number of streams, and waits where all are
taken.
"""

from __future__ import annotations

import queue
import sys
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from aasist_deploy.errors import EnvironmentLacks, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Hint = Literal["latency", "throughput"]
Arithmetic = Literal["fp32", "bf16"]

HINTS: Final = ("latency", "throughput")
# How lines of its errors begin that name places in its source, or its own documentation.
_SAYS_NOTHING: Final = ("Exception from", "Check '", "FrontEnd API", "Summary:", "To facilitate")
_TELEMETRY: Final = "openvino_telemetry"


@cache
def import_openvino() -> Any:  # noqa: ANN401  # its types do not pass mypy's strict mode
    """The module openvino, imported so that it reports nothing.

    On import OpenVINO 2026.4 sends an event ("ov", "import") to its maker and leaves an identifier
    in ~/intel, unless the user has declined or its package for it is missing; then it takes a stub
    of its own that does nothing. Here that package is missing, for the time of the import alone.

    Raises:
        EnvironmentLacks: it cannot be imported.
    """
    missing = object()
    held = sys.modules.get(_TELEMETRY, missing)
    if "openvino" not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the import system's own mark
    try:
        import openvino  # noqa: TID251  # here alone

        openvino.Core  # noqa: B018  # gone in a broken installation
    except (ImportError, AttributeError, OSError) as error:
        raise EnvironmentLacks(
            f"openvino is installed but cannot be used: {error}.",
            fix="pip install --force-reinstall 'aasist-deploy[openvino]'",
        ) from error
    finally:
        if held is missing:
            sys.modules.pop(_TELEMETRY, None)
        else:
            sys.modules[_TELEMETRY] = held  # type: ignore[assignment]
    return openvino


def openvino_version() -> str:
    """OpenVINO's version without the name of its build, e.g. "2026.4.1"."""
    return str(import_openvino().__version__).split("-", maxsplit=1)[0]


@cache
def openvino_core() -> Any:  # noqa: ANN401
    """OpenVINO's entry point, one for the process; it may be shared by threads."""
    return import_openvino().Core()


class OpenvinoGraph:
    """A compiled ONNX graph on the CPU.

    Attributes:
        inputs: Input name -> its shape, None for an axis of any length.
        outputs: Names of the outputs.
        n_streams: How many runs go on at once; each has `threads / n_streams` threads.

    Args:
        content: The bytes of the ONNX file.
        path: Where they came from, for messages.
        arithmetic: "fp32" or "bf16" for all that the graph computes in floating point. It is always
            given to OpenVINO, whose own choice on a CPU with bf16 would be bf16.
        hint: "latency": one run at a time on all threads. "throughput": several runs at once.
        threads: Threads in all, 1 or more.
        cache_dir: Folder for compiled models, or None to compile anew. What lies there is run as
            code: it must be the user's own (`aasist_deploy.engines.openvino_cache`).
        show: Names of inner values to make outputs of, too.
        change: Is given the model as OpenVINO read it, and may change it before it is compiled.

    Raises:
        ModelFileError: OpenVINO cannot read or compile the graph.
        EnvironmentLacks: openvino cannot be used here.
    """

    def __init__(
        self,
        content: bytes,
        path: Path,
        *,
        arithmetic: Arithmetic = "fp32",
        hint: Hint = "latency",
        threads: int = 1,
        cache_dir: Path | None = None,
        show: Sequence[str] = (),
        change: Callable[[Any], None] | None = None,
    ) -> None:
        ov = import_openvino()
        element = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}[arithmetic]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": element,
            "PERFORMANCE_HINT": hint.upper(),
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads share a core with whatever else the system puts there, and the threads
            # that decode audio are such; measured no gain from pinning on two cores.
            "ENABLE_CPU_PINNING": False,
        }
        if cache_dir is not None:
            settings["CACHE_DIR"] = str(cache_dir)
        core = openvino_core()
        try:
            model = core.read_model(content)
            if show:
                _show(model, show)
            if change is not None:
                change(model)
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelFileError(
                f"OpenVINO {openvino_version()} cannot compile {path} in {arithmetic}: "
                f"{_reason(error)}",
                fix="export the checkpoint again with the installed version, or use --backend onnx"
                if arithmetic == "fp32"
                else "use fp32",
            ) from error
        taken = compiled.get_property("INFERENCE_PRECISION_HINT")
        if taken != element:
            raise EnvironmentLacks(
                f"OpenVINO {openvino_version()} was told to compute in {arithmetic} and took "
                f"{taken}.",
                fix="use --backend onnx",
            )
        self.inputs = {value.any_name: _shape(value) for value in compiled.inputs}
        self.outputs = tuple(value.any_name for value in compiled.outputs)
        self.n_streams = int(compiled.get_property("NUM_STREAMS"))
        self._compiled: Any = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))):
            self._idle.put(compiled.create_infer_request())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs by name -> outputs by name, fresh arrays."""
        request = self._idle.get()
        try:
            request.infer(dict(inputs), share_inputs=True)
            return self._results(request)
        finally:
            self._idle.put(request)

    def run_all(self, pieces: Iterable[Mapping[str, NDArray[Any]]]) -> list[dict[str, Any]]:
        """`run` for each piece, as many at once as there are streams; results in order."""
        results: list[dict[str, Any]] = []
        running: deque[Any] = deque()

        def finish() -> Any:  # noqa: ANN401
            request, _held = running.popleft()
            try:
                request.wait()
                results.append(self._results(request))
            except BaseException:
                self._idle.put(request)
                raise
            return request

        try:
            for piece in pieces:
                try:
                    request = self._idle.get(block=not running)
                except queue.Empty:  # taken by other calls: wait for one of our own, not for them
                    request = finish()
                held = dict(piece)  # the arrays must outlive the run: they are not copied
                running.append((request, held))
                request.start_async(held, share_inputs=True)
            while running:
                self._idle.put(finish())
        finally:
            for request, _held in running:  # after an error
                request.wait()
                self._idle.put(request)
        return results

    def close(self) -> None:
        """Free the compiled model; a second call does nothing."""
        self._compiled = None
        while not self._idle.empty():
            self._idle.get()

    def _results(self, request: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
        return {
            name: np.array(request.get_output_tensor(index).data)  # a copy: the memory is reused
            for index, name in enumerate(self.outputs)
        }


def _shape(value: Any) -> tuple[int | None, ...]:  # noqa: ANN401
    return tuple(axis.get_length() if axis.is_static else None for axis in value.partial_shape)


def _show(model: Any, names: Sequence[str]) -> None:  # noqa: ANN401
    known = {name for output in model.outputs for name in output.names}
    for name in names:
        if name not in known:
            model.add_outputs(name)


def _reason(error: RuntimeError) -> str:
    """The last line that says something: OpenVINO puts the places in its own source before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_SAYS_NOTHING)]
    return (telling or lines or [type(error).__name__])[-1]
