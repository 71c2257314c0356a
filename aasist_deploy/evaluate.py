"""Evaluate an engine on a dataset: scores, metrics, and the mapping that becomes report.json."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.inputs import AudioInput
from aasist_deploy.metrics import ASVSPOOF5_ASV, Compat, MetricsSummary, summarize
from aasist_deploy.pipeline import (
    DECODE_WORKERS,
    DEFAULT_BATCH,
    FIRST,
    InThreads,
    LocalScorer,
    ScoredFile,
)
from aasist_deploy.pipeline.trial_rows import score_trials
from aasist_deploy.scores import (
    ScoreRow,
    ScoreTable,
    condition_columns,
    read_asv_scores,
    read_asv_scores_2021,
    speaker_column,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aasist_deploy.engines import Engine
    from aasist_deploy.metrics import Bootstrap, FixedAsvRates
    from aasist_deploy.pipeline import Decoders
    from aasist_deploy.scores import AsvScores
    from aasist_deploy.trials import Dataset, Trial

REPORT_SCHEMA: Final = "aasist-deploy/report/1"
_RUNTIME_PACKAGES: Final = (
    "numpy",
    "soundfile",
    "soxr",
    "av",
    "openvino",
    "onnxruntime",
    "torch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of one evaluation.

    Attributes:
        dataset: What was evaluated on.
        files: One row for each trial, in the order of the dataset.
        seconds: Wall time of decoding and scoring.
        n_resumed: Trials whose rows an earlier run had left; they are not in `seconds`.
    """

    dataset: Dataset
    files: tuple[ScoredFile, ...]
    seconds: float
    n_resumed: int = 0

    @property
    def scored(self) -> list[tuple[Trial, ScoredFile]]:
        """The trials that have a score."""
        pairs = zip(self.dataset.trials, self.files, strict=True)
        return [(trial, file) for trial, file in pairs if file.score is not None]

    @property
    def failed(self) -> list[tuple[Trial, ScoredFile]]:
        """The trials that could not be scored."""
        pairs = zip(self.dataset.trials, self.files, strict=True)
        return [(trial, file) for trial, file in pairs if file.score is None]

    def rows(self) -> list[ScoreRow]:
        """Lines of the score file: `utt attack key score`."""
        return [
            ScoreRow(utterance=t.utterance, attack=t.attack, label=t.label, score=f.score)
            for t, f in self.scored
            if f.score is not None
        ]

    def table(self) -> ScoreTable:
        """The scored trials as the metrics take them."""
        trials = [trial for trial, _ in self.scored]
        return ScoreTable(
            utterances=tuple(t.utterance for t in trials),
            scores=np.array([f.score for _, f in self.scored], dtype=np.float64),
            is_bonafide=np.array([t.label == "bonafide" for t in trials], dtype=np.bool_),
            attacks=tuple(t.attack for t in trials),
            speakers=speaker_column(trials),
            conditions=condition_columns(trials),
        )


