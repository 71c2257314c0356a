"""Scoring on a Ray cluster: files decoded by tasks, windows scored by actors, rows in order here.

The windows go from the machine that decodes to the one that scores; this process sees names, notes
and scores only. Which windows share a batch is decided here, by the same code as in one process
(`grouped`), so rows are byte for byte those of a local run. Ray's tasks and actors are used rather
than its data sets: those cut batches where blocks end, and drop or fail a block whole when a
decoder crashes, where here the one file gets a row that says so.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from aasist_deploy.errors import AasistDeployError, EnvironmentLacks, UsageError
from aasist_deploy.pipeline.batches import HeardFile, calibration_of, grouped, row_of
from aasist_deploy.pipeline.ray_worker import Job, ModelFiles, Part, ScoringActor, decoded
from aasist_deploy.pipeline.run import versions_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.rows import ScoredFile
    from aasist_deploy.pipeline.windows import WindowRule

FILES_PER_TASK: Final = 16  # a task costs Ray a millisecond, in which one or two files are decoded
_ATTEMPTS: Final = 2  # of a file that ends the process that decodes it, as in `isolated`
_BLOCKS_AHEAD: Final = 4  # of one task, in pairs of a block and its parts

Place = tuple[Any, int]  # reference of a block, and a window's place in it


class RayScorer:
    """Scores files on the cluster that this process is connected to; see `Scorer`.

    Args:
        model: Model file on this machine; it is sent to the cluster.
        backend: What opens it.
        options: Of `open_engine`.
        scorers: How many engines; by default one for each GPU, or for each machine.
        on_gpu: Whether an engine needs a GPU.
        decode_tasks: Tasks of decoding at a time; by default, and at most, as many as the cluster
            has cores.

    Raises:
        AasistDeployError: as `open_engine` raises it on the cluster.
        UsageError: its machines differ in what scores depend on.
        EnvironmentLacks: it has not the GPUs.
    """

    def __init__(
        self,
        model: Path,
        backend: str,
        options: Mapping[str, Any],
        *,
        scorers: int | None = None,
        on_gpu: bool = False,
        decode_tasks: int | None = None,
    ) -> None:
        import ray

        self._ray: Any = ray
        resources = self._ray.cluster_resources()
        n_gpus = int(resources.get("GPU", 0))
        if on_gpu and n_gpus < (scorers or 1):
            raise EnvironmentLacks(
                f"The cluster has {n_gpus} GPUs; {scorers or 1} are needed.",
                fix="start its machines with their GPUs, or score on CPUs",
            )
        n_machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
        n_scorers = scorers or (n_gpus if on_gpu else n_machines)
        self._decode_tasks = tasks_at_once(decode_tasks, resources.get("CPU", 1))
        # Engines count as no core: they share them with decoding, as they do in one process, and a
        # cluster with as many engines as cores still decodes.
        actor: Any = ray.remote(ScoringActor).options(
            num_cpus=0,
            num_gpus=1 if on_gpu else 0,
            max_restarts=3,
            max_task_retries=3,
            scheduling_strategy="SPREAD",
        )
        name = f"aasist-deploy-{uuid4()}"
        holder: Any = ray.remote(ModelFiles).options(num_cpus=0, name=name)
        self._held = holder.remote(
            {path.name: path.read_bytes() for path in _with_companions(model)}
        )
        self._actors = [
            actor.remote(name, model.name, backend, dict(options)) for _ in range(n_scorers)
        ]
        self.contract: ModelContract
        self.contract, self.backend, self.device, self._versions, self.best_batch = self._agreed()
        self._next = 0
        self._decoded: Any = ray.remote(decoded).options(
            num_cpus=1,
            num_returns="streaming",
            max_retries=_ATTEMPTS - 1,
            _generator_backpressure_num_objects=2 * _BLOCKS_AHEAD,
        )

    def groups(
        self, sources: Iterable[AudioInput], *, rule: WindowRule, batch: int
    ) -> Generator[list[ScoredFile], None, None]:
        """See `Scorer`."""
        rule.check(self.contract)
        batch = batch if self.contract.n_samples is not None else 1
        calibration = calibration_of(self.contract)
        job = Job(
            contract=self.contract,
            rule=rule,
            backend=self.backend,
            versions=self._versions,
            folder=str(Path.cwd()),
        )
        limit = 2 * len(self._actors) + 1  # batches under way
        under_way: deque[Any] = deque()
        batches: list[tuple[Any, list[HeardFile]]] = []
        waiting: deque[tuple[list[HeardFile], list[tuple[Any, list[HeardFile]]]]] = deque()

        def score(windows: list[tuple[HeardFile, Place]]) -> None:
            while len(under_way) >= limit:
                self._ray.wait([under_way.popleft()])
            result = self._submit([place for _, place in windows])
            under_way.append(result)
            batches.append((result, [file for file, _ in windows]))

        def rows() -> list[ScoredFile]:
            group, its_batches = waiting.popleft()
            for result, files in its_batches:
                for file, value in zip(files, self._get(result), strict=True):
                    file.scores.append(value)
            return [row_of(file, rule, calibration) for file in group]

        with closing(self._files(iter(sources), job)) as files:
            for group in grouped(files, batch, score):
                waiting.append((group, batches.copy()))
                batches.clear()
                while len(waiting) > limit:
                    yield rows()
        while waiting:
            yield rows()

    def _agreed(self) -> tuple[ModelContract, str, str, dict[str, str], int]:
        """What all engines are; refuses a cluster whose machines differ."""
        all_about = [self._get(actor.about.remote()) for actor in self._actors]
        contract, backend, device, versions, best = all_about[0]
        devices = sorted({about[2] for about in all_about})
        if len(devices) > 1:
            raise UsageError(
                f"Engines of the cluster run on different devices, whose scores may differ in the "
                f"last digit: {'; '.join(devices)}.",
                fix="give --threads, as many as the smallest machine has cores",
            )
        here = versions_of(backend)
        other = next((about[3] for about in all_about if about[3] != here), None)
        if other is not None:
            raise UsageError(
                f"Machines of the cluster have other packages than this one: {other}, here {here}.",
                fix="install the same versions everywhere, e.g. in the cluster's image",
            )
        return contract, backend, device, versions, best

    def _submit(self, places: Sequence[Place]) -> Any:  # noqa: ANN401
        blocks: dict[Any, int] = {}
        for block, _ in places:
            blocks.setdefault(block, len(blocks))
        actor = self._actors[self._next % len(self._actors)]
        self._next += 1
        return actor.score.remote([(blocks[block], place) for block, place in places], *blocks)

    def _files(
        self, sources: Iterator[AudioInput], job: Job
    ) -> Generator[tuple[HeardFile, Iterator[Place]], None, None]:
        """Files in their order, with the places of their windows; a bounded number ahead."""
        queue: deque[_Task] = deque()
        try:
            while True:
                while len(queue) < self._decode_tasks and (
                    some := list(islice(sources, FILES_PER_TASK))
                ):
                    queue.append(_Task(self, some, job))
                if not queue:
                    return
                yield from queue.popleft().files()
        finally:
            for task in queue:
                task.cancel()

    def _get(self, reference: Any) -> Any:  # noqa: ANN401
        """A result; an error of ours is raised as it was there."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, AasistDeployError):
                raise cause from None
            if isinstance(cause, BaseException):
                raise cause from error
            said = " ".join(str(error).split())[:300]
            raise EnvironmentLacks(
                f"The cluster lost an engine or its windows: {said}",
                fix="give the same command with --resume once it is well again",
            ) from error


