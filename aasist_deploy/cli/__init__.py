"""The command line: each verb is one file here, and does parse -> one call -> render."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aasist_deploy.cli.bench import bench
from aasist_deploy.cli.calibrate import calibrate_
from aasist_deploy.cli.common import configure_logging, print_error
from aasist_deploy.cli.convert import convert
from aasist_deploy.cli.data import data_app
from aasist_deploy.cli.doctor import doctor
from aasist_deploy.cli.eval import eval_
from aasist_deploy.cli.export import export
from aasist_deploy.cli.fuse import fuse
from aasist_deploy.cli.inspect import inspect
from aasist_deploy.cli.merge import merge
from aasist_deploy.cli.metrics import metrics
from aasist_deploy.cli.parity import parity
from aasist_deploy.cli.pull import pull
from aasist_deploy.cli.report import report
from aasist_deploy.cli.robustness import robustness
from aasist_deploy.cli.scan import scan
from aasist_deploy.cli.score import score
from aasist_deploy.cli.serve import serve
from aasist_deploy.cli.stream import stream
from aasist_deploy.cli.train import train
from aasist_deploy.errors import AasistDeployError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Deploy AASIST speech anti-spoofing models: export once, score the same everywhere.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from aasist_deploy import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _global_options(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Show the log; -vv: all, with that of other libraries.",
        ),
    ] = 0,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, for a bug report.")
    ] = False,
    version: Annotated[  # noqa: ARG001  # handled by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    configure_logging(verbose)
    _state["debug"] = debug


_state = {"debug": False}

_VERBS: dict[str, Callable[..., None]] = {
    "pull": pull,
    "train": train,
    "export": export,
    "score": score,
    "scan": scan,
    "stream": stream,
    "serve": serve,
    "merge": merge,
    "eval": eval_,
    "metrics": metrics,
    "calibrate": calibrate_,
    "fuse": fuse,
    "convert": convert,
    "parity": parity,
    "bench": bench,
    "report": report,
    "robustness": robustness,
    "inspect": inspect,
    "doctor": doctor,
}
for name, verb in _VERBS.items():
    app.command(name)(verb)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    # A file name need not be UTF-8; it is printed as the bytes it has.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        app()
    except AasistDeployError as error:
        if _state["debug"]:
            raise
        print_error(error)
        sys.exit(error.exit_code)
