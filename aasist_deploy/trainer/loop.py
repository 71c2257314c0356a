"""The training loop: from a recipe and a corpus to `best.safetensors`, resumable at every step."""

from __future__ import annotations

import itertools
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from aasist_deploy.errors import OutputError, TrainingError
from aasist_deploy.models import keep_freed_memory, save_weights
from aasist_deploy.textfile import write_text_atomically
from aasist_deploy.trainer.averaging import update_batch_norm
from aasist_deploy.trainer.dev import DevFigures, figures_of, outputs_of, write_dev_scores
from aasist_deploy.trainer.distributed import choose_device, joined_world
from aasist_deploy.trainer.events import (
    EpochDone,
    Event,
    Started,
    StateSaved,
    StepDone,
    TrainingResult,
)
from aasist_deploy.trainer.log import RunLog
from aasist_deploy.trainer.prepare import (
    prepare_corpus,
    prepare_machine,
    prepare_model,
    steps_of,
)
from aasist_deploy.trainer.resume import RECIPE, begin_run, content_of, open_run, restore
from aasist_deploy.trainer.runtime import arithmetic, stop_wish, told_errors
from aasist_deploy.trainer.schedule import lr_at
from aasist_deploy.trainer.state import Position, seed_all, write_state
from aasist_deploy.trainer.step import NotFiniteError, grouped
from aasist_deploy.trainer.transfer import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from aasist_deploy.models.network import Network
    from aasist_deploy.trainer.distributed import World
    from aasist_deploy.trainer.prepare import Corpus, Machine
    from aasist_deploy.trainer.recipe import Recipe
    from aasist_deploy.trainer.runtime import StopWish
    from aasist_deploy.trainer.step import Batch

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS: Final = 600.0  # work that a killed run has to do again, at most
DRAW_EVERY_SECONDS: Final = 30.0  # a drawing took 0.7 to 0.9 s, of 1,000 and of 10,000 rows
BEST: Final = "best.safetensors"
SWA: Final = "swa.safetensors"


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    on_event: Callable[[Event], object] | None = None,
) -> TrainingResult:
    """Train a network.

    All randomness follows from the seed and the position in the run, so a run that was killed and
    resumed takes the same steps as one that was not. Under torchrun the processes share each batch;
    the first writes the files. In the main thread SIGINT and SIGTERM end a run after the step in
    hand, with its state saved.

    Args:
        recipe: What to do.
        out: The run folder; empty or absent unless it is resumed.
        resume: Go on with the run that is there; nothing in the recipe may have changed that
            decides over the result.
        on_event: Called with each event, in every process.

    Raises:
        AasistDeployError: The recipe, the corpus, the checkpoint to start from or the folder is not
            as it should be; nothing was trained then.
        TrainingError: Training cannot go on (a loss or score that is not finite), was asked to
            stop, or cannot be resumed.
        OutputError: The folder cannot be written (a full disk); what was saved before is kept.
    """
    out = Path(out)
    device = choose_device(recipe.training.device)
    keep_freed_memory()
    with (
        joined_world(device) as world,
        arithmetic(recipe.training),
        stop_wish() as stop,
    ):
        state = open_run(out, recipe, resume=resume)
        model = prepare_model(recipe, device, world)
        corpus = prepare_corpus(recipe, model, device, world)
        machine = prepare_machine(recipe, model, corpus, device, world)
        run = _Run(recipe, out, device, world, corpus, machine, stop, on_event)
        try:
            with told_errors(model.architecture, device, world):
                return run.go(state)
        except OutputError as error:
            if (out / RECIPE).exists():
                error.fix = f"make room, then go on with --resume and the run folder {out}"
            raise
        finally:
            run.close()