def tasks_at_once(wanted: int | None, n_cores: float) -> int:
    """How many tasks of decoding are under way; none of them waits for a core.

    It could wait for ever: a long file holds its core until its windows are taken, and they are
    taken in the order of the files.
    """
    most = max(1, int(n_cores))
    return min(wanted or most, most)


class _Task:
    """One task of decoding, and after a crash one for each of its files that is left."""

    def __init__(self, scorer: RayScorer, sources: Sequence[AudioInput], job: Job) -> None:
        self._scorer, self._sources, self._job = scorer, sources, job
        self._stream: Any = scorer._decoded.remote(list(sources), job)  # noqa: SLF001  # of this module

    def files(self) -> Iterator[tuple[HeardFile, Iterator[Place]]]:
        parts = self._parts()
        for source in self._sources:
            file = HeardFile(source.path)
            yield file, _places(file, parts)

    def cancel(self) -> None:
        ray = self._scorer._ray  # noqa: SLF001
        if ray.is_initialized():  # else asking would begin another cluster
            with suppress(ray.exceptions.RayError):
                ray.cancel(self._stream)

    def _parts(self) -> Iterator[tuple[Any, Part]]:
        """Blocks and their parts, file after file."""
        n_done, given = 0, False
        exceptions = self._scorer._ray.exceptions  # noqa: SLF001
        try:
            while n_done < len(self._sources):
                block = next(self._stream)
                # A task that died leaves its error in the place of what it would have given next.
                parts = next(self._stream, block)
                for part in self._scorer._ray.get(parts):  # noqa: SLF001
                    yield block, part
                    n_done += part.file is not None
                    given = part.file is None
        except (
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
        ) as death:
            left = self._sources[n_done:]
            if given or len(self._sources) == 1:  # what was given cannot be taken back
                yield None, _quarantined(left[0], death)
                left = left[1:]
            for source in left:
                yield from _Task(self._scorer, [source], self._job)._parts()  # noqa: SLF001
        except exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, AasistDeployError) else error) from None


def _places(file: HeardFile, parts: Iterator[tuple[Any, Part]]) -> Iterator[Place]:
    """Places of one file's windows; fills in what is known of it at its end."""
    for block, part in parts:
        for index in range(part.first, part.first + part.n):
            yield block, index
        if part.file is not None:
            end = part.file
            file.n_windows, file.about, file.error = end.n_windows, end.about, end.error
            file.tiled, file.cut = end.tiled, end.cut
            return


def _quarantined(source: AudioInput, death: Exception) -> Part:
    error = (
        f"{source.path} ended {_ATTEMPTS} processes that decoded it ({type(death).__name__}); "
        "it is left out."
    )
    return Part(first=0, n=0, file=HeardFile(source.path, error=error))


def _with_companions(model: Path) -> list[Path]:
    """A model file and the description that may lie beside it."""
    beside = (model.with_name(f"{model.name}.json"), model.with_suffix(".conf"))
    return [model, *(path for path in beside if path.is_file() and path != model)]
