"""`aasist-deploy scan`: long recordings to a row for each window, segments and pictures."""

from contextlib import ExitStack
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any

import typer

from aasist_deploy import __version__
from aasist_deploy.audio import find_audio
from aasist_deploy.cli.common import JsonOption, print_json, stderr
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
from aasist_deploy.cli.scan_output import (
    ScanProgress,
    SegmentFiles,
    StdoutSink,
    check_outputs,
    scan_result,
    show_table,
)
from aasist_deploy.cli.score_options import ListOption, list_inputs
from aasist_deploy.cli.window_options import (
    DEFAULT_MIN_SPEECH,
    HopFramesOption,
    HopSecondsOption,
    MinSpeechOption,
    ThresholdOption,
    VadOption,
    WindowSecondsOption,
    row_text,
)
from aasist_deploy.cli.windows import Asked, WindowModel, open_windows
from aasist_deploy.streaming.each_window import DEFAULT_BATCH
from aasist_deploy.streaming.envelope import Envelope, ScoreCourse
from aasist_deploy.streaming.journal import RowsFile, sha256_of
from aasist_deploy.streaming.output import RowText, window_format
from aasist_deploy.streaming.rows import RowRules
from aasist_deploy.streaming.run import Sink, run_scan
from aasist_deploy.streaming.scan import Recording, ScanRules


def scan(
    model: ModelArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE...]", help="Audio files, folders, globs, lists of paths."),
    ] = None,
    list_: ListOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Rows: OUT.jsonl or OUT.csv. Default: stdout."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that -o holds, to the same bytes.")
    ] = False,
    hop_frames: HopFramesOption = None,
    hop_s: HopSecondsOption = None,
    window_s: WindowSecondsOption = None,
    threshold: ThresholdOption = None,
    segments: Annotated[
        Path | None,
        typer.Option(help="Segments on either side of the threshold: .jsonl or .csv."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The same as an Audacity label file; of one recording.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Scores over the wave: .png, or an .html page.")
    ] = None,
    vad: VadOption = False,
    min_speech: MinSpeechOption = DEFAULT_MIN_SPEECH,
    json_: JsonOption = False,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
    batch: BatchOption = None,
) -> None:
    """Score long recordings in sliding windows, one row a window.

    Memory does not grow with their length. A file that cannot be decoded to its end has a last row
    with the error, and the exit code is then 1.

    \b
    Example:
      aasist-deploy scan aasist call.wav -o call.jsonl --threshold 0 --plot call.html
      aasist-deploy scan aasist archive/ --hop-frames 16 -o archive.csv --resume
    """  # noqa: D301  # \b keeps the lines of the example
    project = load_project()
    row_format = window_format(output)
    paths = list(find_audio(list_inputs(inputs, list_)))
    check_outputs(output, paths, threshold, segments, labels, plot, json_=json_, resume=resume)
    asked = Asked(
        model=model,
        hop_frames=hop_frames,
        hop_s=hop_s,
        window_s=window_s,
        batch=batch or project.batch or DEFAULT_BATCH,
        live=False,
        engine=EngineChoice(
            backend=backend,
            threads=threads,
            precision=precision,
            hint=hint,
            provider=provider,
            device=device,
            code=code,
        ).or_of(project),
    )
    with ExitStack() as stack:
        opened = stack.enter_context(open_windows(asked))
        opened.say()
        rules = scan_rules(opened, opened.rules(threshold, min_speech), vad=vad)
        text = row_text(row_format, rules.rows, path=True, vad=vad)
        sink: Sink = StdoutSink()
        if output is not None:
            run = run_of(opened, rules.rows, text, paths, vad=vad)
            sink = stack.enter_context(RowsFile(output, run, text.header, resume=resume))
        recordings = [
            Recording(
                path,
                envelope=Envelope(rules.sample_rate) if plot else None,
                course=ScoreCourse() if plot else None,
            )
            for path in paths
        ]
        found = stack.enter_context(SegmentFiles(segments, labels))
        with ScanProgress(paths) as progress:
            try:
                run_scan(
                    recordings,
                    rules,
                    sink,
                    text,
                    on_segment=found.add,
                    on_progress=progress.at,
                    on_row=progress.row,
                )
            except KeyboardInterrupt:
                if output is not None:
                    stderr.print(f"stopped; --resume goes on with {output}", markup=False)
                raise
        result = scan_result(opened, rules.rows, recordings, output, vad=vad)
    if plot is not None:
        _write_plot(plot, recordings, result)
    if json_:
        print_json(result)
    else:
        show_table(result)
    if result["n_failed"]:
        raise typer.Exit(1)


def scan_rules(opened: WindowModel, rows: RowRules, *, vad: bool) -> ScanRules:
    """How recordings are scanned with this model."""
    return ScanRules(
        new_scorer=opened.new_scorer,
        new_meter=opened.meter(vad),
        rows=rows,
        sample_rate=opened.contract.sample_rate_hz,
        chunk_samples=opened.chunk_samples,
        restart_every=opened.restart_every,
    )


def run_of(
    opened: WindowModel, rules: RowRules, text: RowText, paths: list[Path], *, vad: bool
) -> dict[str, Any]:
    """All that rows depend on; a run goes on only where this is equal."""
    return {
        "version": __version__,
        "model_sha256": sha256_of(opened.path),
        "backend": opened.backend,
        "device": opened.device,
        "window_samples": opened.window_samples,
        "hop_samples": opened.hop_samples,
        "way": opened.way,
        "batch": opened.batch,
        "restart_every": opened.restart_every,
        "threshold": rules.threshold,
        "vad_min_speech": rules.min_speech if vad else None,
        "columns": list(text.columns),
        "format": text.format,
        "files": [str(path) for path in paths],
    }


def _write_plot(plot: Path, recordings: list[Recording], result: dict[str, Any]) -> None:
    from aasist_deploy.report import write_scan_page, write_scan_png

    write = write_scan_png if plot.suffix == ".png" else write_scan_page
    write(plot, recordings, result)
