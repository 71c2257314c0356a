"""`aasist-deploy pull`: get the weights of a published model."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from aasist_deploy.cli.common import JsonOption, print_json, stderr
from aasist_deploy.published import named, names, pull_from


def pull(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(names())}.")],
    mirror: Annotated[
        str | None,
        typer.Option(
            help="Folder or http(s) address that holds the file, instead of its project's "
            "repository. Default: $AASIST_DEPLOY_MIRROR.",
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Folder to keep the file in. Default: $AASIST_DEPLOY_CACHE, or the user's cache."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch again although the cache has the file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Get the weights of a named model, check their sha256, and print where they are.

    Example: WEIGHTS=$(aasist-deploy pull aasist)
    """
    model = named(name)
    columns = (TextColumn(model.file), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(name, total=model.n_bytes, visible=False)

        def advance(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        got = pull_from(name, mirror=mirror, cache=cache, force=force, on_progress=advance)
    if as_json:
        size = {"sha256": model.sha256, "source": got.source, "bytes": model.n_bytes}
        print_json({"name": name, "path": str(got.path), **size})
    else:
        typer.echo(str(got.path))
