"""`aasist-deploy convert`: a score file in another layout."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Literal

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stdout
from aasist_deploy.cli.options import refuse_overwriting
from aasist_deploy.errors import UsageError
from aasist_deploy.scores import Conversion, ScoreLayout, convert_sasv_scores, convert_scores
from aasist_deploy.trials import read_key


def convert(
    scores: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Score file in any known layout, may be gzip-compressed or alone in a zip.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    to: Annotated[
        Literal["2019", "2021", "asvspoof5-t1", "asvspoof5-t2", "csv", "jsonl"],
        typer.Option(
            help="2019: utterance attack key score. 2021: utterance score. asvspoof5-t1 and -t2: "
            "submissions; t2 takes track 2 scores. csv and jsonl: utterance, attack, key, score."
        ),
    ],
    protocol: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Protocol or key of the split: the output has its order and exactly its "
            "utterances. Needed for asvspoof5-t1 and -t2, and for 2019 when the scores have no "
            "keys.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write a score file in another layout, every score to the last bit.

    \b
    Example:
      aasist-deploy convert scores.txt -o score.tsv --to asvspoof5-t1 --protocol ASVspoof5.eval.track_1.tsv
      aasist-deploy convert scores.csv -o scores.txt --to 2019 --protocol LA.cm.eval.trl.txt
    """  # noqa: D301, E501  # \b keeps the lines of the example
    refuse_overwriting(output, [scores, *([protocol] if protocol else [])])
    done = _converted(scores, output, to, protocol)
    if json_:
        print_json(
            {
                "output": str(done.output),
                "layout": done.layout,
                "n_scores": done.n_scores,
                "has_truth": done.has_truth,
            }
        )
    else:
        stdout.print(f"{done.n_scores} scores: {done.output} ({done.layout})", markup=False)


def _converted(
    scores: Path, output: Path, to: ScoreLayout | Literal["asvspoof5-t2"], protocol: Path | None
) -> Conversion:
    if to != "asvspoof5-t2":
        return convert_scores(scores, output, to, None if protocol is None else read_key(protocol))
    if protocol is None:
        raise UsageError(
            "A submission to ASVspoof 5 lists all pairs in the order of the protocol, and no "
            "protocol is given.",
            fix="give ASVspoof5.dev.track_2.trial.tsv or ASVspoof5.eval.track_2.trial.tsv, or the "
            "key (--protocol)",
        )
    return convert_sasv_scores(scores, output, protocol)
