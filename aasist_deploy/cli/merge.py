"""`aasist-deploy merge`: the outputs of all shards as one."""

from dataclasses import asdict
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr
from aasist_deploy.pipeline.merge import merge_shards


def merge(
    shards: Annotated[
        list[Path],
        typer.Argument(
            metavar="SHARD...",
            exists=True,
            dir_okay=False,
            help="Outputs of `score --shard i/n`, all n of them, with their journals beside them.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    json_: JsonOption = False,
) -> None:
    """Put the outputs of all shards of a run together, in the order of its inputs.

    Checked first: that all shards are there, once, finished and unchanged, and of the same model,
    inputs, options and versions.

    \b
    Example:
      aasist-deploy merge part-*.csv -o scores.csv
    """  # noqa: D301  # \b keeps the lines of the example
    merged = merge_shards(shards, output)
    if json_:
        print_json({"output": str(output), **asdict(merged)})
    else:
        stderr.print(
            f"{output}: {merged.n_inputs} rows of {merged.n_shards} shards, {merged.n_failed} "
            "without a score",
            markup=False,
        )
