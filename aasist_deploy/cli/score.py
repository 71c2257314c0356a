"""`aasist-deploy score`: one row for each audio file."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.audio import find_audio
from aasist_deploy.cli.common import stderr, tracked
from aasist_deploy.cli.options import (
    BackendOption,
    BatchOption,
    CodeOption,
    DeviceOption,
    HintOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
    opening,
)
from aasist_deploy.cli.project import load_project
from aasist_deploy.engines import open_engine
from aasist_deploy.pipeline import DEFAULT_BATCH, score_files, window_rule
from aasist_deploy.resolve import model_file
from aasist_deploy.scores import RowFormat, format_of, open_rows


def score(
    model: Annotated[
        str, typer.Argument(help="Exported .onnx file, checkpoint, or published name.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Audio files, folders, globs, lists of paths (.txt, .lst, @FILE), or - for a list "
            "on stdin.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. Default: stdout.")
    ] = None,
    format_: Annotated[
        RowFormat | None,
        typer.Option("--format", help="Default: by the suffix of the output, csv on stdout."),
    ] = None,
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
    error, and the exit code is then 1.

    \b
    Example:
      aasist-deploy score aasist calls/ -o scores.csv
      find . -name '*.wav' | aasist-deploy score model.onnx - --format jsonl
    """  # noqa: D301  # \b keeps the lines of the example
    project = load_project()
    backend = backend or project.backend
    row_format = format_of(output, format_)
    paths = list(find_audio(inputs))
    path = model_file(model, backend)
    way = opening(
        path,
        backend,
        threads=threads or project.threads,
        provider=provider,
        device=device,
        code=code,
        precision=precision,
        hint=hint,
    )
    n_failed = 0
    with (
        open_engine(path, backend, **way.options) as engine,
        open_rows(output, row_format, calibrated=engine.contract.calibration is not None) as writer,
    ):
        stderr.print(
            f"backend: {way.says(engine.device)}; window: {window_rule(engine.contract)}",
            style="dim",
            markup=False,
        )
        rows = score_files(engine, paths, batch=batch or project.batch or DEFAULT_BATCH)
        for row in tracked(rows, "scoring", len(paths)):
            writer.write(row)
            if row.error is not None:
                n_failed += 1
                stderr.print(f"error: {row.error}", style="red", markup=False)
    if n_failed:
        stderr.print(f"{n_failed} of {len(paths)} files could not be scored.", markup=False)
        raise typer.Exit(1)
