"""`aasist-deploy eval`: score a labelled dataset and report the error rates."""

import json
import shlex
import sys
from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr, stdout
from aasist_deploy.cli.engine_options import (
    BackendOption,
    BatchOption,
    CodeOption,
    DeviceOption,
    EngineChoice,
    HintOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
)
from aasist_deploy.cli.options import DatasetOption, DatasetRootOption, OptionalModelArgument
from aasist_deploy.cli.project import FILE_NAME, asked_dataset, load_project, needed
from aasist_deploy.cli.score_options import decoders_for, saying_how_to_go_on
from aasist_deploy.cli.tables import metrics_table, summary_table
from aasist_deploy.engines import Engine, open_engine
from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.evaluate import Evaluation, evaluate, metrics_of, report_of
from aasist_deploy.metrics import Bootstrap, Compat, MetricsSummary, Unit
from aasist_deploy.pipeline import best_batch, window_rule
from aasist_deploy.report import N_BOOTSTRAP, write_report
from aasist_deploy.resolve import model_file
from aasist_deploy.scores import speaker_column, write_scores_txt
from aasist_deploy.trials import Dataset

if TYPE_CHECKING:
    from rich.table import Table

_DEFAULT_COMPAT: Compat = "corrected"
ROWS = "rows.jsonl"  # of all trials, as they come; what --resume goes on with


def eval_(
    model: OptionalModelArgument = None,
    dataset: DatasetOption = None,
    root: DatasetRootOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, dev or eval; for asvspoof2021 eval, progress, hidden or all. Default: "
            "eval, or all for in-the-wild and a manifest."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.txt, report.json and report.html.")
    ] = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
    batch: BatchOption = None,
    compat: Annotated[
        Compat | None,
        typer.Option(help="Arithmetic of the metrics: corrected (default) or official."),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            help="Resamples for confidence intervals. Default: 1000, little beside scoring; "
            "0: none.",
        ),
    ] = N_BOOTSTRAP,
    by: Annotated[
        Unit,
        typer.Option(
            help="What a resample draws: utterance, or speaker with all of their trials (wider, "
            "and the honest one for new speakers)."
        ),
    ] = "utterance",
    players: Annotated[
        int,
        typer.Option(
            min=0,
            max=50,
            help="Embed the audio of so many of the hardest trials in report.html; off by default, "
            "for the page then holds recordings of people.",
        ),
    ] = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where the evaluation that wrote this folder ended, whatever ended it. One "
            "that is not there yet is begun.",
        ),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Score all trials of a dataset; write scores.txt, report.json and report.html.

    Everything that is left out is taken from aasist-deploy.toml in this folder or above. What was
    scored when a run is stopped is kept, and --resume goes on from there.

    \b
    Example:
      aasist-deploy eval aasist --dataset asvspoof2019-la --root LA --split eval --out results
      aasist-deploy eval aasist --dataset in-the-wild --root ITW --out results --resume
    """  # noqa: D301  # \b keeps the lines of the example
    project = load_project()
    model = needed("MODEL", model or project.model)
    trials = asked_dataset(project, dataset, root, split)
    trials.require_audio()
    if bootstrap and by == "speaker" and speaker_column(trials.trials) is None:
        raise UsageError(
            f"--by speaker needs the speaker of each trial, and {trials.protocol} does not name "
            "them all.",
            fix="leave out --by, which resamples by utterance, or name the speakers there",
        )
    folder = out or Path(project.out or "results")
    _make_folder(folder)
    asked = EngineChoice(
        backend=backend,
        threads=threads,
        precision=precision,
        hint=hint,
        provider=provider,
        device=device,
        code=code,
    ).or_of(project)
    path = model_file(model, asked.backend)
    way = asked.opening(path)
    arithmetic: Compat = compat or _compat_of(project.compat)
    with open_engine(path, asked.backend, **way.options) as engine:
        stderr.print(
            f"{len(trials.trials)} trials of {trials.name} on {way.says(engine.device)}; "
            f"window: {window_rule(engine.contract)}",
            style="dim",
            markup=False,
        )
        evaluation = _evaluate(
            engine,
            trials,
            batch or project.batch or best_batch(engine),
            folder / ROWS,
            resume=resume,
            options=way.of_rows(),
        )
        write_scores_txt(folder / "scores.txt", evaluation.rows())
        how = Bootstrap(n=bootstrap, unit=by) if bootstrap else None
        summary = metrics_of(evaluation, arithmetic, how)
        report = report_of(
            evaluation, summary, engine, shlex.join(["aasist-deploy", *sys.argv[1:]])
        )
    table = evaluation.table()
    assert table.is_bonafide is not None
    assert table.attacks is not None
    written, page = write_report(
        report,
        scores=table.scores,
        is_bonafide=table.is_bonafide,
        attacks=table.attacks,
        utterances=table.utterances,
        out_dir=folder,
        conditions=table.conditions,
        paths=[trial.path for trial, _ in evaluation.scored],
        players=players,
    )
    _render(evaluation, summary, written, page, json_=json_)


def _evaluate(
    engine: Engine,
    trials: Dataset,
    batch: int,
    rows: Path,
    *,
    resume: bool,
    options: dict[str, str],
) -> Evaluation:
    total = len(trials.trials)
    with (
        saying_how_to_go_on(rows),
        decoders_for(total, None, None) as (decoders, n_workers),
        progress_bar("scoring", total) as progress,
    ):
        (task,) = progress.task_ids

        def show_resumed(n_done: int) -> None:
            progress.advance(task, n_done)
            if n_done:
                stderr.print(f"resumed: {n_done} trials are scored already", markup=False)

        return evaluate(
            engine,
            trials,
            batch=batch,
            on_file=lambda _: progress.advance(task),
            journal=rows,
            resume=resume,
            options=options,
            decoders=decoders,
            decode_workers=n_workers,
            on_resumed=show_resumed,
        )


def _render(
    evaluation: Evaluation,
    summary: MetricsSummary,
    written: Path,
    page: Path,
    *,
    json_: bool,
) -> None:
    if summary.polarity.message:
        stderr.print(f"warning: {summary.polarity.message}", style="yellow", markup=False)
    for trial, file in evaluation.failed:
        stderr.print(f"error: {trial.utterance}: {file.error}", style="red", markup=False)
    if json_:
        print_json(json.loads(written.read_text(encoding="utf-8")))
    else:
        table: Table = summary_table(summary, evaluation.dataset.name)
        stdout.print(table)
        stdout.print(metrics_table(summary))
        n_second = sum(file.second_decoder for file in evaluation.files)
        if n_second:
            stdout.print(f"{n_second} files went through the second decoder", markup=False)
        stdout.print(f"report: {page}", markup=False)
    if evaluation.failed:
        stderr.print(
            f"{len(evaluation.failed)} of {len(evaluation.files)} trials could not be scored; the "
            f"figures are without them.",
            markup=False,
        )
        raise typer.Exit(1)


def _compat_of(text: str | None) -> Compat:
    if text in (None, "corrected"):
        return _DEFAULT_COMPAT
    if text == "official":
        return "official"
    raise UsageError(f"{FILE_NAME}: compat is '{text}'; it must be corrected or official.")


def _make_folder(folder: Path) -> None:
    """Make the output folder, and find out now rather than after scoring that it is read-only."""
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written: {error.strerror or error}.",
            fix="choose another place with --out",
        ) from error
