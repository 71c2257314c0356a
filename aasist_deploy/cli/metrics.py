"""`aasist-deploy metrics`: error rates of a score file."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.tables import summary_table
from aasist_deploy.metrics import Compat, summarize
from aasist_deploy.scores import read_asv_scores, read_scores
from aasist_deploy.trials import parse_protocol_2019


def metrics(
    scores: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Score file, may be gzip-compressed: ASVspoof text of 2 to 6 columns, or CSV or "
            "JSONL from the verb score. Higher means more bona fide.",
        ),
    ],
    protocol: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="ASVspoof 2019 protocol, for score files that have no bonafide|spoof column.",
        ),
    ] = None,
    asv_scores: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="ASV scores of the same split; without them there is no min t-DCF.",
        ),
    ] = None,
    compat: Annotated[
        Compat,
        typer.Option(
            help="corrected treats equal scores as one; official repeats the arithmetic of the "
            "ASVspoof 2019 package, ties and all, to compare with published figures."
        ),
    ] = "corrected",
    negate: Annotated[
        bool, typer.Option("--negate", help="Use the negated scores, for files with spoof high.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Compute EER and min t-DCF (2019) of a score file, pooled and for each attack.

    \b
    Example:
      aasist-deploy metrics scores.txt --protocol LA.cm.eval.trl.txt
      aasist-deploy metrics scores.txt --asv-scores LA.asv.eval.gi.trl.scores.txt
    """  # noqa: D301  # \b is a real backspace: typer then keeps the lines of the example
    truth = None if protocol is None else parse_protocol_2019(protocol)
    table = read_scores(scores, truth)
    asv = None if asv_scores is None else read_asv_scores(asv_scores)
    summary = summarize(table.negated() if negate else table, asv, compat=compat)
    if summary.polarity.message:
        advice = "Leave out --negate." if negate else "Pass --negate if spoof is high in this file."
        stderr.print(f"warning: {summary.polarity.message} {advice}", style="yellow", markup=False)
    if json_:
        print_json({"scores": str(scores), "negated": negate, **summary.to_dict()})
    else:
        note = ", scores negated" if negate else ""
        stdout.print(summary_table(summary, f"{scores.name}, {summary.compat}{note}"))
