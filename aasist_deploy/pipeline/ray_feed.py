"""Inputs into Ray Data: a stream of chunks that the process that asks fills as rows come back.

Ray Data reads what exists when it begins. Names may be a million, and audio of archives is read by
the process that asks, so chunks are handed over one by one, a bounded number ahead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.inputs import Address, AudioInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.util.queue import Queue

_SCHEMA: Final = pa.schema(
    [("chunk", pa.int64()), ("names", pa.string()), ("contents", pa.list_(pa.large_binary()))]
)


class Chunks(Datasource):
    """Chunks of inputs out of a queue, one a row: its number, and the inputs as `inputs_of` reads.

    Args:
        queue: Of pairs of a number, from 0 on, and inputs; None ends it.
    """

    def __init__(self, queue: Queue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._queue = queue

    @property
    def supports_distributed_reads(self) -> bool:
        """The queue is on the machine that asks, and so is who reads it."""
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
        queue = self._queue
        about = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(lambda: _read(queue), about, _SCHEMA, per_task_row_limit)]


def _read(queue: Queue) -> Iterator[pa.Table]:
    expected = 0
    while (item := queue.get()) is not None:
        number, sources = item
        if number != expected:  # it began again, after its process died
            raise EnvironmentLacks(
                f"The machine that asks lost some inputs (chunk {number} for {expected}).",
                fix="give the same command with --resume",
            )
        expected += 1
        yield pa.Table.from_pylist([_row(number, sources)], schema=_SCHEMA)


def _row(number: int, sources: Sequence[AudioInput]) -> dict[str, Any]:
    names = [
        # What may be shown of an address is not what opens it.
        {"address": s.path.url, "error": s.error}
        if isinstance(s.path, Address)
        else {"path": str(s.path), "error": s.error}
        for s in sources
    ]
    # ASCII, for file names need not be text.
    return {"chunk": number, "names": json.dumps(names), "contents": [s.content for s in sources]}


def inputs_of(row: dict[str, Any]) -> list[AudioInput]:
    """The inputs of a row."""
    return [
        AudioInput(
            Address(name["address"]) if "address" in name else Path(name["path"]),
            content,
            name["error"],
        )
        for name, content in zip(json.loads(row["names"]), row["contents"], strict=True)
    ]
