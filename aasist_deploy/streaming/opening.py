"""Opening a model for streams on a backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasist_deploy.engines import backend_for, check_backend
from aasist_deploy.engines.parts import STEPS, StreamStep, require_packages
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def open_stream_model(path: Path | str, backend: str | None = None, **options: Any) -> StreamStep:  # noqa: ANN401
    """Open a model for streams; close it, or use it as a context manager.

    Args:
        path: A file written by `aasist-deploy export --stream`, or a checkpoint for the torch
            backend.
        backend: "onnx", "openvino" or "torch"; by default the one that opens files of this kind.
        options: Of the backend. All take `threads` (None: as many as this process may use);
            `openvino` takes `precision` ("fp32" or "bf16"); `torch` takes `config`.

    Returns:
        What `StreamScorer` and `StreamBatcher` are made with.

    Raises:
        UsageError: an unknown backend or option, a backend that scores no streams, or a network
            that cannot be scored as one.
        EnvironmentLacks: the backend's package is not here.
        ModelFileError: not a file for streams, damaged, altered, or without a contract.
    """
    path = Path(path)
    name = backend_for(path) if backend is None else backend
    check_backend(name)
    known: dict[str, Callable[..., StreamStep]] = {**STEPS}
    if name == "torch":
        from aasist_deploy.streaming.torch_step import TorchStep

        known["torch"] = TorchStep
    if name not in known:
        raise UsageError(
            f"The backend '{name}' scores no streams yet; onnx, openvino and torch do.",
            fix="--backend onnx with a file written by: aasist-deploy export --stream",
        )
    require_packages(name)
    try:
        return known[name](path, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UsageError(
            f"The backend '{name}' does not know an option for streams: "
            f"{str(error).split('argument ')[-1]}.",
            fix="see help(aasist_deploy.streaming.open_stream_model)",
        ) from error
