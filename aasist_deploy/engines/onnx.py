"""ONNX Runtime: exported files on the CPU, or on a GPU through an execution provider.

Thread-safety: several threads may call `score` and `run` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.engines.base import BaseEngine, Waves, check_threads, usable_cores
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: Final[dict[str, str]] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_GPU_FIX: Final = "`aasist-deploy doctor` says what is missing; --provider cpu works anywhere"
_ERRORS_ONLY: Final = 3  # ONNX Runtime's severity levels: 2 warning, 3 error


class OnnxEngine(BaseEngine):
    """An exported file in an ONNX Runtime session.

    Args:
        path: The `.onnx` file; it is checked against its contract before the runtime sees it.
        provider: "cpu", "cuda" or "tensorrt"; one that cannot be taken is an error, never a
            fallback to the CPU.
        device_id: Which GPU.
        threads: Threads inside an operator; by default all cores this process may use.
        max_batch: Larger batches are run in pieces of this size.

    Raises:
        ModelFileError: not a model, damaged, altered, or without a contract.
        EnvironmentLacks: the provider is not in this build, or its libraries or device are missing.
    """

    backend = "onnx"

    def __init__(
        self,
        path: Path,
        *,
        provider: Provider = "cpu",
        device_id: int = 0,
        threads: int | None = None,
        max_batch: int | None = None,
    ) -> None:
        contract, file = read_contract(path)
        if provider not in PROVIDERS:
            raise UsageError(
                f"There is no provider '{provider}'; known are: {', '.join(PROVIDERS)}."
            )
        check_threads(threads)
        self._path, self._content = path, file.content
        self._provider, self._device_id = provider, device_id
        self._threads = threads or usable_cores()
        self._session = self._new_session(file.content)
        _check_names(self._session, contract, path)
        self._observer: Any = None
        where = f"{self._threads} threads" if provider == "cpu" else f"device {device_id}"
        super().__init__(contract, f"{PROVIDERS[provider]}, {where}", max_batch)

    def pooling_orders(self, waves: Waves) -> dict[str, NDArray[np.int64]]:
        """Which nodes each graph pooling kept, best first: pool name -> (B, k) indices.

        The values are inside the graph, so this opens a second session on a copy of the model that
        shows them (it needs the `onnx` package).
        """
        waves = self._checked(waves)
        values: dict[str, str] = self.contract.topk.get("values", {})
        if not values:
            return {}
        if self._observer is None:
            self._observer = self._new_session(_showing(self._content, list(values.values())))

        def observe(piece: Waves) -> dict[str, NDArray[Any]]:
            results = self._observer.run(list(values.values()), {self.contract.input_name: piece})
            return dict(zip(values, results, strict=True))

        orders = self._in_pieces(waves, observe)
        if self.contract.topk["method"] == "topk":
            return {name: np.asarray(order, np.int64) for name, order in orders.items()}
        ratios: dict[str, float] = self.contract.topk["ratios"]
        at_least: int = self.contract.topk.get("at_least", 1)
        return {
            name: np.argsort(rank, axis=1)[:, : max(int(rank.shape[1] * ratios[name]), at_least)]
            for name, rank in orders.items()
        }

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        names = list(self.contract.outputs)
        results = self._session.run(names, {self.contract.input_name: waves})
        return dict(zip(names, results, strict=True))

    def _close(self) -> None:
        self._session = self._observer = None

    def _new_session(self, content: bytes) -> Any:  # noqa: ANN401  # onnxruntime has no types
        ort = import_onnxruntime()
        wanted = PROVIDERS[self._provider]
        if wanted not in ort.get_available_providers():
            raise EnvironmentLacks(
                f"This build of ONNX Runtime ({ort.__version__}) has no {wanted}; it has "
                f"{', '.join(ort.get_available_providers())}.",
                fix="pip uninstall onnxruntime && pip install 'aasist-deploy[onnx-gpu]'",
            )
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin between calls take the cores that decode audio.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._provider != "cpu":
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # CUDA and cuDNN from the pip packages of NVIDIA, when installed
            settings: dict[str, Any] = {"device_id": self._device_id}
            if self._provider == "cuda":
                settings["use_tf32"] = 0  # fp32 means fp32
            providers.insert(0, (wanted, settings))
        try:
            session = ort.InferenceSession(content, options, providers=providers)
        except Exception as error:  # its exceptions share no base but Exception
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if self._provider != "cpu":
                raise EnvironmentLacks(
                    f"ONNX Runtime could not open {self._path} on {wanted}: {reason}",
                    fix=_GPU_FIX,
                ) from error
            raise ModelFileError(
                f"ONNX Runtime {ort.__version__} cannot open {self._path}: {reason}",
                fix="export the checkpoint again with the installed version",
            ) from error
        if wanted not in session.get_providers():
            taken = ", ".join(session.get_providers())
            raise EnvironmentLacks(
                f"{wanted} was asked for and ONNX Runtime took {taken}: the GPU's libraries or "
                f"driver are missing.",
                fix=_GPU_FIX,
            )
        return session


def import_onnxruntime() -> Any:  # noqa: ANN401  # onnxruntime has no types
    """The module, or the reason why it does not work.

    Raises:
        EnvironmentLacks: it cannot be imported, or only an empty folder of it is left.
    """
    try:
        import onnxruntime as ort

        ort.InferenceSession  # noqa: B018  # gone when one of the two packages was uninstalled
    except (ImportError, AttributeError) as error:
        raise EnvironmentLacks(
            f"onnxruntime is installed but cannot be used: {error}.",
            fix="uninstall onnxruntime and onnxruntime-gpu, then install one of the two, never "
            "both: they overwrite each other",
        ) from error
    return ort


def _check_names(session: Any, contract: ModelContract, path: Path) -> None:  # noqa: ANN401
    """Refuse a contract that speaks of another input or other outputs than the graph has."""
    inputs = {value.name: value.shape for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    if list(inputs) != [contract.input_name] or not set(contract.outputs) <= set(outputs):
        raise ModelFileError(
            f"The contract in {path} says {contract.input_name} -> {', '.join(contract.outputs)}; "
            f"the graph has {', '.join(inputs)} -> {', '.join(outputs)}.",
            fix="export the checkpoint again",
        )
    n_samples = inputs[contract.input_name][-1]
    if isinstance(n_samples, int) and n_samples != contract.n_samples:
        raise ModelFileError(
            f"The contract in {path} says waves of {contract.n_samples or 'any number of'} "
            f"samples; the graph takes {n_samples}.",
            fix="export the checkpoint again",
        )


def _showing(content: bytes, values: list[str]) -> bytes:
    """The model with inner values added to its outputs."""
    try:
        import onnx
    except ImportError as error:
        raise EnvironmentLacks(
            "Comparing the nodes that graph pooling kept needs the package onnx.",
            fix="pip install 'aasist-deploy[export]'",
        ) from error
    model = onnx.load_model_from_string(content)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=v) for v in values if v not in known)
    shown: bytes = model.SerializeToString()
    return shown


ENGINE = OnnxEngine
