"""Inputs into Ray Data: a stream of chunks, filled by the process that asks as rows come back.

Ray Data reads what exists when it begins. Names may be a million, and audio of archives is read by
the process that asks, so chunks are handed over one by one, a bounded number ahead.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.pipeline.batches import HeardFile
from aasist_deploy.pipeline.children import input_facts, input_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aasist_deploy.inputs import AudioInput

_SCHEMA: Final = pa.schema(
    [
        ("chunk", pa.int64()),
        ("names", pa.string()),
        ("contents", pa.list_(pa.large_binary())),
    ]
)


@dataclass(slots=True)
class Chunk:
    """Inputs whose rows are not all back.

    Attributes:
        files: What is known of them.
        n_done: How many of the first ones have their rows.
    """

    files: list[HeardFile]
    n_done: int = 0


class Feed:
    """Chunks of inputs on their way into data sets that follow one another.

    Args:
        chunks: Of inputs, not empty ones.
        per_data_set: How many chunks a data set has.

    Attributes:
        under_way: Those that were handed over and whose rows are not all back, by their numbers.
    """

    def __init__(self, chunks: Iterable[list[AudioInput]], per_data_set: int) -> None:
        self._unread = enumerate(chunks)
        self._per_data_set = per_data_set
        # On the machine that asks: with another one, what it keeps would be lost.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        keeper: Any = ray.remote(_Keeper)
        self._keeper: Any = keeper.options(num_cpus=0, scheduling_strategy=here).remote()
        self.under_way: dict[int, Chunk] = {}
        self._n_handed_over = 0
        self._first = 0  # of the data set

    def hand_over(self) -> None:
        """Hand over one more chunk, or say that there is none."""
        item = next(self._unread, None)
        if item is None:
            self._keeper.end.remote(self._n_handed_over)
            return
        number, sources = item
        self._n_handed_over += 1
        self.under_way[number] = Chunk([HeardFile(source.path) for source in sources])
        self._keeper.put.remote(number, sources)

    def done_with(self, number: int) -> None:
        """All rows of a chunk are back, and of those before."""
        del self.under_way[number]
        self._keeper.drop.remote(number)

    def source(self) -> Datasource:
        """Where a data set gets its chunks."""
        return _Chunks(self._keeper, range(self._first, self._first + self._per_data_set))

    def next_data_set(self) -> None:
        """Go on with what comes after a data set, all of whose rows are back.

        Raises:
            EnvironmentLacks: some are not.
        """
        self._first += self._per_data_set
        if missing := [number for number in self.under_way if number < self._first]:
            raise EnvironmentLacks(
                f"Ray Data ended without the rows of {len(missing)} chunks of inputs.",
                fix="give the same command with --resume",
            )

    def close(self) -> None:
        """Let go of what was not taken."""
        with suppress(RayError):
            ray.kill(self._keeper)


class _Keeper:
    """Keeps chunks until their rows are back, so that whoever reads them may begin again."""

    def __init__(self) -> None:
        self._chunks: dict[int, list[AudioInput]] = {}
        self._n_done = 0
        self._n_all: int | None = None
        self._more = asyncio.Condition()

    async def put(self, number: int, sources: list[AudioInput]) -> None:
        """Keep a chunk."""
        self._chunks[number] = sources
        async with self._more:
            self._more.notify_all()

    async def end(self, n_all: int) -> None:
        """There are so many in all; some of them may come later, for calls overtake each other."""
        self._n_all = n_all
        async with self._more:
            self._more.notify_all()

    async def drop(self, number: int) -> None:
        """Forget a chunk, the first one that is kept."""
        del self._chunks[number]
        self._n_done = number + 1

    async def get(self, number: int) -> list[AudioInput] | None:
        """A chunk, once it is there; none if there will be none.

        Of a chunk that is done nothing is left: Ray, which begins a task again whose process died,
        has what it gave, and passes over it.
        """
        async with self._more:
            await self._more.wait_for(
                lambda: (
                    number in self._chunks
                    or number < self._n_done
                    or (self._n_all is not None and number >= self._n_all)
                )
            )
        return [] if number < self._n_done else self._chunks.get(number)


class _Chunks(Datasource):
    """Rows of chunks: their numbers, and their inputs as `inputs_of` reads them."""

    def __init__(self, keeper: Any, numbers: range) -> None:  # noqa: ANN401  # a handle of an actor
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._keeper, self._numbers = keeper, numbers

    @property
    def supports_distributed_reads(self) -> bool:
        """Addresses and content go no further than they must."""
        return False

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002  # as Ray calls it
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ANN401, ARG002
    ) -> list[ReadTask]:
        """One task, for the chunks have an order."""
        read = partial(_read, self._keeper, self._numbers)
        about = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(read, about, _SCHEMA, per_task_row_limit)]


def _read(keeper: Any, numbers: range) -> Iterator[pa.Table]:  # noqa: ANN401
    for number in numbers:
        sources: list[AudioInput] | None = ray.get(keeper.get.remote(number))
        if sources is None:
            return
        yield pa.Table.from_pylist([_row(number, sources)], schema=_SCHEMA)


def _row(number: int, sources: Sequence[AudioInput]) -> dict[str, Any]:
    # ASCII, for file names need not be text.
    return {
        "chunk": number,
        "names": json.dumps([input_facts(source) for source in sources]),
        "contents": [source.content for source in sources],
    }


def inputs_of(row: dict[str, Any]) -> list[AudioInput]:
    """The inputs of a row."""
    names = json.loads(row["names"])
    return [input_of(*of_one) for of_one in zip(names, row["contents"], strict=True)]
