"""Engines: a loaded, runnable model behind one small Protocol, whatever the runtime.

A new backend costs one file in this folder and one row in `BACKENDS`. Where several open a kind of
file, the order of the rows is the order in which they are taken when none is named.
"""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.base import Engine
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "Engine",
    "backend_for",
    "check_backend",
    "choose_backend",
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
        own: Options of `open_engine` that no other backend for the same files has.
    """

    module: str
    packages: tuple[str, ...]
    extra: str
    suffixes: tuple[str, ...]
    runs: str
    own: tuple[str, ...] = ()


class Choice(NamedTuple):
    """The backend that is taken when none is named.

    Attributes:
        backend: Its name.
        why: Why this one, to go on after its name and a comma.
    """

    backend: str
    why: str


# Both run the fp32 of an exported file as fp32. OpenVINO is the faster one, as it computes the
# activation inside the convolution; docs/backends.md has the figures.
BACKENDS: Final[Mapping[str, Backend]] = {
    "openvino": Backend(
        "aasist_deploy.engines.openvino",
        ("openvino",),
        "openvino",
        (".onnx",),
        "exported .onnx files on OpenVINO (CPU: fp32, bf16, int8)",
        ("precision", "hint", "cache_dir"),
    ),
    "onnx": Backend(
        "aasist_deploy.engines.onnx",
        ("onnxruntime",),
        "onnx",
        (".onnx",),
        "exported .onnx files on ONNX Runtime (CPU, CUDA, TensorRT execution providers)",
        ("provider", "device_id", "tf32"),
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

# Whether OpenVINO is the faster one was measured on these machines, in the words of `uname -m`.
_OPENVINO_MEASURED_ON: Final = ("x86_64", "AMD64")
# Architectures that ONNX Runtime runs faster there: RawNet2's time is in a GRU, measured 36 ms
# against 48 in OpenVINO (docs/backends.md).
_FASTER_ON_ONNX: Final = ("RawNet2",)


def missing_packages(backend: str) -> list[str]:
    """Import names that this backend needs and this environment lacks."""
    needed = BACKENDS[backend].packages
    return [names for names in needed if not any(map(_is_installed, names.split(" or ")))]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package of a dotted name
        return False


def _opening(path: Path) -> list[str]:
    """Backends that open files of this kind, installed or not, in the order of the registry."""
    return [name for name, row in BACKENDS.items() if path.suffix in row.suffixes]


def choose_backend(path: Path | str, options: Collection[str] = ()) -> Choice:
    """The backend for a file when none is named: the fastest one here that is exact.

    Args:
        path: A model file. Its suffix matters, and in an exported file that is there the
            architecture; one that cannot be read is left to the engine, which says why.
        options: Names of options of `open_engine` that are given; one that a single backend has
            decides.

    Returns:
        Its name and the reason. It need not be installed where none is that opens the file.

    Raises:
        UsageError: no backend opens files with this suffix.
    """
    path = Path(path)
    able = _opening(path)
    if not able:
        known = ", ".join(dict.fromkeys(s for b in BACKENDS.values() for s in b.suffixes))
        raise UsageError(
            f"{path} is not a model file: its suffix is '{path.suffix}'; known are {known}.",
            fix="give an exported .onnx file, a TensorRT .plan, a checkpoint, or a published name "
            "(aasist, aasist-l)",
        )
    if len(able) == 1:
        return Choice(able[0], f"which opens {path.suffix} files")
    for name in able:
        for option in BACKENDS[name].own:
            if option in options:
                return Choice(name, f"which has the option {option}")
    here = [name for name in able if not missing_packages(name)]
    if len(here) == 1:
        return Choice(here[0], f"the only one installed of {', '.join(able)}")
    if platform.machine() not in _OPENVINO_MEASURED_ON and "onnx" in here:
        return Choice("onnx", "the one that runs everywhere")
    if "onnx" in here and (architecture := _architecture(path)) in _FASTER_ON_ONNX:
        return Choice("onnx", f"the fastest exact one of {', '.join(here)} on {architecture}")
    return Choice((here or able)[0], f"the fastest exact one of {', '.join(here or able)}")


def _architecture(path: Path) -> str | None:
    """What an exported file says it is, or None for one that will not open either."""
    try:
        return read_contract(path, stream=None)[0].architecture
    except ModelFileError:
        return None


def backend_for(path: Path | str, options: Collection[str] = ()) -> str:
    """The name that `choose_backend` chooses.

    Raises:
        UsageError: no backend opens files with this suffix.
    """
    return choose_backend(path, options).backend


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
        backend: A name in `BACKENDS`; by default the one that `choose_backend` chooses for the file
            and the options, on the command line as here: for a `.onnx` file OpenVINO in fp32 where
            it is installed, else ONNX Runtime. Name one to be independent of what is installed.
        options: Of the backend. All take `threads` (None: as many as this process may use) and
            `max_batch` (larger batches are run in pieces of this size). `openvino` takes
            `precision` ("fp32", "bf16"; "int8", "int8+bf16" for int8 files), `hint` ("latency" or
            "throughput") and `cache_dir`; `onnx` takes `provider` ("cpu", "cuda" or "tensorrt") and
            `device_id`; `torch` takes `device`, `config` and
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
    name = backend_for(path, options) if backend is None else backend
    check_backend(name)
    row = BACKENDS[name]
    if path.suffix not in row.suffixes:
        raise UsageError(
            f"The backend '{name}' runs {row.runs}; it does not open {path.name}.",
            fix=f"give a file with one of the suffixes {', '.join(row.suffixes)}, "
            f"or use another backend",
        )
    if missing_packages(name):
        raise _lacking(path, [name] if backend is not None else _opening(path))
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


def _lacking(path: Path, names: list[str]) -> EnvironmentLacks:
    """The error of a backend, or of all that open the file, when none of them is installed."""
    commands = ", or ".join(f"pip install 'aasist-deploy[{BACKENDS[n].extra}]'" for n in names)
    if len(names) == 1:
        packages = ", ".join(missing_packages(names[0]))
        what = f"The backend '{names[0]}' needs the package {packages}, which is not installed."
    else:
        packages = " or ".join(", ".join(missing_packages(n)) for n in names)
        what = f"Opening {path.name} needs the package {packages}; none of them is installed."
    return EnvironmentLacks(what, fix=commands)
