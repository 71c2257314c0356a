"""`aasist-deploy inspect`: what a model file or a plan says of itself."""

import json
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import JsonOption, print_json, stdout
from aasist_deploy.contract import read_contract
from aasist_deploy.plan_file import read_plan


def inspect(
    model: Annotated[Path, typer.Argument(help="Exported .onnx file, or a TensorRT .plan.")],
    json_: JsonOption = False,
) -> None:
    """Print the contract of a model file, after checking that the file was not altered.

    For a plan it also says what built it and for which GPU; TensorRT is not needed for that.

    \b
    Example:
      aasist-deploy inspect aasist.onnx --json
      aasist-deploy inspect aasist.plan
    """  # noqa: D301  # \b keeps the lines of the example
    rows: dict[str, Any]
    if model.suffix == ".plan":
        plan, content = read_plan(model)
        said = {"path": str(model), "bytes": len(content), **plan.to_dict()}
        rows = {name: value for name, value in plan.to_dict().items() if name != "contract"}
        rows |= {f"contract: {k}": v for k, v in plan.contract.to_dict().items()}
    else:
        contract, file = read_contract(model, stream=None)
        rows = contract.to_dict()
        said = {"path": str(model), "bytes": len(file.content), **rows}
    if json_:
        print_json(said)
        return
    table = Table(title=Text(str(model)), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value if isinstance(value, str) else json.dumps(value)))
    stdout.print(table)
