"""`aasist-deploy calibrate`: scores to log-likelihood ratios, with thresholds, into a model."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from aasist_deploy.calibration import (
    CONFIDENCE,
    CalibrationResult,
    Measured,
    OperatingPoint,
    calibrate,
)
from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.contract import ModelContract, read_contract, write_contract
from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.metrics.dcf import DetectionCosts
from aasist_deploy.scores import ScoreTable, read_scores
from aasist_deploy.trials import read_key

_MAX_COST = 1e9  # infinite costs have no threshold

ProtocolOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Protocol or key of SCORES, where they have no bonafide|spoof column.",
    ),
]
PriorOption = Annotated[
    float,
    typer.Option(help="How likely spoof is, for the Bayes threshold and DCF; as in ASVspoof 5."),
]
CostMissOption = Annotated[
    float, typer.Option(max=_MAX_COST, help="Cost of rejecting bona fide; as in ASVspoof 5.")
]
CostFaOption = Annotated[
    float, typer.Option(max=_MAX_COST, help="Cost of accepting spoof; as in ASVspoof 5.")
]


def calibrate_(
    scores: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Scores of development trials, in any layout that the verb metrics reads.",
        ),
    ],
    protocol: ProtocolOption = None,
    held: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Scores of other trials, to measure the result on."
        ),
    ] = None,
    held_protocol: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The same for --held.")
    ] = None,
    prior_spoof: PriorOption = 0.05,
    cost_miss: CostMissOption = 1.0,
    cost_fa: CostFaOption = 10.0,
    far: Annotated[
        list[float] | None,
        typer.Option(help="Also a threshold for this share of spoof accepted; may be repeated."),
    ] = None,
    miss: Annotated[
        list[float] | None,
        typer.Option(help="Also a threshold for this share of bona fide rejected; likewise."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Exported file that made the scores."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Calibrated copy of the model to write.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Write into the model file itself.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Fit score -> log-likelihood ratio on labelled scores, set thresholds, store both in a model.

    The graph of the model is not touched. With --held, nothing is stored when the calibration makes
    Cllr worse there, and the exit code is then 1.

    \b
    Example:
      aasist-deploy calibrate dev.txt --held eval.txt --far 0.01
      aasist-deploy calibrate dev.txt --model aasist.onnx -o calibrated.onnx
    """  # noqa: D301  # \b keeps the lines of the example
    place = _place(model, output, in_place=in_place)
    result = calibrate(
        _read(scores, protocol),
        None if held is None else _read(held, held_protocol),
        costs=DetectionCosts(p_spoof=prior_spoof, cost_miss=cost_miss, cost_fa=cost_fa),
        false_alarm_rates=far or (),
        miss_rates=miss or (),
        scores_sha256=sha256(scores.read_bytes()).hexdigest(),
    )
    stored = model is not None and place is not None and result.holds
    if model is not None and place is not None and stored:
        _store(result, model, place, scores)
    if json_:
        print_json(
            {
                "scores": str(scores),
                "held_scores": None if held is None else str(held),
                "output": str(place) if stored else None,
                **result.to_dict(),
            }
        )
    else:
        _render(result)
        if stored:
            stdout.print(f"written: {place}", markup=False)
    for note in result.notes:
        stderr.print(f"note: {note}", style="yellow", markup=False)
    if not result.holds:
        raise CheckFailed(
            "The calibration makes Cllr worse on the held trials"
            + ("." if model is None else f"; {place} was not written."),
            fix="fit on trials like those to come (attacks, channels, loudness)",
        )


def _read(scores: Path, protocol: Path | None) -> ScoreTable:
    return read_scores(scores, None if protocol is None else read_key(protocol))


def _place(model: Path | None, output: Path | None, *, in_place: bool) -> Path | None:
    """Where the calibrated model goes; the options are checked before anything is computed."""
    if model is None:
        if output is not None or in_place:
            raise UsageError(
                "There is no model to store the calibration in.", fix="add --model model.onnx"
            )
        return None
    if (output is not None) == in_place:
        raise UsageError(
            f"--model {model} needs one of -o and --in-place.", fix="-o calibrated.onnx"
        )
    if output is not None and output.exists() and output.samefile(model):
        raise UsageError(f"-o {output} is the model itself.", fix="say so with --in-place")
    return output or model


def _store(result: CalibrationResult, model: Path, place: Path, scores: Path) -> None:
    contract, file = read_contract(model, stream=None)
    _check_made_by(contract, model, scores)
    calibrated = replace(
        contract, calibration=result.calibration.to_dict(), thresholds=result.thresholds
    )
    write_contract(calibrated, file, place)


def _check_made_by(contract: ModelContract, model: Path, scores: Path) -> None:
    """Refuse scores that `eval` made with another checkpoint; report.json beside them says so."""
    report = scores.with_name("report.json")
    if scores.name != "scores.txt" or not report.is_file():
        return
    try:
        content: Any = json.loads(report.read_text(encoding="utf-8"))
        made_by = content["model"]["checkpoint_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # not a report of ours: nothing is known
    if made_by != contract.checkpoint_sha256:
        raise UsageError(
            f"{scores} was made by the checkpoint {str(made_by)[:12]} ({report}); {model} holds "
            f"{contract.checkpoint_sha256[:12]}.",
            fix="calibrate each model on its own scores",
        )


def _render(result: CalibrationResult) -> None:
    calibration = result.calibration
    stdout.print(
        f"LLR = {calibration.scale:.6g} * score + {calibration.offset:.6g}"
        f"   ({calibration.n_bonafide} bona fide, {calibration.n_spoof} spoof)",
        markup=False,
    )
    figures = Table()
    figures.add_column("trials")
    for header in ("EER %", "Cllr", "min Cllr", "actDCF", "minDCF"):
        figures.add_column(header, justify="right")
    for which, measured in _sets(result):
        for when, of in (("before", measured.before), ("after", measured.after)):
            numbers = (of.cllr, of.min_cllr, of.act_dcf, of.min_dcf)
            figures.add_row(
                f"{which}, {when}", f"{of.eer * 100:.4f}", *(f"{n:.4f}" for n in numbers)
            )
    stdout.print(figures)
    costs = result.costs
    points = Table(
        caption=f"bayes: prior of spoof {costs.p_spoof:g}, a miss costs {costs.cost_miss:g} and a "
        f"false alarm {costs.cost_fa:g}. < is an upper bound at {CONFIDENCE:.0%}.",
        caption_justify="left",
    )
    points.add_column("threshold")
    for header in ("score", "LLR", "trials", "bona fide\nrejected", "spoof\naccepted"):
        points.add_column(header, justify="right")
    for which, measured in _sets(result):
        for point in measured.points:
            points.add_row(Text(point.name.partition("(prior_")[0]), *_cells(point, which))
    stdout.print(points)


def _sets(result: CalibrationResult) -> list[tuple[str, Measured]]:
    held = [] if result.held is None else [("held", result.held)]
    return [("fit", result.fit), *held]


def _cells(point: OperatingPoint, which: str) -> tuple[str, ...]:
    """Counts, not rates: with the bound they say how much the trials can show."""
    return (
        f"{point.threshold:.4f}",
        f"{point.llr:.4f}",
        which,
        f"{point.n_misses}/{point.n_bonafide} <{point.miss_bound:.2%}",
        f"{point.n_false_alarms}/{point.n_spoof} <{point.false_alarm_bound:.2%}",
    )
