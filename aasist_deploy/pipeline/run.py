"""A run of scoring into a file: journaled, resumable, one shard of several if wanted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import UsageError
from aasist_deploy.journal import open_journaled
from aasist_deploy.pipeline.journaled import OnError, append_rows, failed_rows, skip_done
from aasist_deploy.pipeline.parquet import work_file, write_parquet
from aasist_deploy.pipeline.windows import FIRST, WindowRule
from aasist_deploy.scores import (
    RowColumns,
    RowFormat,
    RowLines,
    open_rows,
    require_pyarrow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.batches import Described, Scorer
    from aasist_deploy.pipeline.rows import ScoredFile

__all__ = ["OnError", "Outcome", "Plan", "Shard", "fingerprint", "score_inputs"]

# What scores may depend on to the last bit; `aasist_deploy` itself among them.
_PACKAGES: Final = ("aasist-deploy", "numpy", "soundfile", "soxr", "av")
_OF_BACKEND: Final = {
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "trt": ("tensorrt", "tensorrt-rtx-cu13"),
}


@dataclass(frozen=True, slots=True)
class Shard:
    """Every n-th input, beginning with one of the first n.

    Attributes:
        index: Which shard, from 1.
        count: Of how many.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a shard that there is not."""
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"There is no shard {self.index} of {self.count}.",
                fix=f"1/{max(1, self.count)} to {max(1, self.count)}/{max(1, self.count)}",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard of text such as 2/8.

        Raises:
            UsageError: it is none.
        """
        index, slash, count = text.partition("/")
        # So many digits are all that a number of shards has; Python refuses over 4,300 of them.
        short = len(text) < 40
        if not (slash and short and index.isdecimal() and count.isdecimal()):
            raise UsageError(f"--shard is '{text[:80]}'; it must be like 2/8.")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def n_of(self, total: int) -> int:
        """How many of `total` inputs are in this shard."""
        return len(range(self.index - 1, total, self.count))

    def of(self, sources: Iterable[AudioInput]) -> Iterator[AudioInput]:
        """The inputs of this shard."""
        return islice(iter(sources), self.index - 1, None, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done; everything here changes what the output holds.

    Attributes:
        row_format: Of the output.
        rule: Which windows of a file are scored.
        window_scores: Whether rows have the scores of all windows.
        batch: Windows scored together.
        shard: Which part of the inputs.
        inputs: Hash of the names of all inputs.
        options: Further options of the user that may change scores.
    """

    row_format: RowFormat
    batch: int
    inputs: str
    rule: WindowRule = FIRST
    window_scores: bool = False
    shard: Shard = Shard()  # frozen
    options: Mapping[str, Any] | None = None

    def columns(self, model: Described) -> RowColumns:
        """The columns of the rows."""
        return RowColumns(
            calibrated=model.contract.calibration is not None,
            window=self.rule.name(model.contract),
            window_scores=self.window_scores,
        )

    def fingerprint(self, model: Described) -> dict[str, Any]:
        """Everything that the rows depend on beside the inputs' content, in JSON types."""
        return {
            "format": self.row_format,
            "columns": list(self.columns(model).names),
            "window": self.rule.name(model.contract),
            "batch": self.batch,
            "shard": str(self.shard),
            "input names": self.inputs,
            "options": dict(self.options or {}),
            **fingerprint(model),
        }


def fingerprint(model: Described) -> dict[str, Any]:
    """Everything about a model and where it runs that scores depend on, in JSON types."""
    contract = model.contract
    return {
        "model graph": contract.graph_sha256,
        "checkpoint": contract.checkpoint_sha256,
        "precision": contract.precision,
        "calibration": contract.calibration,
        "backend": model.backend,
        "device": model.device,
        "versions": versions_of(model.backend),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did.

    Attributes:
        n_inputs: Inputs in the output, earlier runs included.
        n_failed: Of them, those without a score.
        n_before: Of them, those that were there when this run began.
    """

    n_inputs: int
    n_failed: int
    n_before: int


def score_inputs(
    scorer: Scorer,
    sources: Iterable[AudioInput],
    output: Path | None,
    plan: Plan,
    *,
    resume: bool = False,
    on_error: OnError = "report",
    on_row: Callable[[ScoredFile], None] = lambda _: None,
    on_resumed: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Score inputs into a file that a later run can go on with, whatever ends this one.

    The file is byte for byte that of a run that nothing ended: rows are certain in whole groups of
    files that start with an empty batch (`aasist_deploy.pipeline.batches`). Parquet, which cannot
    be appended to, is made of a file of rows beside it when a run ends. Standard output, pipes and
    devices are written without a journal.

    Args:
        scorer: Who scores them.
        sources: All inputs, of all shards.
        output: The file, beside which its journal lies; None for standard output.
        plan: What is to be done.
        resume: Go on where the output ends.
        on_error: With "fail" the first file that cannot be scored ends the run, before its group
            is written.
        on_row: Called with each row that was written.
        on_resumed: Called once with the number of inputs that are done already.

    Raises:
        CheckFailed: a file could not be scored, and `on_error` is "fail".
        UsageError: the output belongs to another run, inputs that are done have changed, or the
            output is none that a run can go on with.
        OutputError: the output cannot be written; what was written before is kept.
    """
    plan.rule.check(scorer.contract)
    mine = plan.shard.of(sources)
    if output is not None and (output.is_file() or not output.exists()):
        return _into_file(scorer, mine, output, plan, resume, on_error, on_row, on_resumed)
    if resume:
        raise UsageError(
            f"{output or 'Standard output'} is no file that a run can go on with.",
            fix="name a file with -o",
        )
    n_inputs = n_failed = 0
    with (
        open_rows(output, plan.row_format, columns=plan.columns(scorer)) as writer,
        closing(scorer.groups(mine, rule=plan.rule, batch=plan.batch)) as groups,
    ):
        for group in groups:
            n_failed += len(failed_rows(group, on_error, n_inputs))
            n_inputs += len(group)
            for row in group:
                writer.write(row)
                on_row(row)
    return Outcome(n_inputs=n_inputs, n_failed=n_failed, n_before=0)


def _into_file(
    scorer: Scorer,
    mine: Iterator[AudioInput],
    output: Path,
    plan: Plan,
    resume: bool,
    on_error: OnError,
    on_row: Callable[[ScoredFile], None],
    on_resumed: Callable[[int], None],
) -> Outcome:
    columns = plan.columns(scorer)
    is_parquet = plan.row_format == "parquet"
    if is_parquet:
        require_pyarrow("Writing Parquet")
    rows_file = work_file(output) if is_parquet else output
    lines = RowLines("jsonl" if is_parquet else plan.row_format, columns)
    with open_journaled(rows_file, plan.fingerprint(scorer), lines.header, resume=resume) as file:
        n_before = file.reached.n_inputs
        on_resumed(n_before)
        try:
            inputs = skip_done(mine, file, output)
            if not file.reached.done:
                append_rows(
                    scorer,
                    mine,
                    file,
                    lines.line,
                    inputs,
                    rule=plan.rule,
                    batch=plan.batch,
                    on_error=on_error,
                    on_row=on_row,
                )
        finally:
            if is_parquet:
                file.sync()
                write_parquet(rows_file, output, columns, file.reached.n_bytes)
        reached = file.reached
    return Outcome(n_inputs=reached.n_inputs, n_failed=reached.n_failed, n_before=n_before)


def versions_of(backend: str) -> dict[str, str]:
    """Versions of the packages that scores of a backend may depend on to the last bit."""
    found = {}
    for name in (*_PACKAGES, *_OF_BACKEND.get(backend, ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
