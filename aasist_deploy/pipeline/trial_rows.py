"""Rows of an evaluation: all that is known of each scored trial, as lines that are read back."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import islice
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import UsageError
from aasist_deploy.inputs import AudioInput
from aasist_deploy.journal import chained, open_journaled
from aasist_deploy.pipeline.journaled import append_rows, skip_done
from aasist_deploy.pipeline.rows import ScoredFile
from aasist_deploy.pipeline.run import fingerprint
from aasist_deploy.pipeline.windows import FIRST
from aasist_deploy.textfile import excerpt, json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from aasist_deploy.pipeline.batches import Scorer
    from aasist_deploy.trials import Dataset, Trial

# An evaluation scores one window of each trial, so the scores of windows say nothing more.
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "float | None": (float, NoneType),
    "str | None": (str, NoneType),
    "bool": bool,
}
_KEPT: Final = {
    f.name: _TYPES[str(f.type)]
    for f in fields(ScoredFile)
    if f.name not in {"path", "window_scores"}
}


def score_trials(
    scorer: Scorer,
    dataset: Dataset,
    output: Path,
    *,
    batch: int,
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    on_row: Callable[[ScoredFile], None] = lambda _: None,
    on_resumed: Callable[[int], None] = lambda _: None,
) -> tuple[list[ScoredFile], int]:
    """Score all trials into a journaled file of JSON lines, or go on with one.

    A line holds `utterance`, `attack`, `key` and the row, so that what a stopped run leaves is a
    score file too (`aasist-deploy metrics`).

    Args:
        scorer: Who scores.
        dataset: Whose audio is on disk.
        output: The file of lines, beside which its journal lies.
        batch: Windows scored together.
        options: Further options that may change scores.
        resume: Go on where the file ends.
        on_row: Called with each row that was written.
        on_resumed: Called once with the number of trials that are done already.

    Returns:
        A row for each trial, in the order of the dataset, and how many of them were there before.

    Raises:
        UsageError: the file belongs to another run, or trials that are done have changed.
        OutputError: the file cannot be written; what was written before is kept.
    """
    run = {
        "dataset": dataset.name,
        "split": dataset.split,
        "trials": _hash_of(dataset.trials),
        "window": FIRST.name(scorer.contract),
        "batch": batch,
        "options": dict(options or {}),
        **fingerprint(scorer),
    }
    sources = (AudioInput(trial.path) for trial in dataset.trials)
    with open_journaled(output, run, b"", resume=resume) as file:
        n_before = file.reached.n_inputs
        files = _read(output, file.reached.n_bytes, dataset.trials[:n_before])
        inputs = skip_done(sources, file, output)
        on_resumed(n_before)
        trials = islice(dataset.trials, n_before, None)

        def keep(row: ScoredFile) -> None:
            files.append(row)
            on_row(row)

        if not file.reached.done:
            append_rows(
                scorer,
                sources,
                file,
                lambda row: _line(next(trials), row),
                inputs,
                rule=FIRST,
                batch=batch,
                on_error="report",
                on_row=keep,
            )
    return files, n_before


def _line(trial: Trial, row: ScoredFile) -> bytes:
    known = {"utterance": trial.utterance, "attack": trial.attack, "key": trial.label}
    return (json.dumps(known | {name: getattr(row, name) for name in _KEPT}) + "\n").encode()


def _read(output: Path, n_bytes: int, trials: Sequence[Trial]) -> list[ScoredFile]:
    with output.open("rb") as file:
        lines = file.read(n_bytes).splitlines()
    if len(lines) != len(trials):
        raise UsageError(
            f"{output} holds {len(lines)} rows; its journal says {len(trials)}.",
            fix=f"remove {output} and its journal, and begin anew",
        )
    return [
        _row(line, trial, f"{output}:{number}")
        for number, (trial, line) in enumerate(zip(trials, lines, strict=True), start=1)
    ]


def _row(line: bytes, trial: Trial, place: str) -> ScoredFile:
    """A row that `_line` made.

    The journal's check sum is no signature: whoever can write both files can write any row.
    """
    try:
        row = json_of(line)
    except ValueError:
        row = None
    if isinstance(row, dict) and all(
        name in row and isinstance(row[name], kind) for name, kind in _KEPT.items()
    ):
        return ScoredFile(path=trial.path, **{name: row[name] for name in _KEPT})
    raise UsageError(
        f"{place} is no row of an evaluation: {excerpt(line.decode(errors='replace'))}.",
        fix="remove the file and its journal, and begin anew",
    )


def _hash_of(trials: Iterable[Trial]) -> str:
    """Hash of what the trials are, in their order."""
    found = ""
    for trial in trials:
        found = chained(
            found, "\0".join((trial.utterance, str(trial.path), trial.label, trial.attack))
        )
    return found
