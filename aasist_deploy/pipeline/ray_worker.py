"""What runs on the machines of a Ray cluster: the stages of the pipeline, as functions of rows.

They are those of a run in one process, given to Ray Data by `aasist_deploy.pipeline.on_ray`. A row
is a chunk of inputs, then a batch of windows, then the scores of a batch. Errors of ours go along
as values: raised, they would be a failed task to Ray, with a traceback around them.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines import open_engine
from aasist_deploy.errors import AasistDeployError, UsageError
from aasist_deploy.pipeline.batches import (
    HeardFile,
    best_batch,
    grouped,
    wanted_of,
    windows_of,
)
from aasist_deploy.pipeline.children import error_text
from aasist_deploy.pipeline.isolated import InProcesses, can_isolate
from aasist_deploy.pipeline.ray_feed import inputs_of
from aasist_deploy.pipeline.run import versions_of
from aasist_deploy.pipeline.stages import About, Decoders, InThreads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine
    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.windows import WindowRule

Row = dict[str, Any]

_NO_WINDOWS: Final = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What decoding must know beside its files.

    Attributes:
        contract: Of the model.
        rule: Which windows are scored.
        batch: Windows scored together.
        backend: Whose packages `versions` has.
        versions: Those of the process that asks; other ones could give other samples.
        folder: Where that runs: paths of inputs may be relative to it.
    """

    contract: ModelContract
    rule: WindowRule
    batch: int
    backend: str
    versions: Mapping[str, str]
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What is known of an engine; engines whose scores may differ are unequal."""

    contract: ModelContract
    backend: str
    device: str
    versions: Mapping[str, str]
    best_batch: int


def decoded(row: Row, job: Job) -> Iterator[Row]:
    """A chunk of inputs as batches of windows, formed as in one process.

    Yields:
        Rows, each with: `chunk`, its number; `windows`, (n, samples) float32; `owners`, for each
        window the place of its file in the chunk; `group`, what is known of the files of a group
        that ends with this batch, as `fill_in` reads; `refused`, an error that ends the run.
    """
    blank: Row = {
        "chunk": row["chunk"],
        "windows": _NO_WINDOWS,
        "owners": np.empty(0, np.int32),
        "group": "",
        "refused": "",
    }
    try:
        yield from _decoded(inputs_of(row), job, blank)
    except AasistDeployError as error:
        yield {**blank, "refused": error_text(error)}


def _decoded(sources: Sequence[AudioInput], job: Job, blank: Row) -> Iterator[Row]:
    check_versions(job.backend, tuple(sorted(job.versions.items())))
    with suppress(OSError):  # a machine that lacks it may still see absolute paths and addresses
        os.chdir(job.folder)
    decoders, wanted = _decoders(job.folder), wanted_of(job.contract, job.rule)

    def windows_in(place: int, file: HeardFile) -> Iterator[tuple[int, NDArray[np.float32]]]:
        if file.error is None:
            pieces = decoders.pieces(sources[place], wanted)
            for wave in windows_of(pieces, job.contract, job.rule, file):
                yield place, wave

    heard = [HeardFile(source.path, error=source.error) for source in sources]
    files = ((file, windows_in(place, file)) for place, file in enumerate(heard))

    # A batch waits for what comes next: groups mostly end with a full one, and are told with it.
    waiting: Row | None = None
    for windows, group in grouped(files, job.batch):
        if windows:
            if waiting is not None:
                yield waiting
            waiting = {
                **blank,
                "windows": np.stack([wave for _, (_, wave) in windows]),
                "owners": np.array([place for _, (place, _) in windows], np.int32),
            }
        if group is not None:
            yield {**(waiting or blank), "group": json.dumps([_facts(file) for file in group])}
            waiting = None


def _facts(file: HeardFile) -> dict[str, Any]:
    return {
        "n_windows": file.n_windows,
        "about": None if file.about is None else asdict(file.about),
        "error": file.error,
        "tiled": file.tiled,
        "cut": file.cut,
    }


def fill_in(group: str, files: Sequence[HeardFile]) -> list[HeardFile]:
    """The files of the group that a row ends, with what its machine found out about them.

    Args:
        group: Of the row.
        files: Of its chunk, those of earlier groups left out.
    """
    ended = []
    for file, facts in zip(files, json.loads(group) if group else (), strict=False):
        about = facts.pop("about")
        file.about = about and About(**about)
        for name, value in facts.items():
            setattr(file, name, value)
        ended.append(file)
    return ended


@lru_cache(maxsize=1)
def _decoders(folder: str) -> Decoders:  # noqa: ARG001  # processes begin there, and stay
    """What a file is decoded in: a process, for a crash of this one would be a failed task to Ray.

    It ends with the worker of Ray that asks.
    """
    return InProcesses(1) if can_isolate() else InThreads()


class Scoring:
    """An open engine on one machine of the cluster, called by Ray Data with rows of `decoded`.

    Args:
        model: The files of the model.
        options: Of `open_engine`.
        agreed: What all engines must be.
    """

    def __init__(self, model: ModelFiles, options: Mapping[str, Any], agreed: Opened) -> None:
        self._refusal = ""
        try:
            self._engine, opened = model.open(options)
            require_equal(opened, agreed)
        except AasistDeployError as error:
            self._refusal = error_text(error)

    def __call__(self, row: Row) -> Row:
        """Score a batch.

        Returns:
            The row with `scores`, (n,) float64, in the place of its windows.
        """
        refused = row["refused"] or self._refusal
        windows = row.pop("windows")
        scores = np.empty(0)
        if len(row["owners"]) and not refused:
            try:
                # A copy, for what lies in Ray's memory cannot be written.
                scores = self._engine.score(np.array(windows, np.float32)).astype(np.float64)
            except AasistDeployError as error:
                refused = error_text(error)
        return {**row, "scores": scores, "refused": refused}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model that is sent to the machines of a cluster.

    Attributes:
        name: Of the model file.
        files: The model file by its name, and what lies beside it.
        backend: What opens it.
    """

    name: str
    files: Mapping[str, bytes]
    backend: str

    def open(self, options: Mapping[str, Any]) -> tuple[Engine, Opened]:
        """Open the model on this machine.

        Raises:
            AasistDeployError: as `open_engine` raises it.
        """
        with tempfile.TemporaryDirectory(prefix="aasist-deploy-") as folder:
            for file, content in self.files.items():
                Path(folder, Path(file).name).write_bytes(content)
            try:
                engine = open_engine(Path(folder, Path(self.name).name), self.backend, **options)
            except AasistDeployError as error:
                said = str(error).replace(f"{folder}/", "")
                raise type(error)(said, fix=error.fix) from error
        return engine, Opened(
            contract=engine.contract,
            backend=engine.backend,
            device=engine.device,
            versions=versions_of(engine.backend),
            best_batch=best_batch(engine),
        )

    def probe(self, options: Mapping[str, Any]) -> Opened | str:
        """What the model is on the machine where this runs, or the error of opening it as text."""
        try:
            engine, opened = self.open(options)
        except AasistDeployError as error:
            return error_text(error)
        engine.close()
        return opened


def require_equal(opened: Opened, agreed: Opened) -> None:
    """Refuse an engine whose scores may differ from those of the others.

    Raises:
        UsageError: it runs on another device, or with other versions.
    """
    if opened.device != agreed.device:
        devices = "; ".join(sorted((opened.device, agreed.device)))
        raise UsageError(
            "Engines of the cluster run on different devices, whose scores may differ in the "
            f"last digit: {devices}.",
            fix="give --threads, as many as the smallest machine has cores",
        )
    check_versions(agreed.backend, tuple(sorted(agreed.versions.items())))


@lru_cache(maxsize=8)
def check_versions(backend: str, there: tuple[tuple[str, str], ...]) -> None:
    """Refuse a machine on which other versions are installed.

    Raises:
        UsageError: they are.
    """
    here, wanted = versions_of(backend), dict(there)
    if here != wanted:
        differ = "; ".join(
            f"{name} {wanted.get(name, 'missing')} there, {here.get(name, 'missing')} here"
            for name in sorted(here.keys() | wanted.keys())
            if here.get(name) != wanted.get(name)
        )
        raise UsageError(
            f"Machines of the cluster have other packages than the one that asks: {differ}.",
            fix="install the same versions everywhere, e.g. in the cluster's image",
        )
