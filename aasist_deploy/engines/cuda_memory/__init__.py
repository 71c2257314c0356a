"""CUDA memory, streams, events and graphs behind one small interface.

Nothing else in the package calls the CUDA driver to move or hold data. Two packages give access to
it: pycuda, taken first, and cuda-python, taken where pycuda is not installed. Both work in the
primary context of a GPU, the one that TensorRT, PyTorch and the CUDA runtime share.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from aasist_deploy.engines.cuda_memory.context import (
    CudaContext,
    CudaDriver,
    CudaError,
    CudaMemoryLacks,
)
from aasist_deploy.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PACKAGES",
    "CudaContext",
    "CudaDriver",
    "CudaError",
    "CudaMemoryLacks",
    "open_cuda",
    "open_driver",
]

# What may be asked for -> the package whose presence decides, in the order of preference.
PACKAGES: Final[Mapping[str, str]] = {"pycuda": "pycuda", "cuda-python": "cuda.bindings"}
_FIX: Final = "pip install 'aasist-deploy[trt]', or pip install cuda-python"


def open_cuda(gpu: int = 0, package: str | None = None) -> CudaContext:
    """The primary context of a GPU, ready to make things in; close it.

    Args:
        gpu: Which GPU, as the driver numbers them.
        package: "pycuda" or "cuda-python"; None takes the first that is installed.

    Raises:
        UsageError: there is no such package.
        EnvironmentLacks: it is not installed, or there is no driver or no such GPU.
    """
    return CudaContext(open_driver(gpu, package), gpu)


def open_driver(gpu: int, package: str | None = None) -> CudaDriver:
    """The driver calls of one package, in the primary context of a GPU; see `open_cuda`."""
    if package is not None and package not in PACKAGES:
        raise UsageError(f"There is no CUDA package '{package}'; known are: {', '.join(PACKAGES)}.")
    names = tuple(PACKAGES) if package is None else (package,)
    for name in names:
        if not _is_installed(PACKAGES[name]):
            continue
        if name == "pycuda":
            from aasist_deploy.engines.cuda_memory.with_pycuda import PycudaDriver

            return PycudaDriver(gpu)
        from aasist_deploy.engines.cuda_memory.with_cuda_python import CudaPythonDriver

        return CudaPythonDriver(gpu)
    raise EnvironmentLacks(
        f"Device memory needs the package {' or '.join(names)}, which is not installed.", fix=_FIX
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