def evaluate(
    engine: Engine,
    dataset: Dataset,
    *,
    batch: int = DEFAULT_BATCH,
    on_file: Callable[[ScoredFile], None] | None = None,
    journal: Path | None = None,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    decoders: Decoders | None = None,
    decode_workers: int = DECODE_WORKERS,
    on_resumed: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Score all trials of a dataset.

    Args:
        engine: Opened model.
        dataset: Its audio must be on disk (`dataset.require_audio()`).
        batch: Windows scored together.
        on_file: Called with each row as it is made, e.g. by a progress bar.
        journal: A file that rows are kept in as they come, so that a run that is cut off can go on.
        resume: Go on with the rows of that file.
        options: Further options that may change scores; a run is resumed with equal ones only.
        decoders: Who decodes; threads of this process unless given.
        decode_workers: Files decoded at the same time.
        on_resumed: Called once with the number of trials that are in the journal already.

    Raises:
        TrialsError: audio is missing on disk; nothing is scored then.
        UsageError: the journal is of another run, or audio has changed since.
        OutputError: the journal cannot be written.
    """
    dataset.require_audio()
    scorer = LocalScorer(engine, decoders or InThreads(), decode_workers)
    keep = on_file or (lambda _: None)
    start, n_before = time.perf_counter(), 0
    files: list[ScoredFile] = []
    if journal is not None:
        files, n_before = score_trials(
            scorer,
            dataset,
            journal,
            batch=batch,
            options=options,
            resume=resume,
            on_row=keep,
            on_resumed=on_resumed,
        )
    else:
        sources = (AudioInput(trial.path) for trial in dataset.trials)
        for group in scorer.groups(sources, rule=FIRST, batch=batch):
            for file in group:
                files.append(file)
                keep(file)
    seconds = time.perf_counter() - start
    return Evaluation(dataset=dataset, files=tuple(files), seconds=seconds, n_resumed=n_before)


def metrics_of(
    evaluation: Evaluation, compat: Compat = "corrected", bootstrap: Bootstrap | None = None
) -> MetricsSummary:
    """The metrics of an evaluation, with the ASV scores that belong to its split.

    Args:
        evaluation: One or more scored trials of each class.
        compat: Arithmetic of the metrics.
        bootstrap: How to make confidence intervals; none unless given.

    Raises:
        MetricError: a class has no scored trial, or speakers are to be resampled that the dataset
            does not name.
    """
    table = evaluation.table()
    if len(table.utterances) == 0:
        raise MetricError(
            f"None of the {len(evaluation.files)} trials could be scored; first error: "
            f"{evaluation.failed[0][1].error}"
        )
    return summarize(
        table,
        asv_of(evaluation.dataset),
        compat=compat,
        conditions=table.conditions,
        bootstrap=bootstrap,
        speakers=table.speakers if bootstrap and bootstrap.unit == "speaker" else None,
    )


def asv_of(dataset: Dataset) -> AsvScores | FixedAsvRates | None:
    """The speaker verification system of a dataset's t-DCF: its scores, fixed rates, or none.

    Raises:
        ScoresError: the ASV scores that lie beside the dataset cannot be read.
    """
    if dataset.metrics == "asvspoof5-t2":
        return ASVSPOOF5_ASV
    if dataset.asv_scores is None:
        return None
    if dataset.asv_key is None:
        return read_asv_scores(dataset.asv_scores)
    return read_asv_scores_2021(dataset.asv_scores, dataset.asv_key, dataset.split)


def report_of(
    evaluation: Evaluation, summary: MetricsSummary, engine: Engine, command: str
) -> dict[str, Any]:
    """The mapping of report.json (docs/report-json.md)."""
    dataset, files = evaluation.dataset, evaluation.files
    root = _common_folder(dataset)
    return {
        "schema": REPORT_SCHEMA,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command,
        **summary.to_dict(),
        "dataset": {
            "name": dataset.name,
            "split": dataset.split,
            "metrics": dataset.metrics,
            "root": None if root is None else str(root),
            "protocol": str(dataset.protocol),
            "asv_scores": None if dataset.asv_scores is None else str(dataset.asv_scores),
            "n_trials": len(dataset.trials),
        },
        "model": engine.contract.to_dict(),
        "backend": {"name": engine.backend, "device": engine.device, "details": {}},
        "timing": {
            "seconds": evaluation.seconds,
            "trials_per_second": (len(files) - evaluation.n_resumed) / evaluation.seconds,
            "n_resumed": evaluation.n_resumed,
            "audio_seconds": sum(f.seconds or 0.0 for f in files),
        },
        "audio": {
            "n_second_decoder": sum(f.second_decoder for f in files),
            "n_resampled": sum(f.resampled for f in files),
            "n_tiled": sum(f.tiled for f in files),
            "n_cut": sum(f.cut for f in files),
        },
        "decoding": [
            {
                "utterance": trial.utterance,
                "path": str(file.path),
                "second_decoder": file.second_decoder,
                "note": file.note,
            }
            for trial, file in evaluation.scored
            if file.second_decoder or file.note
        ],
        "failures": [
            {"utterance": trial.utterance, "path": str(file.path), "error": file.error}
            for trial, file in evaluation.failed
        ],
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """Name -> version of what a result may depend on."""
    from aasist_deploy import __version__

    found = {
        "aasist_deploy": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }
    for name in _RUNTIME_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _common_folder(dataset: Dataset) -> Path | None:
    """The folder that the protocol and all audio share, as they are named; None if only the root.

    Links are not followed: audio that is linked into the folder of its protocol lies there.
    """
    folder = Path(os.path.abspath(dataset.protocol)).parent  # noqa: PTH100  # resolve() follows
    for parent in {os.path.dirname(trial.path) for trial in dataset.trials}:  # noqa: PTH120
        audio = Path(os.path.abspath(parent))  # noqa: PTH100
        while folder != audio and folder not in audio.parents and folder != folder.parent:
            folder = folder.parent
    return None if folder == folder.parent else folder
