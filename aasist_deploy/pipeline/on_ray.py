"""Scoring on a Ray cluster with Ray Data: files decoded by tasks, windows scored by actors.

A row of the data set is a chunk of inputs, and after decoding a batch of windows, so no border of
Ray's blocks can cut a batch: which windows share one is decided by the same code as in one process
(`grouped`), and scores are those of a local run to the bit. Windows go from the machine that
decodes to the one that scores; this process sees names, notes and scores only, and writes rows in
the order of the inputs.
"""

from __future__ import annotations

import re
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.pipeline.batches import calibration_of, files_per_chunk, row_of
from aasist_deploy.pipeline.children import error_of
from aasist_deploy.pipeline.ray_connection import RUNS
from aasist_deploy.pipeline.ray_feed import Feed
from aasist_deploy.pipeline.ray_quiet import quiet_run
from aasist_deploy.pipeline.ray_worker import (
    Job,
    ModelFiles,
    Opened,
    Scoring,
    check_versions,
    decoded,
    fill_in,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.rows import ScoredFile
    from aasist_deploy.pipeline.windows import WindowRule

# Chunks handed over before their rows are back. Ray Data holds two blocks of what a task gives, and
# four tasks for each actor.
_AHEAD_PER_DECODER: Final = 3
_AHEAD_PER_SCORER: Final = 4
# Ray Data keeps 5 KB of statistics and queues for a chunk; a data set is followed by another one
# before they are much.
CHUNKS_PER_DATA_SET: Final = 10_000
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")  # in the words of Ray's errors


class RayScorer:
    """Scores files on the cluster that this process is connected to; see `Scorer`.

    Args:
        model: Model file on this machine; it is sent to the cluster.
        backend: What opens it.
        options: Of `open_engine`.
        scorers: How many engines; by default one for each GPU, or for each machine.
        on_gpu: Whether an engine needs a GPU.
        decode_tasks: Tasks of decoding at a time; by default as many as the cluster has cores.

    Raises:
        AasistDeployError: as `open_engine` raises it on the cluster.
        UsageError: its machines have other packages than this one.
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
        self._n_scorers = scorers or (n_gpus if on_gpu else n_machines)
        n_cores = max(1, int(resources.get("CPU", 1)))
        self._n_decoders = min(decode_tasks or n_cores, n_cores)
        # Engines count as no core: they share them with decoding, as they do in one process, and a
        # cluster with as many engines as cores still decodes.
        self._per_scorer: dict[str, Any] = {"num_gpus": 1} if on_gpu else {"num_cpus": 0}
        self._options = dict(options)
        self._model = ModelFiles(
            name=model.name,
            files={path.name: path.read_bytes() for path in _with_companions(model)},
            backend=backend,
        )
        self._opened = self._probed()
        self.contract: ModelContract = self._opened.contract
        self.backend, self.device = self._opened.backend, self._opened.device
        self.best_batch = self._opened.best_batch

    def groups(
        self, sources: Iterable[AudioInput], *, rule: WindowRule, batch: int, before: int = 0
    ) -> Generator[list[ScoredFile], None, None]:
        """See `Scorer`."""
        groups = self._groups(sources, rule, batch, before)
        RUNS.add(groups)
        return groups

    def _groups(
        self, sources: Iterable[AudioInput], rule: WindowRule, batch: int, before: int
    ) -> Generator[list[ScoredFile], None, None]:
        rule.check(self.contract)
        batch = batch if self.contract.n_samples is not None else 1
        calibration = calibration_of(self.contract)
        job = Job(
            contract=self.contract,
            rule=rule,
            batch=batch,
            backend=self.backend,
            versions=self._opened.versions,
            folder=str(Path.cwd()),
        )
        chunks = _chunks(iter(sources), files_per_chunk(batch), before)
        with closing(Feed(chunks, CHUNKS_PER_DATA_SET)) as feed:
            ahead = _AHEAD_PER_DECODER * self._n_decoders + _AHEAD_PER_SCORER * self._n_scorers
            for _ in range(ahead):
                feed.hand_over()
            while feed.under_way:
                with closing(self._scored(feed, job)) as rows:
                    for row in rows:
                        if row["refused"]:
                            raise error_of(row["refused"])
                        chunk = feed.under_way[row["chunk"]]
                        for place, score in zip(row["owners"], row["scores"], strict=True):
                            chunk.files[place].scores.append(float(score))
                        group = fill_in(row["group"], chunk.files[chunk.n_done :])
                        chunk.n_done += len(group)
                        if chunk.n_done == len(chunk.files):
                            feed.done_with(row["chunk"])
                            feed.hand_over()
                        if group:
                            yield [row_of(file, rule, calibration) for file in group]
                feed.next_data_set()

    def _scored(self, feed: Feed, job: Job) -> Generator[dict[str, Any], None, None]:
        """Rows of `Scoring`, in the order of the chunks, of one data set."""
        from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy, read_datasource
        from ray.data.exceptions import ExecutionTimeoutError, SystemException

        quiet_run()
        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.target_max_block_size = 1  # a row is a block is a task
        context.enable_progress_bars = False
        with DataContext.current(context):
            rows = (
                read_datasource(feed.source(), num_cpus=0, override_num_blocks=1)
                .flat_map(
                    decoded, fn_args=(job,), compute=TaskPoolStrategy(self._n_decoders), num_cpus=1
                )
                .map(
                    Scoring,
                    fn_constructor_args=(self._model, self._options, self._opened),
                    compute=ActorPoolStrategy(size=self._n_scorers),
                    **self._per_scorer,
                )
            )
        blocks: Any = iter(
            rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        )
        try:
            with closing(blocks):
                for block in blocks:
                    yield from block.to_pylist()
        except (self._ray.exceptions.RayError, SystemException, ExecutionTimeoutError) as error:
            raise self._lost(error) from error

    def _probed(self) -> Opened:
        """What the model is on one machine; the other engines must equal it."""
        probe: Any = self._ray.remote(ModelFiles.probe).options(**self._per_scorer)
        try:
            found: Opened | str = self._ray.get(probe.remote(self._model, self._options))
        except self._ray.exceptions.RayError as error:
            raise self._lost(error) from error
        if isinstance(found, str):
            raise error_of(found)
        check_versions(found.backend, tuple(sorted(found.versions.items())))
        return found

    def _lost(self, error: Exception) -> Exception:
        """What to raise: a fault of our own as it is, else what became of the cluster."""
        kinds: type[Exception] = self._ray.exceptions.UserCodeException
        if isinstance(error, kinds):
            return error
        said = " ".join(_COLOUR.sub("", str(error)).split())[:300]
        return EnvironmentLacks(
            f"The cluster lost an engine or its windows: {said}",
            fix="give the same command with --resume once it is well again",
        )


def _chunks(sources: Iterator[AudioInput], size: int, before: int) -> Iterator[list[AudioInput]]:
    """The inputs in chunks, which end where they would had the run begun with the first input."""
    first = size - before % size
    while chunk := list(islice(sources, first)):
        yield chunk
        first = size


def _with_companions(model: Path) -> list[Path]:
    """A model file and the description that may lie beside it."""
    beside = (model.with_name(f"{model.name}.json"), model.with_suffix(".conf"))
    return [model, *(path for path in beside if path.is_file() and path != model)]
