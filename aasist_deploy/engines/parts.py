"""Exported files for streams, one call at a time: samples and states in, scores and states out.

A `StreamStep` knows nothing of streams beyond one call; `aasist_deploy.streaming` keeps their
states and puts several of them into one call.

Thread-safety: several threads may call `step` of one object at once.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np

from aasist_deploy.contract import BONA_FIDE, ModelContract, StreamContract, read_contract
from aasist_deploy.engines.base import Closable, check_threads, usable_cores
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, ShapeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.engines.openvino_graph import OpenvinoGraph
    from aasist_deploy.onnx_file import OnnxFile

Precision = Literal["fp32", "bf16"]
PRECISIONS: Final = ("fp32", "bf16")
_ERRORS_ONLY: Final = 3  # ONNX Runtime's severity levels: 2 warning, 3 error


class StreamStep(Closable):
    """A loaded network for streams.

    Attributes:
        contract: What the file says of itself.
        layout: Its part on streams.
        backend: The backend's name, e.g. "onnx".
        device: What it runs on, for a person.
    """

    backend: ClassVar[str]

    def __init__(self, contract: ModelContract, device: str) -> None:
        assert contract.stream is not None
        self.contract = contract
        self.layout: StreamContract = contract.stream
        self.device = device
        self._prepared: set[int] = set()
        self._preparing = threading.Lock()

    def prepare(self, n_frames: Iterable[int]) -> None:
        """Make the first call of one stream as quick as any other, by one call of silence each.

        What a backend does once for a length, such as compiling, is done then. A length that was
        prepared before takes no time.

        Args:
            n_frames: Frames of the calls that will come, each in 1 to `layout.max_frames`.

        Raises:
            ShapeError: a length out of this range, or the model is closed.
        """
        state = self.new_state()[None]
        for length in n_frames:
            with self._preparing:
                if length not in self._prepared:
                    self.step(np.zeros((1, length * self.layout.frame_samples), np.float32), state)
                    self._prepared.add(length)

    def new_state(self) -> NDArray[np.float32]:
        """(state_size,) zeros: the state before a stream's first call."""
        return np.zeros(self.layout.state_size, np.float32)

    def step(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Take the next frames of B streams.

        Args:
            samples: (B, F * frame_samples) float32 in [-1, 1], 1 <= F <= max_frames.
            states: (B, state_size) float32, what the call before gave.

        Returns:
            (B,) float32 scores of the windows that end with the last samples, and the next
            (B, state_size) states; fresh arrays.

        Raises:
            ShapeError: wrong types or shapes, or samples that are NaN or infinite.
        """
        self._check(samples, states)
        outputs = self._run(np.ascontiguousarray(samples), np.ascontiguousarray(states))
        if (scores := outputs.get("score")) is None:
            scores = outputs["logits"][:, BONA_FIDE].copy()
        return scores, outputs[self.layout.state_output]

    def _check(self, samples: NDArray[np.float32], states: NDArray[np.float32]) -> None:
        if not self._open:
            raise ShapeError("The model is closed.", fix="open it again with open_stream_model")
        layout = self.layout
        for name, given in (("samples", samples), ("states", states)):
            if given.dtype != np.float32 or given.ndim != 2:
                raise ShapeError(
                    f"The {name} of a call have two axes and are float32; these have "
                    f"{given.shape} and are {given.dtype}."
                )
        n_frames, rest = divmod(samples.shape[1], layout.frame_samples)
        if rest or not 1 <= n_frames <= layout.max_frames:
            raise ShapeError(
                f"A call takes 1 to {layout.max_frames} frames of {layout.frame_samples} samples; "
                f"these are {samples.shape[1]} samples."
            )
        if states.shape != (len(samples), layout.state_size) or not len(samples):
            raise ShapeError(
                f"{len(samples)} streams need states of the shape "
                f"({len(samples)}, {layout.state_size}); these have {states.shape}."
            )
        if not np.isfinite(samples).all():
            bad = int(np.count_nonzero(~np.isfinite(samples)))
            raise ShapeError(f"The samples hold {bad} that are NaN or infinite.")

    @abstractmethod
    def _run(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a checked call, as fresh arrays."""


class OnnxStep(StreamStep):
    """A file for streams in an ONNX Runtime session on the CPU.

    Args:
        path: The `.onnx` file; it is checked against its contract before the runtime sees it.
        threads: Threads inside an operator; by default all cores this process may use.

    Raises:
        ModelFileError: not a file for streams, damaged, altered, or without a contract.
        EnvironmentLacks: ONNX Runtime cannot be used here.
    """

    backend = "onnx"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        from aasist_deploy.engines.onnx import import_onnxruntime

        check_threads(threads)
        contract, file = read_contract(path, stream=True)
        n_threads = threads or usable_cores()
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        # Threads that spin between calls take the cores that decode audio.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(
                file.content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base but Exception
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelFileError(
                f"ONNX Runtime {ort.__version__} cannot open {path}: {reason}",
                fix="export the checkpoint again with the installed version",
            ) from error
        super().__init__(contract, f"CPUExecutionProvider, {n_threads} threads")
        self._names = _outputs(
            contract,
            file,
            [value.name for value in self._session.get_inputs()],
            [value.name for value in self._session.get_outputs()],
        )

    def _run(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        given = {self.contract.input_name: samples, self.layout.state_input: states}
        return dict(zip(self._names, self._session.run(self._names, given), strict=True))

    def _close(self) -> None:
        self._session = None


class OpenvinoStep(StreamStep):
    """A file for streams compiled by OpenVINO.

    It is compiled once for calls of several streams, and once more for each number of frames of a
    call of one stream: by `prepare`, or when the first such call comes.

    Args:
        path: The `.onnx` file, in fp32.
        precision: Arithmetic: "fp32" or, where the CPU computes it natively, "bf16".
        threads: In all; by default all cores this process may use.

    Raises:
        UsageError: an unknown precision, or one that this CPU would emulate.
        ModelFileError: not a file for streams, damaged, altered, or without a contract.
        EnvironmentLacks: OpenVINO cannot be used here.
    """

    backend = "openvino"

    def __init__(
        self, path: Path, *, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        from aasist_deploy.engines.cpu_features import lacks_bf16
        from aasist_deploy.engines.openvino_graph import OpenvinoGraph

        check_threads(threads)
        if precision not in PRECISIONS:
            raise UsageError(
                f"There is no precision '{precision}' for streams in OpenVINO; known are: "
                f"{', '.join(PRECISIONS)}."
            )
        if precision == "bf16" and (reason := lacks_bf16()) is not None:
            raise UsageError(f"bf16 would be emulated, slower than fp32: {reason}.", fix="use fp32")
        contract, file = read_contract(path, stream=True)
        n_threads = threads or usable_cores()

        def compiled(n_frames: int | None) -> OpenvinoGraph:
            from aasist_deploy.engines.openvino_stream import fix_shape, keep_tail_in_bf16

            def change(model: Any) -> None:  # noqa: ANN401
                if precision == "bf16":
                    keep_tail_in_bf16(model, self.layout)
                if n_frames is not None:
                    fix_shape(model, contract, n_frames)

            return OpenvinoGraph(
                file.content, path, arithmetic=precision, threads=n_threads, change=change
            )

        super().__init__(contract, f"CPU, {precision}, {n_threads} threads")
        self._compiled = compiled
        self._any = compiled(None)
        self._of_frames: dict[int, OpenvinoGraph] = {}
        self._compiling = threading.Lock()
        self._names = _outputs(contract, file, list(self._any.inputs), self._any.outputs)

    def _run(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        n_frames = samples.shape[1] // self.layout.frame_samples
        graph = self._any if len(samples) > 1 else self._graph_of(n_frames)
        found = graph.run({self.contract.input_name: samples, self.layout.state_input: states})
        return {name: found[name] for name in self._names}

    def _graph_of(self, n_frames: int) -> OpenvinoGraph:
        # Which graph runs a call follows from its shape alone: scores are the same to the last bit
        # whatever was called before.
        with self._compiling:
            if (graph := self._of_frames.get(n_frames)) is None:
                graph = self._of_frames[n_frames] = self._compiled(n_frames)
        return graph

    def _close(self) -> None:
        for graph in (self._any, *self._of_frames.values()):
            graph.close()
        self._of_frames.clear()


def _outputs(
    contract: ModelContract, file: OnnxFile, inputs: Sequence[str], outputs: Sequence[str]
) -> list[str]:
    """The outputs to ask for: a score and the next state.

    Raises:
        ModelFileError: the graph has other inputs or outputs than the contract says.
    """
    assert contract.stream is not None
    wanted = {contract.input_name, contract.stream.state_input}
    score = "score" if "score" in contract.outputs else "logits"
    names = [score, contract.stream.state_output]
    if set(inputs) != wanted or not set(names) <= set(outputs):
        raise ModelFileError(
            f"The contract in {file.path} says {', '.join(sorted(wanted))} -> {', '.join(names)}; "
            f"the graph has {', '.join(inputs)} -> {', '.join(outputs)}.",
            fix="export the checkpoint again",
        )
    return names


STEPS: Final[dict[str, type[OnnxStep | OpenvinoStep]]] = {
    "onnx": OnnxStep,
    "openvino": OpenvinoStep,
}


def require_packages(backend: str) -> None:
    """Refuse a backend whose packages are not installed.

    Raises:
        EnvironmentLacks: one is missing.
    """
    from aasist_deploy.engines import BACKENDS, missing_packages

    if missing := missing_packages(backend):
        raise EnvironmentLacks(
            f"The backend '{backend}' needs the package {', '.join(missing)}, which is not "
            f"installed.",
            fix=f"pip install 'aasist-deploy[{BACKENDS[backend].extra}]'",
        )
