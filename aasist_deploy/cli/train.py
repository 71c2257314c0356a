"""`aasist-deploy train`: a recipe and a corpus become weights that `export` takes as they are."""

import logging
import os
import shlex
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr, stdout
from aasist_deploy.errors import AasistDeployError, PeerLostError, UsageError
from aasist_deploy.extras import require_train_packages
from aasist_deploy.published import names, pull
from aasist_deploy.trials import dataset_names, default_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aasist_deploy.trainer.dev import DevFigures
    from aasist_deploy.trainer.events import Event, TrainingResult
    from aasist_deploy.trainer.recipe import Recipe


COMMON_ERROR_WAIT_SECONDS: Final = 5.0
PEER_LOST_WAIT_SECONDS: Final = 10.0


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="aasist, aasist-l, aasist-l-mini, rawgat-st, rawnet2, or your own (.toml)."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A published .conf file, as it is, in place of a recipe."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the corpus, or a manifest (data.root).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: weights, log, curves.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help=f"Kind of corpus (data.dataset): {', '.join(dataset_names())}."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value for any key of the recipe; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it ended.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(help="Weights to start from (training.init): a checkpoint or a name."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Checkpoint or name to learn from too (training.teacher)."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of parameters to keep (training.freeze); may be repeated."),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(help="Network of your own, FILE:Class (model.code). Its code is run."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda (training.device).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe and corpus, show both, and stop.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Train a network, choose its best epoch on dev, and write weights that export takes.

    \b
    Example:
      aasist-deploy train aasist-l --root LA --out run
      aasist-deploy train --config AASIST.conf --root LA --out run --set epochs=1
      aasist-deploy train --out run --resume
      torchrun --nproc-per-node 2 --no-python \\
        aasist-deploy train aasist --root LA --out run
    """  # noqa: D301  # \b keeps the lines of the example
    require_train_packages("Training needs")
    leading = os.environ.get("RANK", "0") == "0"  # torchrun starts the verb once a process
    if not leading:
        for name in (None, "aasist_deploy"):
            logging.getLogger(name).setLevel(logging.ERROR)
    with _errors_in_turn(leading=leading), ExitStack() as stack:
        overrides = list(set_ or [])
        overrides += _options(
            {
                "data.root": root,
                "data.dataset": dataset,
                "training.init": _checkpoint(init),
                "training.teacher": _checkpoint(teacher),
                "training.freeze": freeze,
                "model.code": code,
                "training.device": device,
            }
        )
        if out is None and not dry_run:
            raise UsageError("--out is missing.", fix="--out FOLDER, where the run is written")
        wanted = _recipe(recipe, config, overrides, out if resume else None)
        if dry_run:
            _show(wanted, json_=json_)
            return
        assert out is not None
        from aasist_deploy.trainer.loop import train as run

        watch = _watcher(stack) if leading else None
        result = run(wanted, out, resume=resume, on_event=watch)
    if leading:
        _render(result, wanted, json_=json_)


@contextmanager
def _errors_in_turn(*, leading: bool) -> "Iterator[None]":
    """Under torchrun, let an error that all processes have be told once.

    torchrun ends the others as soon as one has failed, so the first process tells it at once and
    the others wait; longer still wait those that only lost another, which knows why it ended.
    """
    try:
        yield
    except AasistDeployError as error:
        if isinstance(error, PeerLostError):
            time.sleep(PEER_LOST_WAIT_SECONDS)
        elif not leading:
            time.sleep(COMMON_ERROR_WAIT_SECONDS)
        raise


def _show(recipe: "Recipe", *, json_: bool) -> None:
    """Recipe and corpus, after all checks that come before training."""
    from aasist_deploy.trainer.plan import plan

    found = plan(recipe)
    if json_:
        print_json({"recipe": recipe.to_mapping(), **found.to_dict()})
        return
    stdout.print(recipe.to_toml(), markup=False)
    for line in (line for report in found.reports for line in report.lines()):
        _say(line)
    _say(
        f"{found.n_steps} steps on {found.device}, windows of {found.n_samples} samples, "
        f"{found.n_parameters:,} parameters, {len(found.frozen)} tensors of them frozen"
    )


def _options(given: dict[str, Any]) -> "Iterator[str]":
    """Options of the command line as what `--set` takes."""
    from aasist_deploy.trainer.recipe_values import quoted

    for key, value in given.items():
        if isinstance(value, list):
            yield f"{key}=[{', '.join(map(quoted, value))}]"
        elif value is not None:
            yield f"{key}={quoted(os.fspath(value))}"


def _checkpoint(name_or_path: str | None) -> str | None:
    """The name of a model as the file of its weights; a file of that name wins."""
    if name_or_path in names() and not Path(name_or_path).is_file():
        return str(pull(name_or_path))
    return name_or_path


def _recipe(
    name: str | None, config: Path | None, overrides: list[str], resumed: Path | None
) -> "Recipe":
    """The recipe that the options name; when a run is resumed, its own by default."""
    from aasist_deploy.trainer.recipe import load_recipe
    from aasist_deploy.trainer.recipe_sources import BUILT_IN
    from aasist_deploy.trainer.resume import RECIPE

    if name is not None and config is not None:
        raise UsageError(
            f"Both the recipe {name} and --config {config} are given.", fix="give one of them"
        )
    source = name or config
    if source is None and resumed is not None:
        source = resumed / RECIPE
        if not source.is_file():
            raise UsageError(
                f"There is no run in {resumed} that could go on.",
                fix="leave out --resume, or give the folder of the run",
            )
    if source is None:
        raise UsageError(
            "No recipe is given.",
            fix=f"give one of {', '.join(BUILT_IN)}, a .toml file, or --config FILE.conf",
        )
    recipe = load_recipe(source, overrides)
    if recipe.data.root is None:
        raise UsageError(
            f"Nothing says where the corpus {recipe.data.dataset} is.", fix="--root FOLDER"
        )
    return recipe


def _watcher(stack: ExitStack) -> "Callable[[Event], None]":
    """What shows the events of training: a bar over all steps, and a line for each epoch."""
    from aasist_deploy.trainer.events import EpochDone, Started, StepDone

    progress = stack.enter_context(progress_bar("training", None))
    (task,) = progress.task_ids

    def watch(event: "Event") -> None:
        if isinstance(event, Started):
            progress.update(task, total=event.n_steps, completed=event.first_step)
            frozen = f", {len(event.frozen)} tensors of them frozen" if event.frozen else ""
            for line in (line for report in event.reports for line in report.lines()):
                _say(line)
            _say(
                f"{event.n_train} training and {event.n_dev} dev utterances, {event.n_steps} steps "
                f"on {event.device}, {event.n_parameters:,} parameters{frozen}"
            )
        elif isinstance(event, StepDone):
            progress.update(
                task, completed=event.step, description=f"epoch {event.epoch} loss {event.loss:.4f}"
            )
        elif isinstance(event, EpochDone):
            best = "  best so far" if event.is_best else ""
            _say(
                f"epoch {event.epoch}/{event.n_epochs}  loss {event.loss:.4f}  "
                f"{_figures(event.dev)}  {event.seconds:.0f} s{best}"
            )

    return watch


def _say(line: str) -> None:
    stderr.print(line, markup=False)


def _figures(dev: "DevFigures") -> str:
    tdcf = "" if dev.min_tdcf is None else f"  min t-DCF {dev.min_tdcf:.4f}"
    return f"dev EER {100 * dev.eer:.2f} %{tdcf}"


def _render(result: "TrainingResult", recipe: "Recipe", *, json_: bool) -> None:
    """The best weights and their figures on stdout, and the commands that come next."""
    if json_:
        print_json(
            {
                "out": str(result.out),
                "best": str(result.best),
                "best_epoch": result.best_epoch,
                "dev": _percent(result.dev),
                "swa": None if result.swa is None else str(result.swa),
                "swa_dev": None if result.swa_dev is None else _percent(result.swa_dev),
                "n_steps": result.n_steps,
                "seconds": result.seconds,
            }
        )
        return
    of = "average" if result.best_epoch is None else f"epoch {result.best_epoch}"
    stdout.print(f"{result.best} ({of}): {_figures(result.dev)}", markup=False)
    if result.swa is not None and result.swa_dev is not None:
        stdout.print(f"{result.swa} (average): {_figures(result.swa_dev)}", markup=False)
    _say("next:")
    for command in next_commands(result.best, recipe):
        _say(f"  {shlex.join(command)}")


def _percent(dev: "DevFigures") -> dict[str, float | None]:
    return {"eer_percent": 100 * dev.eer, "min_tdcf": dev.min_tdcf, "loss": dev.loss}


def next_commands(best: Path, recipe: "Recipe") -> list[list[str]]:
    """The commands that deploy and evaluate what was trained."""
    model = best.with_suffix(".onnx")
    export = ["aasist-deploy", "export", str(best), "-o", str(model)]
    if recipe.model.code is not None:
        export += ["--code", recipe.model.code]
    data, split = recipe.data, default_split(recipe.data.dataset)
    if split == "all":  # it holds what was trained on
        split = data.dev_split
    evaluate = ["aasist-deploy", "eval", str(model), "--dataset", data.dataset]
    evaluate += ["--root", str(data.root), "--split", split, "--out", str(best.parent / "results")]
    return [export, evaluate]
