"""`aasist-deploy.toml`: defaults of a project, so that its commands need no options.

The file is looked for in the current folder and its parents. Paths in it are relative to it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from aasist_deploy.errors import UsageError
from aasist_deploy.trials import Dataset, default_split, load_dataset

FILE_NAME: Final = "aasist-deploy.toml"
_PATHS: Final = ("root", "out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Defaults; what is None must be given on the command line, or has a default there.

    Attributes:
        model: Published name or model file.
        backend: Backend that runs it.
        dataset: Dataset of `eval`.
        root: Folder of that dataset.
        split: Split of that dataset.
        out: Folder of the results.
        threads: Threads of the engine.
        batch: Windows scored together.
        compat: Arithmetic of the metrics.
    """

    model: str | None = None
    backend: str | None = None
    dataset: str | None = None
    root: str | None = None
    split: str | None = None
    out: str | None = None
    threads: int | None = None
    batch: int | None = None
    compat: str | None = None


def load_project(start: Path | None = None) -> Project:
    """The project file at or above a folder, or a project without defaults.

    Raises:
        UsageError: the file is no TOML, or has an unknown key or a value of the wrong type.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if path.is_file():
            return _read(path)
    return Project()


def needed(option: str, value: str | None) -> str:
    """The value of an option, from the command line or the project.

    Raises:
        UsageError: neither says it.
    """
    if value is None:
        raise UsageError(
            f"{option} is missing, and no {FILE_NAME} here or above says it.",
            fix=f"give {option}, or write it into {FILE_NAME}",
        )
    return value


def asked_dataset(
    project: Project, kind: str | None, root: Path | None, split: str | None
) -> Dataset:
    """The dataset of the command line, and of the project where that says nothing.

    Raises:
        UsageError: neither says its kind or its folder.
        TrialsError: it is not as it should be.
    """
    kind = needed("--dataset", kind or project.dataset)
    return load_dataset(
        kind,
        Path(needed("--root", str(root) if root else project.root)),
        split or project.split or default_split(kind),
    )


def _read(path: Path) -> Project:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", fix="write it as TOML") from error
    types = {f.name: int if "int" in str(f.type) else str for f in fields(Project)}
    for name, value in content.items():
        if name not in types:
            raise UsageError(
                f"{path} has the unknown key '{name}'; known are: {', '.join(types)}.",
                fix="remove or correct it",
            )
        if type(value) is not types[name]:
            raise UsageError(
                f"{path}: {name} is {value!r}; it must be of type {types[name].__name__}."
            )
        if type(value) is int and value < 1:
            raise UsageError(f"{path}: {name} is {value}; it must be 1 or more.")
        if name in _PATHS or (name == "model" and _is_file(path.parent / str(value))):
            content[name] = str(path.parent / str(value))
    return Project(**content)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises on names that are too long
