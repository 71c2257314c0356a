"""`aasist-deploy score`: one row for each audio file."""

from contextlib import ExitStack
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import progress_bar, stderr
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
from aasist_deploy.cli.options import ModelArgument
from aasist_deploy.cli.project import load_project
from aasist_deploy.cli.score_options import (
    AggregateOption,
    DecodeInOption,
    DecodeWorkersOption,
    EngineOption,
    HopOption,
    ListOption,
    OnErrorOption,
    RayAddressOption,
    ResumeOption,
    RootOption,
    ScorersOption,
    ShardOption,
    WindowScoresOption,
    WindowsOption,
    decoders_for,
    list_inputs,
    ray_scorer,
    refuse_combinations,
    refuse_local,
    saying_how_to_go_on,
    window_rule_of,
)
from aasist_deploy.engines import open_engine
from aasist_deploy.inputs import NamedInputs
from aasist_deploy.pipeline import LocalScorer, ScoredFile, Scorer, window_rule
from aasist_deploy.pipeline.run import Plan, Shard, score_inputs
from aasist_deploy.resolve import model_file
from aasist_deploy.scores import RowFormat, format_of


def score(
    model: ModelArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Audio files, folders, globs, lists of paths (.txt, .lst, @FILE), - for a list on "
            "stdin, tar archives, Parquet files, addresses (s3://, gs://, https://). With --root: "
            "protocols.",
        ),
    ] = None,
    list_: ListOption = None,
    root: RootOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. Default: stdout.")
    ] = None,
    format_: Annotated[
        RowFormat | None,
        typer.Option("--format", help="Default: by the suffix of the output, csv on stdout."),
    ] = None,
    resume: ResumeOption = False,
    shard: ShardOption = None,
    on_error: OnErrorOption = "report",
    windows: WindowsOption = "first",
    hop: HopOption = None,
    aggregate: AggregateOption = "mean",
    window_scores: WindowScoresOption = False,
    decode_workers: DecodeWorkersOption = None,
    decode_in: DecodeInOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    scorers: ScorersOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
    batch: BatchOption = None,
) -> None:
    """Score audio files: higher means more likely bona fide (human), lower spoofed.

    Any sample rate and channel count is taken. A file that cannot be scored becomes a row with its
    error, and the exit code is then 1. A run that was stopped goes on with --resume.

    \b
    Example:
      aasist-deploy score aasist calls/ -o scores.csv
      aasist-deploy score aasist calls/ -o scores.csv --resume
      aasist-deploy score aasist shards/*.tar -o part-2.csv --shard 2/8
      aasist-deploy score aasist ASVspoof2019.LA.cm.eval.trl.txt --root flac/ -o scores.csv
      aasist-deploy score aasist s3://bucket/calls/ -o scores.csv --engine ray --ray-address auto
      find . -name '*.wav' | aasist-deploy score model.onnx - --format jsonl
    """  # noqa: D301  # \b keeps the lines of the example
    project = load_project()
    asked = EngineChoice(
        backend=backend,
        threads=threads,
        precision=precision,
        hint=hint,
        provider=provider,
        device=device,
        code=code,
    ).or_of(project)
    row_format = format_of(output, format_)
    rule = window_rule_of(windows, hop, aggregate)
    part = Shard.parse(shard) if shard else Shard()
    if engine == "local":
        refuse_local(ray_address, scorers)
    refuse_combinations(
        output, row_format, resume=resume, sharded=shard is not None, window_scores=window_scores
    )
    with NamedInputs(list_inputs(inputs, list_, root), root=root) as named:
        path = model_file(model, asked.backend)
        way = asked.opening(path)
        total = None if named.n_files is None else part.n_of(named.n_files)
        with ExitStack() as stack:
            stack.enter_context(saying_how_to_go_on(output))
            scorer: Scorer
            if engine == "ray":
                cluster = ray_scorer(
                    path,
                    way.backend,
                    way.options,
                    address=ray_address,
                    scorers=scorers,
                    decode_tasks=decode_workers,
                )
                scorer = stack.enter_context(cluster)
            else:
                where = decoders_for(total, decode_workers, decode_in)
                decoders, n_workers = stack.enter_context(where)
                opened = stack.enter_context(open_engine(path, asked.backend, **way.options))
                scorer = LocalScorer(opened, decoders, n_workers)
            progress = stack.enter_context(progress_bar("scoring", total))
            stderr.print(
                f"backend: {way.says(scorer.device)}; window: {window_rule(scorer.contract, rule)}",
                style="dim",
                markup=False,
            )
            plan = Plan(
                row_format=row_format,
                rule=rule,
                window_scores=window_scores,
                batch=batch or project.batch or scorer.best_batch,
                shard=part,
                inputs=named.digest,
                options=way.of_rows(),
            )
            (task,) = progress.task_ids

            def show(row: ScoredFile) -> None:
                progress.advance(task)
                if row.error is not None:
                    stderr.print(f"error: {row.error}", style="red", markup=False)

            def show_resumed(n_done: int) -> None:
                progress.advance(task, n_done)
                if n_done:
                    stderr.print(f"resumed: {n_done} rows are there already", markup=False)

            done = score_inputs(
                scorer,
                named,
                output,
                plan,
                resume=resume,
                on_error=on_error,
                on_row=show,
                on_resumed=show_resumed,
            )
    if done.n_failed:
        stderr.print(f"{done.n_failed} of {done.n_inputs} files could not be scored.", markup=False)
        raise typer.Exit(1)
