"""What a user types as MODEL, as a file: a path, or the name of a model.

A named model is pulled, exported and kept in the cache on first use; what is in the cache is
used only when its contract says that it was made from those weights by this version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aasist_deploy.contract import read_contract
from aasist_deploy.engines import Choice, check_backend, choose_backend
from aasist_deploy.errors import ModelFileError, OutputError, UsageError
from aasist_deploy.extras import require_export_packages
from aasist_deploy.published import (
    CACHE_VARIABLE,
    PackagedModel,
    PublishedModel,
    cache_dir,
    named,
    names,
    pull,
)

if TYPE_CHECKING:
    from collections.abc import Collection


def model_file(name_or_path: str, backend: str | None) -> Path:
    """The file that MODEL stands for.

    Args:
        name_or_path: A file, or the name of a model (a file of that name wins).
        backend: The backend that will open it; decides between checkpoint and exported file.

    Raises:
        UsageError: neither a file nor the name of a model.
        DownloadError: the weights cannot be had.
        EnvironmentLacks: they must be exported here, and a package for it is not installed.
    """
    if backend is not None:
        check_backend(backend)
    path = Path(name_or_path)
    if path.is_file():
        return path
    if name_or_path not in names():  # a folder `aasist` does not hide the model
        what = "is a folder" if path.is_dir() else "is neither a file nor the name of a model"
        raise UsageError(
            f"{name_or_path} {what}; names are: {', '.join(names())}.",
            fix="give an exported .onnx file, a checkpoint, or one of these names",
        )
    if backend == "torch":
        return pull(name_or_path)
    return exported(named(name_or_path))


def exported(model: PublishedModel | PackagedModel, *, stream: bool = False) -> Path:
    """The model as an ONNX file in the cache, exported on first use; for streams, if asked for."""
    from aasist_deploy import __version__

    path = cache_dir() / f"{model.name}-{__version__}{'.stream' if stream else ''}.onnx"
    if path.is_file():
        try:
            contract, _ = read_contract(path, stream=stream)
        except ModelFileError:
            path.unlink(missing_ok=True)
        else:
            if contract.checkpoint_sha256 == model.sha256:
                return path
    require_export_packages(f"The model {model.name} is exported on first use, which needs")
    from aasist_deploy.export import export_onnx
    from aasist_deploy.models import load_checkpoint

    try:
        if stream:
            from aasist_deploy.export.stream_export import export_stream

            return export_stream(load_checkpoint(pull(model.name)), path).path
        return export_onnx(load_checkpoint(pull(model.name)), path).path
    except OutputError as error:
        error.fix = f"choose another folder: set {CACHE_VARIABLE}"
        raise


def backend_of(path: Path, backend: str | None, options: Collection[str] = ()) -> str:
    """The backend that the user chose, or the one for this file and these options.

    Args:
        path: The model file.
        backend: As it was typed, or None.
        options: Names of options of `open_engine` that are given.

    Raises:
        UsageError: there is no such backend.
    """
    return chosen_backend(path, backend, options).backend


def chosen_backend(path: Path, backend: str | None, options: Collection[str] = ()) -> Choice:
    """`backend_of` with the reason.

    Raises:
        UsageError: there is no such backend.
    """
    if backend is None:
        return choose_backend(path, options)
    check_backend(backend)
    return Choice(backend, "as asked")
