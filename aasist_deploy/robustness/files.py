"""Run a sweep into a folder: robustness.json at the end, and what is done until then if stopped."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import OutputError
from aasist_deploy.evaluate import environment
from aasist_deploy.robustness.results import RobustnessLimits, Setting, TrialScores, report_of
from aasist_deploy.robustness.sweep import scores_of
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aasist_deploy.degradations.base import Condition
    from aasist_deploy.engines import Engine
    from aasist_deploy.robustness.results import RobustnessReport
    from aasist_deploy.trials import Dataset

log = logging.getLogger(__name__)

NAME: Final = "robustness.json"
PARTIAL_NAME: Final = "robustness.partial.json"
# A process that is killed outright loses about a minute. With very many trials writing is not quick
# itself, and then takes no more than a twentieth of the time.
_PARTIAL_EVERY_SECONDS: Final = 60.0
_PARTIAL_SHARE: Final = 20


def run_into(
    folder: Path,
    engine: Engine,
    dataset: Dataset,
    conditions: Sequence[Condition],
    *,
    command: str,
    batch: int,
    threshold: float | None = None,
    seed: int = 0,
    pool: Dataset | None = None,
    limits: RobustnessLimits | None = None,
    on_item: Callable[[TrialScores], None] | None = None,
) -> tuple[RobustnessReport, dict[str, Any]]:
    """Sweep, and write robustness.json; arguments as for `sweep`.

    Once a minute, and when the run is stopped by Ctrl-C or by an error, what is done is written to
    robustness.partial.json (`complete` is false in it); a run that ends removes that file.

    Args:
        folder: Made when it is missing; an older robustness.json in it is replaced at the end.
        engine: Opened model.
        dataset: The trials to score.
        conditions: What to apply.
        command: The command line, for the file.
        batch: Windows scored together.
        threshold: Decision threshold, or None for that of the clean EER.
        seed: Of all that is random.
        pool: Where babble is taken from.
        limits: Written with their breaches; the caller decides what a breach means.
        on_item: Called with each trial as it is done.

    Returns:
        The report, and the mapping that was written.

    Raises:
        OutputError: the folder cannot be written; found out before anything is scored.
    """
    setting = Setting.of(engine, dataset, pool, seed=seed, threshold=threshold)
    start = time.perf_counter()
    due = start + _PARTIAL_EVERY_SECONDS
    items: list[TrialScores] = []

    def write(name: str, *, complete: bool) -> tuple[RobustnessReport, dict[str, Any]]:
        seconds = time.perf_counter() - start
        report = report_of(items, conditions, setting, seconds=seconds, complete=complete)
        written = {
            **report.to_dict(limits),
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": command,
            "environment": environment(),
        }
        text = json.dumps(written, indent=2, allow_nan=False)
        write_text_atomically(folder / name, [text, "\n"])
        return report, written

    _make(folder)
    write(PARTIAL_NAME, complete=False)
    try:
        for item in scores_of(engine, dataset, conditions, batch=batch, seed=seed, pool=pool):
            items.append(item)
            if on_item is not None:
                on_item(item)
            now = time.perf_counter()
            if now > due:
                write(PARTIAL_NAME, complete=False)
                due = _next(now)
        written = write(NAME, complete=True)
    except BaseException:
        if items:
            write(PARTIAL_NAME, complete=False)
            done, asked, place = len(items), len(dataset.trials), folder / PARTIAL_NAME
            log.warning("stopped: %d of %d trials are in %s", done, asked, place)
        else:
            _remove(folder / PARTIAL_NAME)
        raise
    _remove(folder / PARTIAL_NAME)
    return written


def _next(began: float) -> float:
    """When to write again, after a write that began then."""
    now = time.perf_counter()
    return now + max(_PARTIAL_EVERY_SECONDS, _PARTIAL_SHARE * (now - began))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be made: {error.strerror or error}.",
            fix="choose another place with --out",
        ) from error


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
