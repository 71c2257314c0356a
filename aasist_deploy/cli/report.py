"""`aasist-deploy report`: pages from earlier evaluations, one or several side by side."""

import shlex
import sys
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stdout
from aasist_deploy.errors import UsageError
from aasist_deploy.report import N_BOOTSTRAP, System, read_system, write_comparison, write_page


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Folders that eval wrote: report.json and scores.txt, and robustness.json if any.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            dir_okay=False,
            help="The page. Default: report.html in the folder; for several, comparison.html here.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Names of the systems, separated by commas. Default: the folders'."),
    ] = None,
    allow_different: Annotated[
        bool,
        typer.Option(
            "--allow-different", help="Put systems side by side that were scored on other trials."
        ),
    ] = False,
    players: Annotated[
        int,
        typer.Option(
            min=0,
            max=50,
            help="Embed the audio of so many of the hardest trials; off by default, for the page "
            "then holds recordings of people. One folder only.",
        ),
    ] = 0,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=1,
            help="Resamples of the paired comparison; 1000 give the ends of a 95 % interval to "
            "about a tenth of it.",
        ),
    ] = N_BOOTSTRAP,
    json_: JsonOption = False,
) -> None:
    """Make the page of an evaluation again, or put several systems side by side.

    \b
    Example:
      aasist-deploy report results --players 10
      aasist-deploy report results/aasist results/rawgat -o both.html --labels AASIST,RawGAT-ST
    """  # noqa: D301  # \b keeps the lines of the example
    names = _labels(labels, len(folders))
    systems = [read_system(folder, name) for folder, name in zip(folders, names, strict=True)]
    if len(systems) == 1:
        page = out or folders[0] / "report.html"
        write_page(systems[0], page, players=players)
        _render(dict(systems[0].report), page, systems, json_=json_)
        return
    if players:
        raise UsageError("--players goes with one folder.", fix="make a page for each folder")
    page = out or Path("comparison.html")
    command = shlex.join(["aasist-deploy", *sys.argv[1:]])
    comparison = write_comparison(
        systems, page, command=command, allow_different=allow_different, n_bootstrap=bootstrap
    )
    _render(comparison, page, systems, json_=json_)


def _labels(labels: str | None, n_folders: int) -> list[str | None]:
    if labels is None:
        return [None] * n_folders
    names: list[str | None] = [name.strip() or None for name in labels.split(",")]
    if len(names) != n_folders:
        raise UsageError(f"--labels has {len(names)} names; there are {n_folders} folders.")
    return names


def _render(found: dict[str, object], page: Path, systems: list[System], *, json_: bool) -> None:
    if json_:
        print_json(found)
        return
    for system in systems:
        stdout.print(f"{system.label}: EER {system.report['eer_percent']:.4f} %", markup=False)
    stdout.print(f"report: {page}", markup=False)
