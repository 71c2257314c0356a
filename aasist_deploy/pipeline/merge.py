"""Shards of one run put together: checked by their journals, rows in the order of the inputs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, get_args

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.journal import check_output, differences, read_journal
from aasist_deploy.pipeline.parquet import work_file
from aasist_deploy.pipeline.run import Shard
from aasist_deploy.scores import RowColumns, RowFormat, open_parquet
from aasist_deploy.textfile import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from aasist_deploy.journal import Reached

_SHOWN: Final = 8  # missing shards that a message names


@dataclass(frozen=True, slots=True)
class _Part:
    output: Path
    rows: Path
    run: dict[str, Any]
    reached: Reached
    shard: Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What was put together.

    Attributes:
        n_shards: From how many shards.
        n_inputs: Rows of the output.
        n_failed: Of them, those without a score.
    """

    n_shards: int
    n_inputs: int
    n_failed: int


def merge_shards(shards: Sequence[Path], output: Path) -> Merged:
    """Put the outputs of all shards of a run together, or write nothing.

    The result holds the rows that one run over all inputs writes, in its order. A score may differ
    in its last digits where a runtime computes the smaller last batch of a shard in another way.

    Args:
        shards: Outputs of `score --shard`, in any order, each with its journal beside it.
        output: Where to; of the same format.

    Raises:
        UsageError: a journal is missing, a shard is not finished, was changed, comes twice or is
            missing, the shards are of different runs, or the output is one of them.
        OutputError: the place cannot be written.
    """
    parts = sorted((_part(path) for path in shards), key=lambda part: part.shard.index)
    _check_together(parts)
    row_format: RowFormat = parts[0].run["format"]
    if output.suffix != parts[0].output.suffix:
        raise UsageError(
            f"The shards are {parts[0].output.suffix} files; {output.name} is to be another kind.",
            fix=f"-o {output.with_suffix(parts[0].output.suffix).name}",
        )
    for part in parts:
        if output.exists() and output.samefile(part.output):
            raise UsageError(f"{output} is one of the shards.", fix="name another output")
    write = _write_parquet if row_format == "parquet" else _write_lines
    try:
        with whole_file(output) as temporary:
            write(parts, temporary)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}.",
            fix="make room, or choose another place with -o",
        ) from error
    return Merged(
        n_shards=len(parts),
        n_inputs=sum(part.reached.n_inputs for part in parts),
        n_failed=sum(part.reached.n_failed for part in parts),
    )


def _part(output: Path) -> _Part:
    rows = output
    found = read_journal(output)
    if found is None:
        rows = work_file(output)
        found = read_journal(rows)
    if found is None or not found[0]:
        raise UsageError(
            f"{output} has no journal beside it that says which shard it is.",
            fix="give outputs of `aasist-deploy score --shard i/n -o FILE`, with their .journal",
        )
    run, reached = found
    if not reached.done:
        raise UsageError(
            f"{output} is not finished: it holds {reached.n_inputs} rows so far.",
            fix="give its command once more, with --resume",
        )
    check_output(rows, reached)
    known = {
        "format": run.get("format") in get_args(RowFormat),
        "shard": isinstance(run.get("shard"), str),
        "columns": isinstance(run.get("columns"), list),
        "window": isinstance(run.get("window"), str | None),
    }
    if not all(known.values()):
        wrong = ", ".join(name for name, right in known.items() if not right)
        raise UsageError(f"The journal of {output} was changed: no {wrong} that can be.")
    return _Part(output, rows, run, reached, Shard.parse(run["shard"]))


def _check_together(parts: list[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        same = {**part.run, "shard": first.run["shard"]}
        if part.shard.count == first.shard.count and (differ := differences(first.run, same)):
            raise UsageError(
                f"{first.output} and {part.output} are of different runs: {'; '.join(differ)}.",
                fix="score the shards of one run with the same model, inputs, options and versions",
            )
    counts = sorted({part.shard.count for part in parts})
    if len(counts) > 1:
        raise UsageError(f"The shards are of {counts[0]} and of {counts[-1]}; they do not fit.")
    indexes = [part.shard.index for part in parts]
    twice = next((i for i in indexes if indexes.count(i) > 1), None)
    if twice is not None:
        raise UsageError(f"Shard {twice}/{counts[0]} was given twice.")
    if n_missing := counts[0] - len(indexes):
        # As few as are shown: a journal may say that there are a trillion.
        given = set(indexes)
        absent = (index for index in range(1, counts[0] + 1) if index not in given)
        names = ", ".join(f"{index}/{counts[0]}" for index in islice(absent, _SHOWN))
        more = ", ..." if n_missing > _SHOWN else ""
        raise UsageError(f"{n_missing} of {counts[0]} shards are missing: {names}{more}.")
    total = sum(part.reached.n_inputs for part in parts)
    for part in parts:
        if part.reached.n_inputs != part.shard.n_of(total):
            raise UsageError(
                f"{part.output} holds {part.reached.n_inputs} rows; shard {part.shard} of {total} "
                f"inputs has {part.shard.n_of(total)}: the shards saw different inputs."
            )


def _interleaved(parts: list[_Part], stack: ExitStack) -> Iterator[bytes]:
    """Rows of all shards in turn, as their inputs were dealt out."""
    rows = []
    for part in parts:
        file = stack.enter_context(part.rows.open("rb"))
        if part.run["format"] == "csv":
            header = next(_records(file, is_csv=True), b"")
            if part is parts[0]:
                yield header
        rows.append(_records(file, is_csv=part.run["format"] == "csv"))
    while True:
        for of_shard in rows:
            row = next(of_shard, None)
            if row is None:  # the shards after this one are as long or shorter
                return
            yield row


def _records(file: BinaryIO, *, is_csv: bool) -> Iterator[bytes]:
    """Rows as they are; one of CSV goes on over line ends inside quotes."""
    held = b""
    for line in file:
        held += line
        if not is_csv or held.count(b'"') % 2 == 0:
            yield held
            held = b""
    if held:
        yield held


def _write_lines(parts: list[_Part], output: Path) -> None:
    with ExitStack() as stack, output.open("wb") as file:
        file.writelines(_interleaved(parts, stack))


def _write_parquet(parts: list[_Part], output: Path) -> None:
    run = parts[0].run
    columns = RowColumns(
        calibrated="llr" in run["columns"],
        window=run["window"],
        window_scores="window_scores" in run["columns"],
    )
    with ExitStack() as stack, open_parquet(output, columns) as writer:
        for line in _interleaved(parts, stack):
            try:
                writer.write_values(json.loads(line))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise UsageError(f"A row of the shards cannot be read: {error}.") from error
