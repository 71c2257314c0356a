"""What runs on the machines of a Ray cluster: the stages of the pipeline, as a task and an actor.

The functions are those of a run in one process, given to Ray by `aasist_deploy.pipeline.on_ray`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines import open_engine
from aasist_deploy.errors import AasistDeployError, UsageError
from aasist_deploy.pipeline.batches import HeardFile, best_batch, wanted_of, windows_of
from aasist_deploy.pipeline.run import versions_of
from aasist_deploy.pipeline.stages import sound_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.windows import WindowRule

BLOCK_WINDOWS: Final = 32  # of one object in the cluster's memory: 8 MB
SILENCE_S: Final = 300.0  # a file that gives no window for so long hangs its decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Windows of one file within a block.

    Attributes:
        first: Place of the first of them in the block.
        n: How many.
        file: What is known of the file, with its last part only; without scores.
    """

    first: int
    n: int
    file: HeardFile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a decoding task must know beside its files.

    Attributes:
        contract: Of the model.
        rule: Which windows are scored.
        backend: Whose packages `versions` has.
        versions: Those of the driver; other ones could give other samples.
        folder: Where the driver runs: paths of inputs may be relative to it.
    """

    contract: ModelContract
    rule: WindowRule
    backend: str
    versions: Mapping[str, str]
    folder: str


def decoded(sources: Sequence[AudioInput], job: Job) -> Iterator[NDArray[np.float32] | list[Part]]:
    """Decode files and cut them into windows.

    Yields:
        In turn a block, (n, samples) float32, and what its windows are of: parts of the files in
        their order. The block comes first, so that whoever has the parts has the block.

    Raises:
        UsageError: other versions of the libraries are installed here than there.
    """
    check_versions(job.backend, tuple(sorted(job.versions.items())))
    with suppress(OSError):  # a machine that lacks it may still see absolute paths and addresses
        os.chdir(job.folder)
    wanted = wanted_of(job.contract, job.rule)
    held: list[NDArray[np.float32]] = []
    parts: list[Part] = []
    at_once = BLOCK_WINDOWS if job.contract.n_samples is not None else 1
    for source in sources:
        file = HeardFile(source.path, error=source.error)
        first = len(held)
        with _watched() as alive:
            pieces = sound_of(source, wanted) if source.error is None else iter(())
            waves = windows_of(pieces, job.contract, job.rule, file) if not source.error else ()
            for wave in waves:
                alive()
                held.append(wave)
                if len(held) == at_once:
                    parts.append(Part(first=first, n=len(held) - first, file=None))
                    yield np.stack(held)
                    yield parts
                    held, parts, first = [], [], 0
        parts.append(Part(first=first, n=len(held) - first, file=file))
    yield np.stack(held) if held else np.empty((0, 0), np.float32)
    yield parts


class ModelFiles:
    """Holds the model for the engines of the cluster, also for those that are started again.

    Args:
        files: The model file by its name, and what lies beside it.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def all(self) -> Mapping[str, bytes]:
        """The files by their names."""
        return self._files


class ScoringActor:
    """An open engine on one machine of the cluster.

    Args:
        held: Name of the actor that holds the files of the model. (A reference would be lost to an
            actor that is started again, and Ray warns of that.)
        name: Which of them is the model.
        backend: What opens it.
        options: Of `open_engine`.
    """

    def __init__(
        self,
        held: str,
        name: str,
        backend: str,
        options: Mapping[str, Any],
    ) -> None:
        import ray

        self._refusal: AasistDeployError | None = None
        holder: Any = ray.get_actor(held)
        files: Any = ray.get(holder.all.remote())
        with tempfile.TemporaryDirectory(prefix="aasist-deploy-") as folder:
            for file, content in files.items():
                Path(folder, Path(file).name).write_bytes(content)
            try:
                self._engine = open_engine(Path(folder, Path(name).name), backend, **options)
            except AasistDeployError as error:
                # Ray would tell of an actor that cannot begin, not why.
                said = str(error).replace(f"{folder}/", "")
                self._refusal = type(error)(said, fix=error.fix)

    def about(self) -> tuple[ModelContract, str, str, dict[str, str], int]:
        """Contract, backend, device, versions of the libraries, and the best batch.

        Raises:
            AasistDeployError: as `open_engine` raised it.
        """
        if self._refusal is not None:
            raise self._refusal
        engine = self._engine
        versions = versions_of(engine.backend)
        return engine.contract, engine.backend, engine.device, versions, best_batch(engine)

    def score(self, places: Sequence[tuple[int, int]], *blocks: NDArray[np.float32]) -> list[float]:
        """Score a batch.

        Args:
            places: For each window the number of its block and its place there.
            blocks: As `decoded` yields them.
        """
        scores: list[float] = self._engine.score(
            np.stack([blocks[block][place] for block, place in places])
        ).tolist()
        return scores


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


@contextmanager
def _watched() -> Iterator[Any]:
    """End this process when nothing happens for long: a decoder that hangs cannot be stopped."""
    timer: threading.Timer | None = None

    def alive() -> None:
        nonlocal timer
        if timer is not None:
            timer.cancel()
        timer = threading.Timer(SILENCE_S, os._exit, (70,))
        timer.daemon = True
        timer.start()

    alive()
    try:
        yield alive
    finally:
        if timer is not None:
            timer.cancel()
