"""Engines: a loaded, runnable model behind one small Protocol, whatever the runtime.

A new backend costs one file in this folder and one row in `BACKENDS`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aasist_deploy.engines.base import Engine
from aasist_deploy.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BACKENDS",
    "Backend",
    "Engine",
    "backend_for",
    "check_backend",
    "missing_packages",
    "open_engine",
]


class Backend(NamedTuple):
    """One row of the registry.

    Attributes:
        module: Where `open(path, **options)` of this backend lives.
        packages: Import names that must be there; "a or b" where one of them is enough.
        extra: The extra of aasist-deploy that installs them.
        suffixes: Files this backend opens.
        runs: What it runs, for a person.
    """

    module: str
    packages: tuple[str, ...]
    extra: str
    suffixes: tuple[str, ...]
    runs: str


BACKENDS: Final[Mapping[str, Backend]] = {
    "onnx": Backend(
        "aasist_deploy.engines.onnx",
        ("onnxruntime",),
        "onnx",
        (".onnx",),
        "exported .onnx files on ONNX Runtime (CPU, CUDA, TensorRT execution providers)",
    ),
    "openvino": Backend(
        "aasist_deploy.engines.openvino",
        ("openvino",),
        "openvino",
        (".onnx",),
        "exported .onnx files on OpenVINO (CPU: fp32, bf16, int8)",
    ),
    "torch": Backend(
        "aasist_deploy.engines.torch",
        ("torch",),
        "torch",
        (".pth", ".pt", ".ckpt", ".safetensors"),
        "checkpoints in eager PyTorch, the reference",
    ),
    "trt": Backend(
        "aasist_deploy.engines.trt",
        ("tensorrt or tensorrt_rtx", "pycuda or cuda.bindings"),
        "trt",
        (".plan",),
        "TensorRT plans on an NVIDIA GPU",
    ),
}


def missing_packages(backend: str) -> list[str]:
    """Import names that this backend needs and this environment lacks."""
    needed = BACKENDS[backend].packages
    return [names for names in needed if not any(map(_is_installed, names.split(" or ")))]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package of a dotted name
        return False


def backend_for(path: Path | str) -> str:
    """The backend that opens a file of this kind.

    Raises:
        UsageError: no backend opens files with this suffix.
    """
    path = Path(path)
    for name, backend in BACKENDS.items():
        if path.suffix in backend.suffixes:
            return name
    known = ", ".join(suffix for b in BACKENDS.values() for suffix in b.suffixes)
    raise UsageError(
        f"{path} is not a model file: its suffix is '{path.suffix}'; known are {known}.",
        fix="give an exported .onnx file, a TensorRT .plan, a checkpoint, or a published name "
        "(aasist, aasist-l)",
    )


def check_backend(name: str) -> None:
    """Refuse a name that is no backend.

    Raises:
        UsageError: there is no such backend.
    """
    if name not in BACKENDS:
        raise UsageError(
            f"There is no backend '{name}'; known are: {', '.join(BACKENDS)}.",
            fix="`aasist-deploy doctor` says which of them work here",
        )


def open_engine(path: Path | str, backend: str | None = None, **options: Any) -> Engine:  # noqa: ANN401
    """Open a model file, ready to score; close it, or use it as a context manager.

    Args:
        path: An exported `.onnx` file, a TensorRT `.plan`, or a checkpoint for the torch backend.
        backend: A name in `BACKENDS`; by default the one that opens files of this kind.
        options: Of the backend. All take `threads` (None: as many as this process may use) and
            `max_batch` (larger batches are run in pieces of this size). `onnx` takes `provider`
            ("cpu", "cuda" or "tensorrt") and `device_id`; `torch` takes `device`, `config` and
            `code` (the class of a network of your own, which is run); `trt` takes `device_id`,
            `contexts`, `cuda_graphs` and `cuda` (`aasist_deploy.engines.trt.TrtEngine`).

    Returns:
        An engine; `engine.score(waves)` takes (B, N) float32 and returns (B,) float32.

    Raises:
        UsageError: an unknown backend or option, or a file that this backend does not open.
        EnvironmentLacks: the backend's package, or the provider asked for, is not here.
        ModelFileError: not a model, damaged, altered, or without a contract.
    """
    path = Path(path)
    name = backend_for(path) if backend is None else backend
    check_backend(name)
    row = BACKENDS[name]
    if path.suffix not in row.suffixes:
        raise UsageError(
            f"The backend '{name}' runs {row.runs}; it does not open {path.name}.",
            fix=f"give a file with one of the suffixes {', '.join(row.suffixes)}, "
            f"or use another backend",
        )
    missing = missing_packages(name)
    if missing:
        raise EnvironmentLacks(
            f"The backend '{name}' needs the package {', '.join(missing)}, which is not installed.",
            fix=f"pip install 'aasist-deploy[{row.extra}]'",
        )
    engine_class: Any = import_module(row.module).ENGINE
    try:
        engine: Engine = engine_class(path, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UsageError(
            f"The backend '{name}' does not know an option: {str(error).split('argument ')[-1]}.",
            fix="see help(aasist_deploy.open_engine)",
        ) from error
    return engine
