"""Rows of files into a journaled file, whatever a row looks like: to go on, and to append."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Literal

from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.journal import chained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.journal import JournaledFile
    from aasist_deploy.pipeline.batches import Scorer
    from aasist_deploy.pipeline.rows import ScoredFile
    from aasist_deploy.pipeline.windows import WindowRule

OnError = Literal["report", "fail"]


def skip_done(sources: Iterator[AudioInput], file: JournaledFile, output: Path) -> str:
    """Pass over the inputs whose rows are there; returns their hash.

    Raises:
        UsageError: they are not what they were when they were scored.
    """
    inputs, n_done = "", file.reached.n_inputs
    for source in islice(sources, n_done):
        inputs = chained(inputs, source.stamp())
        n_done -= 1
    if n_done or inputs != file.reached.inputs:
        raise UsageError(
            f"Among the first {file.reached.n_inputs} inputs, whose rows {output} holds, some have "
            "changed since: their number, names, sizes or times differ.",
            fix="begin anew with another output, or put the files back as they were",
        )
    return inputs


def append_rows(
    scorer: Scorer,
    sources: Iterator[AudioInput],
    file: JournaledFile,
    line: Callable[[ScoredFile], bytes],
    inputs: str,
    *,
    rule: WindowRule,
    batch: int,
    on_error: OnError,
    on_row: Callable[[ScoredFile], None],
) -> None:
    """Score what is left, append its rows group by group, and say that the run is done.

    Args:
        scorer: Who scores.
        sources: Inputs whose rows are not there.
        file: Open for appending.
        line: A row as bytes.
        inputs: Hash of the inputs whose rows are there (`skip_done`).
        rule: Which windows are scored.
        batch: Windows scored together.
        on_error: See `failed_rows`.
        on_row: Called with each row that was written.
    """
    stamps: deque[str] = deque()

    def stamped() -> Iterator[AudioInput]:
        for source in sources:
            stamps.append(source.stamp())
            yield source

    # Closed here whatever ends the run, so that nothing is decoded when the decoders are closed.
    before = file.reached.n_inputs
    with closing(scorer.groups(stamped(), rule=rule, batch=batch, before=before)) as groups:
        for group in groups:
            failed = failed_rows(group, on_error, file.reached.n_inputs)
            for _ in group:
                inputs = chained(inputs, stamps.popleft())
            rows = b"".join(map(line, group))
            file.append(rows, n_inputs=len(group), n_failed=len(failed), inputs=inputs)
            for row in group:
                on_row(row)
    file.finish()


def failed_rows(group: list[ScoredFile], on_error: OnError, n_written: int) -> list[ScoredFile]:
    """The rows without a score.

    Raises:
        CheckFailed: there is one, and `on_error` is "fail".
    """
    failed = [row for row in group if row.error is not None]
    if failed and on_error == "fail":
        raise CheckFailed(
            f"{failed[0].error} The output holds the {n_written} rows that were written before.",
            fix="repair the file and go on (with -o and --resume), or leave out --on-error fail",
        )
    return failed
