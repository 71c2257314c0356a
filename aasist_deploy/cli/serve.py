"""`aasist-deploy serve`: scores over HTTP."""

import os
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path  # typer reads these annotations at run time
from socket import socket
from typing import Annotated, Final

import typer

from aasist_deploy.cli.common import stderr
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
from aasist_deploy.cli.project import load_project
from aasist_deploy.cli.score_options import (
    AggregateOption,
    DecodeIn,
    DecodeWorkersOption,
    HopOption,
    WindowsOption,
    n_decode_workers,
    require_isolation,
    window_rule_of,
)
from aasist_deploy.engines import Engine, open_engine
from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.extras import require_serve_packages
from aasist_deploy.pipeline import DEFAULT_BATCH, InThreads, WindowRule, window_rule
from aasist_deploy.pipeline.isolated import InProcesses
from aasist_deploy.resolve import model_file
from aasist_deploy.serving import Limits

TOKEN_VARIABLE: Final = "AASIST_DEPLOY_TOKEN"  # noqa: S105  # its name
_MIN_TOKEN: Final = 16
_DEFAULT: Final = Limits()


def serve(
    model: Annotated[
        str, typer.Argument(help="Exported .onnx file, plan, checkpoint, or published name.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on. 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="0 takes a free one and says which.")
    ] = 8000,
    windows: WindowsOption = "first",
    hop: HopOption = None,
    aggregate: AggregateOption = "mean",
    batch: Annotated[
        int, typer.Option(min=1, help="Most windows of one call of the model, of all requests.")
    ] = DEFAULT_BATCH,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1_000, help="How long an idle model waits for company.")
    ] = 5.0,
    max_upload_mib: Annotated[
        float, typer.Option(help="Largest body of a request, in MiB; a larger one gets 413.")
    ] = _DEFAULT.max_upload_mib,
    max_seconds: Annotated[
        float, typer.Option(help="Longest file in seconds; a longer one gets 413.")
    ] = _DEFAULT.max_seconds,
    max_files: Annotated[
        int, typer.Option(min=1, help="Most files of one request.")
    ] = _DEFAULT.max_files,
    max_windows: Annotated[
        int, typer.Option(min=1, help="Most windows of one file.")
    ] = _DEFAULT.max_windows,
    timeout: Annotated[
        float, typer.Option(help="Seconds from a request to its answer; later, 504.")
    ] = _DEFAULT.timeout_s,
    queue: Annotated[
        int, typer.Option(min=1, help="Files that are in the server at once; more get 503.")
    ] = _DEFAULT.queue,
    grace: Annotated[
        float, typer.Option(help="Seconds that SIGTERM leaves to what was taken.")
    ] = _DEFAULT.grace_s,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with a token that requests must have; or set {TOKEN_VARIABLE}.",
        ),
    ] = None,
    protect_metrics: Annotated[
        bool, typer.Option("--protect-metrics", help="Ask for the token at /metrics too.")
    ] = False,
    decode_workers: DecodeWorkersOption = None,
    decode_in: Annotated[
        DecodeIn,
        typer.Option(
            help="Where uploads are decoded. In processes, an upload that crashes a decoder costs "
            "only its answer; in threads it ends the server."
        ),
    ] = "processes",
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
) -> None:
    """Score uploads over HTTP: POST /score, and /healthz, /readyz, /metrics.

    Scores are those of `score`. Windows of several requests share a batch. On SIGTERM new requests
    are refused and those that were taken are finished.

    \b
    Example:
      aasist-deploy serve aasist.onnx --port 8000
      curl -F file=@call.wav http://127.0.0.1:8000/score
      curl --data-binary @call.flac -H 'Content-Type: audio/flac' 'http://127.0.0.1:8000/score?windows=all'
    """  # noqa: D301  # \b keeps the lines of the example
    require_serve_packages()
    project = load_project()
    limits = Limits(
        max_upload_mib=max_upload_mib,
        max_files=min(max_files, queue) if max_files == _DEFAULT.max_files else max_files,
        max_seconds=max_seconds,
        max_windows=max_windows,
        timeout_s=timeout,
        queue=queue,
        grace_s=grace,
    )
    rule = window_rule_of(windows, hop, aggregate)
    token = read_token(token_file)
    if protect_metrics and token is None:
        raise UsageError(
            "--protect-metrics asks for a token, and there is none.", fix="--token-file FILE"
        )
    if decode_in == "processes":
        require_isolation(fix="--decode-in threads, for uploads of people you trust")
    from aasist_deploy.serving.metrics import Metrics
    from aasist_deploy.serving.running import listening_socket, run
    from aasist_deploy.serving.service import Service

    asked = EngineChoice(
        backend=backend,
        threads=threads,
        precision=precision,
        hint=hint,
        provider=provider,
        device=device,
        code=code,
    ).or_of(project)
    with ExitStack() as stack:
        listener = stack.enter_context(listening_socket(host, port))
        path = model_file(model, asked.backend)
        way = asked.opening(path)
        n_decoders = n_decode_workers(decode_workers)
        decoders = (
            InProcesses(n_decoders, silence_s=limits.timeout_s)
            if decode_in == "processes"
            else InThreads()
        )
        stack.callback(decoders.close)
        engine = stack.enter_context(open_engine(path, way.backend, **way.options))
        service = Service(
            engine,
            decoders,
            limits,
            Metrics(_served(engine, rule)),
            rule=rule,
            max_batch=batch,
            max_wait_s=max_wait_ms / 1000,
            n_decoders=n_decoders,
        )
        stack.callback(service.close)
        service.warm_up()

        def say() -> None:
            what = f"{way.says(engine.device)}; window: {window_rule(engine.contract, rule)}"
            stderr.print(f"backend: {what}", style="dim", markup=False)
            _say_where(listener, is_open=token is None)

        n_lost = run(
            service, listener, token=token, protect_metrics=protect_metrics, on_listening=say
        )
    if n_lost:
        raise CheckFailed(
            f"{n_lost} files were not finished within the {grace:g} s of --grace.",
            fix="a longer --grace, or a shorter --timeout",
        )


def _served(engine: Engine, rule: WindowRule) -> dict[str, str]:
    """What the metrics say of the model."""
    return {
        "architecture": engine.contract.architecture,
        "backend": engine.backend,
        "device": engine.device,
        "checkpoint_sha256": engine.contract.checkpoint_sha256,
        "window": rule.name(engine.contract),
    }


def _say_where(listener: socket, *, is_open: bool) -> None:
    """Say the address, and that everybody there may use it where that is so."""
    place, port = listener.getsockname()[:2]
    if is_open and not ip_address(place).is_loopback:
        stderr.print(
            "warning: whoever reaches this address may use the server; --token-file asks for a "
            "token",
            style="yellow",
            markup=False,
        )
    shown = f"[{place}]" if ":" in place else place
    stderr.print(f"listening on http://{shown}:{port}", markup=False)


def read_token(file: Path | None) -> str | None:
    """The token of the file, else of the environment, else None.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    where: Path | str
    if file is not None:
        where = file
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not ASCII"
            raise UsageError(f"The token file {file} cannot be read: {reason}.") from error
    elif TOKEN_VARIABLE in os.environ:
        where, token = TOKEN_VARIABLE, os.environ[TOKEN_VARIABLE].strip()
    else:
        return None
    if len(token) < _MIN_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            f"The token in {where} has {len(token)} characters; it must be one word of at least "
            f"{_MIN_TOKEN} printable ASCII characters.",
            fix="python3 -c 'import secrets; print(secrets.token_urlsafe())' > FILE",
        )
    return token
