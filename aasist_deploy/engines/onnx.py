"""ONNX Runtime: exported files on the CPU, or on a GPU through an execution provider.

On a GPU, input and outputs are bound to buffers on the device (`BoundSession`).

Thread-safety: several threads may call `score` and `run` at once.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.base import BaseEngine, Waves, check_threads, usable_cores
from aasist_deploy.engines.cpu_features import lacks_int8
from aasist_deploy.engines.exported import check_names, failures_of, kept_nodes
from aasist_deploy.engines.onnx_bound import BoundSession
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: Final[dict[str, str]] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_GPU_FIX: Final = "`aasist-deploy doctor` says what is missing; --provider cpu works anywhere"
_ERRORS_ONLY: Final = 3  # ONNX Runtime's severity levels: 2 warning, 3 error
# What ONNX Runtime's TensorRT provider is linked with (read from its library, 1.31.1): TensorRT 10.
_TENSORRT_LIBRARIES: Final = ("libnvinfer.so.10", "libnvonnxparser.so.10")
_TF32_OVERRIDE: Final = "NVIDIA_TF32_OVERRIDE"  # NVIDIA's libraries read it; 0 forbids TF32


class OnnxEngine(BaseEngine):
    """An exported file in an ONNX Runtime session.

    Args:
        path: The `.onnx` file; it is checked against its contract before the runtime sees it.
        provider: "cpu", "cuda" or "tensorrt"; one that cannot be taken is an error, never a
            fallback to the CPU.
        device_id: Which GPU.
        threads: Threads inside an operator; by default all cores this process may use.
        max_batch: Larger batches are run in pieces of this size.
        tf32: Let a GPU round the factors of fp32 products to TF32, 10 bits of mantissa.
        allow_slow_precision: Open a model of lower precision on a CPU that computes it slower than
            fp32 (fp16 and bf16: every CPU; int8: one without VNNI); for measurements.

    Raises:
        UsageError: an unknown provider, or one that cannot run the model as it is meant.
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
        tf32: bool = False,
        allow_slow_precision: bool = False,
    ) -> None:
        contract, file = read_contract(path)
        if provider not in PROVIDERS:
            raise UsageError(
                f"There is no provider '{provider}'; known are: {', '.join(PROVIDERS)}."
            )
        check_threads(threads)
        _check_precision(contract.precision, provider, path, allow_slow=allow_slow_precision)
        self._path, self._content = path, file.content
        self._provider, self._device_id, self._tf32 = provider, device_id, tf32
        self._threads = threads or usable_cores()
        where = f"{self._threads} threads" if provider == "cpu" else f"device {device_id}"
        super().__init__(contract, f"{PROVIDERS[provider]}, {where}", max_batch)
        self._session = self._new_session(file.content)
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        outputs = [value.name for value in self._session.get_outputs()]
        check_names(inputs, outputs, contract, path)
        self._observer: Any = None
        self._bound: BoundSession | None = None
        if provider != "cpu":
            self._bound = BoundSession(
                import_onnxruntime(),
                self._session,
                input_name=contract.input_name,
                outputs=list(contract.outputs),
                device="cuda",
                device_id=device_id,
            )

    @property
    def best_batch(self) -> int:
        """All that is run at once on a GPU; on a CPU as any engine."""
        return super().best_batch if self._provider == "cpu" else self.max_batch

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

        return kept_nodes(self.contract.topk, self._in_pieces(waves, observe))

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        if self._bound is not None:
            return self._bound.run(waves)
        names = list(self.contract.outputs)
        with failures_of("ONNX Runtime", self._path):
            results = self._session.run(names, {self.contract.input_name: waves})
        return dict(zip(names, results, strict=True))

    def _close(self) -> None:
        if self._bound is not None:
            self._bound.close()
        self._session = self._observer = self._bound = None

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
            if self._provider == "tensorrt":
                _load_tensorrt_libraries()
                if not self._tf32:
                    _check_tf32_is_off()
            providers.insert(0, (wanted, self._provider_settings()))
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

    def _provider_settings(self) -> dict[str, Any]:
        """What the GPU provider is told; fp32 means fp32 unless TF32 was asked for."""
        settings: dict[str, Any] = {"device_id": self._device_id}
        if self._provider == "cuda":
            settings["use_tf32"] = int(self._tf32)
        elif self.contract.n_samples is not None:
            # One plan for every batch; without a profile each new batch size would build another.
            shape = f"{self.contract.input_name}:{{}}x{self.contract.n_samples}"
            for kind, batch in (("min", 1), ("opt", self.max_batch), ("max", self.max_batch)):
                settings[f"trt_profile_{kind}_shapes"] = shape.format(batch)
        return settings


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


def _check_precision(precision: str, provider: str, path: Path, *, allow_slow: bool) -> None:
    """Refuse a provider on which a model of lower precision gains nothing or loses its meaning."""
    if precision == "fp32":
        return
    if provider == "cpu" and not allow_slow:
        _check_cpu_computes(precision, path)
    if provider == "tensorrt":
        raise UsageError(
            f"{path} computes in {precision} with nodes kept in fp32; ONNX Runtime's TensorRT "
            f"provider builds weakly typed networks, which need not keep them.",
            fix="build a plan, which keeps every type: aasist-deploy export --to trt; "
            "or use --provider cuda",
        )


def _check_cpu_computes(precision: str, path: Path) -> None:
    """Refuse a precision that ONNX Runtime does not compute on this CPU, or slower than fp32."""
    if precision == "int8":
        if (reason := lacks_int8()) is not None:
            raise UsageError(
                f"{path} computes in int8, which is slower than fp32 here: {reason}.",
                fix="use the model in fp32; from Python, allow_slow_precision=True accepts it",
            )
        return
    runs = "does not run" if precision == "bf16" else "is slower than fp32"
    raise UsageError(
        f"{path} computes in {precision}, which {runs} in ONNX Runtime on a CPU.",
        fix="use a GPU (--provider cuda, or a plan with --backend trt), or export the model "
        "with --precision fp32",
    )


def _check_tf32_is_off() -> None:
    """Refuse the TensorRT provider where it would compute fp32 products in TF32.

    TensorRT allows TF32 unless told otherwise, and the provider has no option for it.
    """
    if os.environ.get(_TF32_OVERRIDE) != "0":
        raise EnvironmentLacks(
            f"ONNX Runtime's TensorRT provider computes fp32 products in TF32 and has no option "
            f"against it; {_TF32_OVERRIDE} is {os.environ.get(_TF32_OVERRIDE, 'not set')}.",
            fix=f"set {_TF32_OVERRIDE}=0 in the environment before the program starts; from "
            f"Python, tf32=True accepts TF32",
        )


def _load_tensorrt_libraries() -> None:
    """Load what the TensorRT provider is linked with, from the system or the package of it.

    Raises:
        EnvironmentLacks: a library is nowhere to be found.
    """
    spec = find_spec("tensorrt_libs")
    folders = [] if spec is None else [*(spec.submodule_search_locations or ())]
    for name in _TENSORRT_LIBRARIES:
        for path in (name, *(str(Path(folder) / name) for folder in folders)):
            try:
                ctypes.CDLL(path)
                break
            except OSError:
                continue
        else:
            raise EnvironmentLacks(
                f"ONNX Runtime's TensorRT provider needs {name} of TensorRT 10, which is not on "
                f"this machine.",
                fix="install TensorRT 10 (pip install 'tensorrt>=10.12,<11'); with TensorRT 11, "
                "build a plan and use --backend trt",
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
