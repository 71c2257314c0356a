"""`aasist-deploy robustness`: what will break before it is in production."""

import math
import shlex
import sys
from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr, stdout
from aasist_deploy.cli.engine_options import (
    BackendOption,
    BatchOption,
    DeviceOption,
    EngineChoice,
    HintOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
)
from aasist_deploy.cli.options import (
    DatasetOption,
    DatasetRootOption,
    OptionalModelArgument,
    names_of,
)
from aasist_deploy.cli.project import asked_dataset, load_project, needed
from aasist_deploy.degradations import FAMILIES, Condition, select
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.pipeline import DEFAULT_BATCH, window_rule
from aasist_deploy.resolve import model_file
from aasist_deploy.robustness import RobustnessLimits, RobustnessReport, balanced, run_into
from aasist_deploy.robustness.files import NAME

if TYPE_CHECKING:
    from aasist_deploy.robustness import ConditionResult


def robustness(
    model: OptionalModelArgument = None,
    dataset: DatasetOption = None,
    root: DatasetRootOption = None,
    split: Annotated[
        str | None,
        typer.Option(help="Part of the dataset, e.g. dev. Default: the one it is evaluated on."),
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help=f"Families ({', '.join(FAMILIES)}) or names of conditions, separated by commas. "
            "Default: all."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Score so many trials, half of each class, evenly spaced."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Decision threshold on the score. Default: that of the clean EER."),
    ] = None,
    max_eer_increase: Annotated[
        float | None,
        typer.Option(help="Percentage points by which no condition may raise the EER."),
    ] = None,
    max_flips: Annotated[
        int | None, typer.Option(min=0, help="Decisions that any one condition may change.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for robustness.json.")] = None,
    seed: Annotated[int, typer.Option(help="Of noise, rooms and babble.")] = 0,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the conditions that this machine has, and stop.")
    ] = False,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    batch: BatchOption = None,
    json_: JsonOption = False,
) -> None:
    """Score a dataset as it is and under gain, codecs, noise, rooms, silence and other starts.

    Says what each condition does to the scores, the decisions and the EER, and writes
    robustness.json. With --max-eer-increase or --max-flips the exit code is 1 when one exceeds it.

    \b
    Example:
      aasist-deploy robustness aasist --dataset asvspoof2019-la --root LA --split dev --limit 200
      aasist-deploy robustness m.onnx --dataset manifest --root clips --conditions gain,codec
    """  # noqa: D301  # \b keeps the lines of the example
    chosen = select(names_of(conditions or ""))
    if list_:
        _print_list(chosen, json_=json_)
        return
    project = load_project()
    everything = asked_dataset(project, dataset, root, split)
    trials = everything if limit is None else balanced(everything, limit)
    trials.require_audio()
    asked = EngineChoice(
        backend=backend,
        threads=threads,
        precision=precision,
        hint=hint,
        provider=provider,
        device=device,
    ).or_of(project)
    path = model_file(needed("MODEL", model or project.model), asked.backend)
    way = asked.opening(path)
    folder = out or Path(project.out or "results")
    for option, value in (("--threshold", threshold), ("--max-eer-increase", max_eer_increase)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{option} is {value}; it must be a finite number.")
    limits = RobustnessLimits(max_eer_increase=max_eer_increase, max_flips=max_flips)
    with (
        open_engine(path, asked.backend, **way.options) as engine,
        progress_bar("scoring", len(trials.trials)) as progress,
    ):
        stderr.print(
            f"{len(trials.trials)} trials of {trials.name}, clean and under {len(chosen)} "
            f"conditions, on {way.says(engine.device)}; window: {window_rule(engine.contract)}",
            style="dim",
            markup=False,
        )
        report, written = run_into(
            folder,
            engine,
            trials,
            chosen,
            command=shlex.join(["aasist-deploy", *sys.argv[1:]]),
            batch=batch or project.batch or DEFAULT_BATCH,
            threshold=threshold,
            seed=seed,
            pool=everything,
            limits=limits,
            on_item=lambda _item: progress.advance(progress.task_ids[0]),
        )
    if json_:
        print_json(written)
    else:
        stdout.print(_table(report))
        stdout.print(_remarks(report), markup=False)
        stdout.print(f"written: {folder / NAME}", markup=False)
    _verdict(report, limits)


def _verdict(report: RobustnessReport, limits: RobustnessLimits) -> None:
    for failure in report.failures:
        stderr.print(
            f"error: {failure['utterance']}, {failure['condition']}: {failure['error']}",
            style="red",
            markup=False,
        )
    breaches = report.breaches(limits)
    if breaches:
        raise CheckFailed(
            f"{len(breaches)} limits do not hold: {'; '.join(breaches)}.",
            fix="train with such audio, keep it away from the model, or accept more",
        )
    if report.n_failed:
        stderr.print(f"{report.n_failed} scores are missing; the figures are without them.")
        raise typer.Exit(1)


def _table(report: RobustnessReport) -> Table:
    """One line for each condition; the worst of each column is red."""
    clean = report.clean
    rate = "no EER" if clean["eer_percent"] is None else f"EER {clean['eer_percent']:.2f} %"
    at = "" if report.threshold is None else f", decisions at {report.threshold:.4g}"
    caption = (
        f"clean: {rate}{at}; {clean['n_bonafide']} bona fide, {clean['n_spoof']} spoof; "
        "drift: score less clean score, mean"
    )
    table = Table(
        caption=Text(caption),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("condition", no_wrap=True)
    for header in ("n", "|drift|", "bona fide", "spoof", "rank r", "flips", "EER %", "change"):
        table.add_column(header, justify="right", no_wrap=True)
    worst, family = report.worst(), ""
    for one in report.conditions:
        if one.family != family:
            family = one.family
            table.add_row(Text(family, style="bold"))
        table.add_row(Text(f" {one.name}"), *_cells(one, worst))
    return table


def _cells(one: "ConditionResult", worst: dict[str, str | None]) -> list[Text]:
    figures = one.figures
    if one.status != "measured":
        return [Text("-"), Text("-")]
    cells = (
        (figures.n, "d", None),
        (figures.mean_abs_drift, ".2f", "drift"),
        (figures.mean_drift_bonafide, "+.2f", None),
        (figures.mean_drift_spoof, "+.2f", None),
        (figures.rank_correlation, ".3f", None),
        (figures.flips, "d", "flips"),
        (figures.eer_percent, ".2f", None),
        (figures.eer_change, "+.2f", "eer"),
    )
    return [
        Text(
            "" if value is None else format(value, digits),
            style="bold red" if column is not None and worst[column] == one.name else "",
        )
        for value, digits, column in cells
    ]


def _remarks(report: RobustnessReport) -> str:
    by_name = {one.name: one for one in report.conditions}
    words = {"eer": "raises the EER most", "flips": "flips most", "drift": "moves scores most"}
    lines = [
        f"{words[column]}: {name} ({by_name[name].meaning})"
        for column, name in report.worst().items()
        if name is not None
    ]
    lines += [f"not here: {one.name}: {one.reason}" for one in report.conditions if one.reason]
    lines += [
        f"{one.name}: not applicable to {one.figures.n_not_applicable} trials: "
        f"{one.figures.first_note}"
        for one in report.conditions
        if one.figures.n_not_applicable
    ]
    return "\n".join(lines)


def _print_list(conditions: tuple[Condition, ...], *, json_: bool) -> None:
    if json_:
        print_json(
            {
                "conditions": [
                    {
                        "name": one.name,
                        "family": one.family,
                        "meaning": one.meaning,
                        "parameters": dict(one.parameters),
                        "unavailable": one.unavailable,
                    }
                    for one in conditions
                ]
            }
        )
        return
    table = Table()
    for header in ("family", "condition", "meaning"):
        table.add_column(header)
    for one in conditions:
        missing = f" (not here: {one.unavailable})" if one.unavailable else ""
        table.add_row(one.family, Text(one.name), Text(one.meaning + missing))
    stdout.print(table)