class _Run:
    """One run in one process; its position moves from step to step."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        device: torch.device,
        world: World,
        corpus: Corpus,
        machine: Machine,
        stop: StopWish,
        on_event: Callable[[Event], object] | None,
    ) -> None:
        self._recipe, self._out, self._device, self._world = recipe, out, device, world
        self._corpus, self._machine, self._stop = corpus, machine, stop
        self._tell = on_event or (lambda _: None)
        self._n_steps = steps_of(recipe, corpus.train_loader.n_batches)
        self._position = Position()
        self._best: dict[str, Any] | None = None
        self._log: RunLog | None = None
        self._began = self._saved = self._drawn = time.monotonic()

    def go(self, state: dict[str, Any] | None) -> TrainingResult:
        """Run to the end from a state, or from the beginning."""
        if state is not None:
            self._position, self._best = restore(state, self._machine, self._device)
        self._world.wait()  # until all have looked into the folder
        if self._world.is_first:
            if state is None:
                begin_run(self._out, self._recipe)
            self._log = RunLog(
                self._out, self._position.step, tensorboard=self._recipe.run.tensorboard
            )
        if state is None:
            self._save()
        self._tell(
            Started(
                n_train=len(self._corpus.train),
                n_dev=len(self._corpus.dev),
                n_steps=self._n_steps,
                first_step=self._position.step,
                n_parameters=sum(each.numel() for each in self._machine.model.parameters()),
                frozen=self._machine.frozen,
                device=str(self._device),
                reports=self._corpus.reports,
                n_processes=self._world.size,
            )
        )
        while self._position.epoch < self._recipe.training.epochs:
            self._epoch()
        return self._finish()

    def close(self) -> None:
        """Close the log, and end the processes that decode."""
        self._corpus.close()
        if self._log is not None:
            self._log.close()

    def _epoch(self) -> None:
        began = time.monotonic()
        model = self._machine.model
        model.train()
        hold(model)
        batches = self._corpus.train_loader.epoch(self._position.epoch, self._position.batch)
        for group in grouped(batches, self._recipe.training.accumulate):
            self._step(group)
        position = self._position
        loss = position.loss_sum / position.loss_count
        number = position.epoch + 1
        scored = model
        if self._machine.ema is not None:
            scored = cast("Network", self._machine.ema.averaged(model))
        outputs, dev = self._score_dev(scored)
        is_best = self._is_best(dev)
        if is_best:
            if self._machine.swa is not None:
                self._machine.swa.update(model)
            self._keep_best(scored, outputs, dev, epoch=number)
        seconds = time.monotonic() - began
        if self._log is not None:
            self._log.epoch(
                epoch=number,
                step=position.step,
                train_loss=loss,
                dev_loss=dev.loss,
                dev_eer_percent=dev.eer * 100,
                dev_min_tdcf=dev.min_tdcf,
                best=is_best,
                seconds=seconds,
            )
        self._position = Position(epoch=number, step=position.step)
        self._save()
        if time.monotonic() - self._drawn >= DRAW_EVERY_SECONDS:
            self._draw()
        self._tell(
            EpochDone(
                epoch=number,
                n_epochs=self._recipe.training.epochs,
                loss=loss,
                dev=dev,
                is_best=is_best,
                seconds=seconds,
            )
        )

    def _step(self, group: Sequence[Batch]) -> None:
        began = time.monotonic()
        position, training = self._position, self._recipe.training
        if position.step == 0 and training.init is None:
            # Running variances start at 1, those behind the sinc filters are 10,000 times smaller,
            # and a step takes off a tenth of the difference: evaluation mode would lag by 100
            # steps. Training mode does not read them, so its losses stay what they were.
            update_batch_norm(self._machine.model, group)
        # So that dropout and masking follow from the position, and resuming changes nothing.
        seed_all(training.seed, position.step, self._world.rank)
        lr = lr_at(position.step, self._n_steps, self._recipe)
        try:
            figures = self._machine.stepper.step(group, lr, stop_asked=self._stop.asked)
        except NotFiniteError as error:
            self._not_finite(error, group)
        if self._machine.ema is not None:
            self._machine.ema.update(self._machine.model)
        self._position = position = replace(
            position,
            batch=position.batch + len(group),
            step=position.step + 1,
            loss_sum=position.loss_sum + figures.loss,
            loss_count=position.loss_count + 1,
        )
        epoch = position.epoch + 1
        if self._log is not None and (
            position.step % self._recipe.run.log_every_steps == 0
            or position.step in (1, self._n_steps)
        ):
            self._log.step(
                epoch=epoch,
                step=position.step,
                loss=figures.loss,
                lr=lr,
                gradient_norm=figures.gradient_norm,
            )
        self._tell(
            StepDone(
                epoch=epoch,
                step=position.step,
                n_steps=self._n_steps,
                loss=figures.loss,
                lr=lr,
                gradient_norm=figures.gradient_norm,
                seconds=time.monotonic() - began,
            )
        )
        if figures.stop_asked:
            self._save()
            raise TrainingError(
                f"Training was asked to stop ({self._stop.signal_name or 'another process'}) and "
                f"did, after step {position.step} of {self._n_steps}; its state is saved.",
                fix=f"go on with --resume and the run folder {self._out}",
            )
        every = self._recipe.run.save_every_steps
        if (every is not None and position.step % every == 0) or (
            time.monotonic() - self._saved >= SAVE_EVERY_SECONDS
        ):
            self._save()

    def _finish(self) -> TrainingResult:
        swa_dev = None
        swa = self._machine.swa
        if swa is not None and swa.n > 0:
            averaged = cast("Network", swa.averaged(self._machine.model))
            seed_all(self._recipe.training.seed, self._n_steps, self._world.rank)
            epoch = self._recipe.training.epochs  # windows that were not trained on
            update_batch_norm(averaged, self._corpus.train_loader.epoch(epoch))
            outputs, swa_dev = self._score_dev(averaged)
            self._weights(SWA, averaged, {"dev": json.dumps(swa_dev.to_dict()), "from": "swa"})
            if self._is_best(swa_dev):
                self._keep_best(averaged, outputs, swa_dev, epoch=None)
        if self._best is None:  # epochs >= 1, so a state without a best was altered
            raise TrainingError(f"The run in {self._out} has no best epoch.")
        self._draw()
        self._world.wait()
        return TrainingResult(
            out=self._out,
            best=self._out / BEST,
            best_epoch=self._best["epoch"],
            dev=DevFigures.from_dict(self._best["dev"]),
            swa=None if swa_dev is None else self._out / SWA,
            swa_dev=swa_dev,
            n_steps=self._position.step,
            seconds=time.monotonic() - self._began,
        )

    def _draw(self) -> None:
        if self._log is None:
            return
        self._drawn = time.monotonic()
        from aasist_deploy.trainer.curves import draw

        try:
            draw(self._out / "log.jsonl", self._out / "curves.png")
        except ImportError as error:  # matplotlib; no reason to lose a run
            log.warning("curves.png is not drawn: %s", error)

    def _score_dev(self, model: Network) -> tuple[NDArray[np.float32], DevFigures]:
        trials, batches = self._corpus.dev, self._corpus.dev_loader.epoch()
        outputs = outputs_of(model, batches, len(trials), self._device, self._world)
        weights = self._recipe.training.class_weights
        return outputs, figures_of(outputs, trials, weights, self._corpus.asv)

    def _is_best(self, dev: DevFigures) -> bool:
        if self._best is None:
            return True
        select = self._recipe.training.select
        return dev.rank(select) < DevFigures.from_dict(self._best["dev"]).rank(select)

    def _keep_best(
        self, model: Network, outputs: NDArray[np.float32], dev: DevFigures, *, epoch: int | None
    ) -> None:
        """Write the weights that are the best so far, and what is known of them."""
        self._best = {"epoch": epoch, "step": self._position.step, "dev": dev.to_dict()}
        origin = "swa" if epoch is None else f"epoch {epoch}"
        self._weights(BEST, model, {"dev": json.dumps(dev.to_dict()), "from": origin})
        if self._world.is_first:
            write_dev_scores(self._out / "scores.dev.txt", outputs, self._corpus.dev)
            figures = {"weights": BEST, "from": origin, **self._best}
            figures["select"] = self._recipe.training.select
            write_text_atomically(self._out / "best.json", [json.dumps(figures, indent=2) + "\n"])

    def _weights(self, name: str, model: Network, notes: dict[str, str]) -> None:
        if self._world.is_first:
            save_weights(self._out / name, model, recipe=self._recipe.to_toml(), notes=notes)

    def _save(self) -> None:
        """Write the state; every process's state is the same, so the first writes."""
        self._saved = time.monotonic()
        if not self._world.is_first:
            return
        if self._log is not None:
            self._log.flush()  # so that no row is missing before the position of a state
        content = content_of(self._recipe, self._machine, self._best)
        path = write_state(self._out, content, self._position, self._recipe.training.keep_last)
        self._tell(StateSaved(path=path, step=self._position.step))

    def _not_finite(self, error: NotFiniteError, group: Sequence[Batch]) -> NoReturn:
        trials = self._corpus.train
        here = [trials[int(index)].utterance for batch in group for index in batch[2]]
        names = list(itertools.chain.from_iterable(self._world.gather(here)))
        raise TrainingError(
            f"The {error.what} is not finite in epoch {self._position.epoch + 1}, step "
            f"{self._position.step + 1}. The utterances of the batch: {', '.join(names)}.",
            fix="look at these files, lower optimizer.lr or set training.clip_norm; what was saved "
            f"before is kept in {self._out}",
        ) from error
