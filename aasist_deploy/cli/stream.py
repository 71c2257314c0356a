"""`aasist-deploy stream`: a row for each window of a live stream, as soon as it is complete."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated

import typer

from aasist_deploy.audio import Heard, Item, PcmFormat, device_list
from aasist_deploy.cli.common import print_error, stderr, stdout
from aasist_deploy.cli.engine_options import (
    BackendOption,
    CodeOption,
    DeviceOption,
    EngineChoice,
    HintOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
)
from aasist_deploy.cli.live_view import LiveView
from aasist_deploy.cli.options import OptionalModelArgument
from aasist_deploy.cli.project import load_project
from aasist_deploy.cli.stopping import Stopping
from aasist_deploy.cli.stream_source import StreamSource
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
from aasist_deploy.cli.windows import Asked, open_windows
from aasist_deploy.errors import AudioError, UsageError
from aasist_deploy.streaming.each_window import DEFAULT_BATCH
from aasist_deploy.streaming.output import RowText
from aasist_deploy.streaming.rows import StreamRows, WindowRow
from aasist_deploy.streaming.scan import level_warnings


def stream(
    model: OptionalModelArgument = None,
    source: Annotated[
        str | None,
        typer.Argument(metavar="FILE|-", help="Audio file, or - for a container or PCM on stdin."),
    ] = None,
    hop_frames: HopFramesOption = None,
    hop_s: HopSecondsOption = None,
    window_s: WindowSecondsOption = None,
    threshold: ThresholdOption = None,
    vad: VadOption = False,
    min_speech: MinSpeechOption = DEFAULT_MIN_SPEECH,
    format_: Annotated[
        PcmFormat | None,
        typer.Option("--format", help="stdin is raw PCM of this type, not a container."),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate of raw PCM. Default: 16000.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Channels of raw PCM, interleaved. Default: 1.")
    ] = None,
    stall: Annotated[
        float, typer.Option(min=0.1, help="Say so when nothing comes for so many seconds.")
    ] = 5.0,
    timeout: Annotated[
        float, typer.Option(min=0, help="End when nothing comes for so many seconds; 0: never.")
    ] = 0.0,
    from_microphone: Annotated[
        bool, typer.Option("--microphone", help="Listen to a microphone (extra: microphone).")
    ] = False,
    input_device: Annotated[
        str | None, typer.Option(help="Microphone, by number or part of its name.")
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Show the microphones, and stop.")
    ] = False,
    view: Annotated[
        bool, typer.Option("--view/--no-view", help="Follow the stream on the terminal.")
    ] = True,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
) -> None:
    """Score a stream in sliding windows: one JSON object a window on stdout, at once.

    A gap in the stream is a row with its error, and no window spans it. Ctrl-C ends with
    complete rows.

    \b
    Example:
      ffmpeg -i rtmp://HOST/live -f wav - | aasist-deploy stream aasist -
      arecord -f S16_LE -r 16000 -t raw | aasist-deploy stream aasist - --format s16le
      aasist-deploy stream aasist --microphone --threshold 0
    """  # noqa: D301  # \b keeps the lines of the example
    if list_devices:
        stdout.print(device_list(), markup=False)
        return
    project = load_project()
    origin = StreamSource(
        place=source,
        from_microphone=from_microphone,
        input_device=input_device,
        format=format_,
        rate=rate,
        channels=channels,
        stall_s=stall,
        timeout_s=timeout,
    )
    origin.check_pcm()
    if model is None:
        raise UsageError("MODEL is missing.", fix="aasist-deploy stream aasist FILE")
    origin.check_one()
    asked = Asked(
        model=model,
        hop_frames=hop_frames,
        hop_s=hop_s,
        window_s=window_s,
        batch=project.batch or DEFAULT_BATCH,
        live=True,
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
    heard = Heard()
    with ExitStack() as stack:
        opened = stack.enter_context(open_windows(asked))
        rules = opened.rules(threshold, min_speech)
        rows = StreamRows(lambda _: opened.new_scorer(), rules, opened.meter(vad))
        stop = stack.enter_context(Stopping())
        items = stack.enter_context(origin.open(heard, stop, opened.contract.sample_rate_hz))
        text = row_text("jsonl", rules, path=False, vad=vad)
        opened.say()
        shown = stack.enter_context(LiveView(heard, rules.threshold, enabled=view))
        broke = _follow(items, rows, heard, text, shown, stop)
    _say_ended(broke, rows, heard, stop)
    if stop.requested:
        raise typer.Exit(stop.exit_code)
    if broke is not None:
        raise typer.Exit(1)


def _follow(
    items: Iterator[Item],
    rows: StreamRows,
    heard: Heard,
    text: RowText,
    view: LiveView,
    stop: Stopping,
) -> AudioError | None:
    """Print rows until the stream ends or is ended; return what broke it after its first samples.

    Raises:
        AudioError: it broke before them.
    """

    def show(new: list[WindowRow]) -> None:
        for row in new:
            sys.stdout.write(text.line(row))
        if new:
            sys.stdout.flush()
        view.show(rows.position_s, new)

    broke: AudioError | None = None
    try:
        for item in items:
            show(rows.push(item))
            if stop.requested:
                break
    except AudioError as error:
        if not heard.n_read:
            raise
        broke = error
    show(rows.finish())
    if broke is not None:
        show([WindowRow(start_s=rows.position_s, end_s=None, error=str(broke))])
    return broke


def _say_ended(broke: AudioError | None, rows: StreamRows, heard: Heard, stop: Stopping) -> None:
    why = "stopped" if stop.requested else "the stream ended"
    said = f"{why} after {rows.position_s:.3f} s"
    if rows.unscored_s:
        said += f"; its last {rows.unscored_s:.3f} s are in no window of their own"
    stderr.print(said, style="dim", markup=False)
    for warning in level_warnings(heard):
        stderr.print(warning, markup=False)
    if heard.note is not None:
        stderr.print(f"note: {heard.note}", markup=False)
    if broke is not None:
        print_error(broke)
