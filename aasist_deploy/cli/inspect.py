"""`aasist-deploy inspect`: what a model file says of itself."""

import json
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import JsonOption, print_json, stdout
from aasist_deploy.contract import read_contract


def inspect(
    model: Annotated[Path, typer.Argument(help="Exported .onnx file.")],
    json_: JsonOption = False,
) -> None:
    """Print the contract of a model file, after checking that its graph was not altered.

    \b
    Example:
      aasist-deploy inspect aasist.onnx --json
    """  # noqa: D301  # \b keeps the lines of the example
    contract, file = read_contract(model)
    if json_:
        print_json({"path": str(model), "bytes": len(file.content), **contract.to_dict()})
        return
    table = Table(title=Text(str(model)), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in contract.to_dict().items():
        table.add_row(name, Text(value if isinstance(value, str) else json.dumps(value)))
    stdout.print(table)
