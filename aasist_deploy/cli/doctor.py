"""`aasist-deploy doctor`: which backends work here, and what each missing one needs."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import JsonOption, print_json, stdout
from aasist_deploy.doctor import examine
from aasist_deploy.evaluate import environment


def doctor(json_: JsonOption = False) -> None:
    """Say which backends work on this machine and what each of the others needs.

    \b
    Example:
      aasist-deploy doctor
    """  # noqa: D301  # \b keeps the lines of the example
    findings = examine()
    versions = environment()
    if json_:
        print_json({"findings": [asdict(f) for f in findings], "environment": versions})
        return
    table = Table(show_header=False)
    for finding in findings:
        sign = Text("works", "green") if finding.works else Text("no", "red")
        table.add_row(Text(finding.name), sign, Text(finding.detail))
    stdout.print(table)
    stdout.print(", ".join(f"{k} {v}" for k, v in versions.items()), markup=False, style="dim")
