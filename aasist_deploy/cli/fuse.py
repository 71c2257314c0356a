"""`aasist-deploy fuse`: several systems to one log-likelihood ratio."""

from collections.abc import Sequence
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from aasist_deploy.calibration import (
    Fusion,
    LlrFigures,
    MatchedScores,
    fit_fusion,
    fit_mean,
    llr_figures,
    match_scores,
)
from aasist_deploy.cli.calibrate import (
    CostFaOption,
    CostMissOption,
    PriorOption,
    ProtocolOption,
)
from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.options import refuse_overwriting
from aasist_deploy.errors import MetricError, UsageError
from aasist_deploy.metrics.dcf import DetectionCosts
from aasist_deploy.scores import ScoreRow, read_scores, write_scores_txt
from aasist_deploy.textfile import write_text_atomically
from aasist_deploy.trials import read_key


def fuse(
    scores: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCORES...",
            exists=True,
            dir_okay=False,
            help="Score files of the same trials, one for each system.",
        ),
    ],
    fit: Annotated[
        list[Path],
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Development scores of a system; once for each, in the same order.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Score file of log-likelihood ratios to write.")
    ],
    fit_protocol: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Protocol or key of the --fit files, where they have no bonafide|spoof column.",
        ),
    ] = None,
    protocol: ProtocolOption = None,
    mean: Annotated[
        bool,
        typer.Option(
            "--mean",
            help="Give each calibrated system the same weight, which holds better when the "
            "development trials are few.",
        ),
    ] = False,
    prior_spoof: PriorOption = 0.05,
    cost_miss: CostMissOption = 1.0,
    cost_fa: CostFaOption = 10.0,
    json_: JsonOption = False,
) -> None:
    """Fuse systems by logistic regression fitted on development scores; with one, calibrate it.

    \b
    Example:
      aasist-deploy fuse A.txt B.txt --fit devA.txt --fit devB.txt -o fused.txt
      aasist-deploy fuse A.txt --fit devA.txt -o A.llr.txt
    """  # noqa: D301  # \b keeps the lines of the example
    if len(scores) != len(fit):
        raise UsageError(
            f"There are {len(scores)} score files to fuse and {len(fit)} to fit on.",
            fix="give --fit once for each system, in the same order",
        )
    refuse_overwriting(output, [*scores, *fit])
    costs = DetectionCosts(p_spoof=prior_spoof, cost_miss=cost_miss, cost_fa=cost_fa)
    dev = _matched(fit, fit_protocol)
    if dev.is_bonafide is None:
        raise MetricError(
            f"The truth of the {len(dev.utterances)} trials to fit on is not known.",
            fix="give the protocol of the split that was scored: --fit-protocol",
        )
    trials = _matched(scores, protocol)
    fusion = (fit_mean if mean else fit_fusion)(dev.scores, dev.is_bonafide)
    fused = fusion.llr(trials.scores)
    _write(output, trials, fused)
    figures = {"fit": _figures(dev, fusion, costs), "trials": _figures(trials, fusion, costs)}
    if json_:
        print_json(_as_json(output, scores, fit, fusion, figures))
    else:
        _render({"fit": fit, "trials": scores}, fusion, figures)
        stdout.print(f"written: {output}, {len(fused)} trials", markup=False)
    if (np.array(fusion.weights) < 0).any():
        stderr.print(
            "note: a weight is negative: that system counts by what it shares with another. If "
            "its scores are reversed, turn them round; --mean refuses such a system.",
            style="yellow",
            markup=False,
        )


def _matched(paths: Sequence[Path], protocol: Path | None) -> MatchedScores:
    truth = None if protocol is None else read_key(protocol)
    tables = [read_scores(path, truth) for path in paths]
    return match_scores(tables, [str(path) for path in paths])


def _write(output: Path, trials: MatchedScores, fused: np.ndarray[Any, Any]) -> None:
    """`utterance attack key score`, or without the truth `utterance score`."""
    names = trials.utterances
    if trials.is_bonafide is None:
        pairs = zip(names, fused.tolist(), strict=True)
        write_text_atomically(output, (f"{name} {llr!r}\n" for name, llr in pairs))
        return
    attacks = trials.attacks or ("-",) * len(names)
    rows = zip(names, attacks, trials.is_bonafide.tolist(), fused.tolist(), strict=True)
    write_scores_txt(
        output,
        (
            ScoreRow(
                utterance=name, attack=attack, label="bonafide" if real else "spoof", score=llr
            )
            for name, attack, real, llr in rows
        ),
    )


def _figures(
    trials: MatchedScores, fusion: Fusion, costs: DetectionCosts
) -> tuple[LlrFigures, ...] | None:
    """Of each system as it is, then of the fusion; None without the truth of both classes."""
    truth = trials.is_bonafide
    if truth is None or truth.all() or not truth.any():
        return None
    columns = [*trials.scores.T, fusion.llr(trials.scores)]
    return tuple(llr_figures(column, truth, costs) for column in columns)


def _as_json(
    output: Path,
    scores: Sequence[Path],
    fit: Sequence[Path],
    fusion: Fusion,
    figures: dict[str, tuple[LlrFigures, ...] | None],
) -> dict[str, Any]:
    return {
        "output": str(output),
        "systems": [str(path) for path in scores],
        "fit_systems": [str(path) for path in fit],
        "fusion": fusion.to_dict(),
        "figures": {
            name: None
            if of is None
            else {"systems": [f.to_dict() for f in of[:-1]], "fused": of[-1].to_dict()}
            for name, of in figures.items()
        },
    }


def _render(
    files: dict[str, list[Path]],
    fusion: Fusion,
    figures: dict[str, tuple[LlrFigures, ...] | None],
) -> None:
    table = Table(
        caption=f"fused: the weighted sum of the scores {fusion.offset:+.6g}",
        caption_justify="left",
    )
    table.add_column("trials")
    table.add_column("system", overflow="fold")
    for header in ("weight", "EER %", "Cllr", "min Cllr", "actDCF"):
        table.add_column(header, justify="right")
    weights = [*(f"{weight:.6g}" for weight in fusion.weights), ""]
    for which, of in figures.items():
        names = [*(path.name for path in files[which]), "fused"]
        for name, weight, one in zip(names, weights, of or (), strict=bool(of)):
            numbers = (one.cllr, one.min_cllr, one.act_dcf)
            table.add_row(
                which,
                Text(name),
                weight,
                f"{one.eer * 100:.4f}",
                *(f"{number:.4f}" for number in numbers),
            )
    stdout.print(table)
