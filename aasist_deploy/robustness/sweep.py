"""Score every trial clean and under every condition: a stream of trials with bounded memory."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.audio import read_audio
from aasist_deploy.degradations.base import Condition, Context, NotApplicableError, Wave
from aasist_deploy.degradations.conditions import CONTROL
from aasist_deploy.errors import AudioError, UsageError
from aasist_deploy.pipeline import DEFAULT_BATCH, window_of
from aasist_deploy.robustness.results import (
    Outcome,
    RobustnessReport,
    Setting,
    TrialScores,
    report_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine
    from aasist_deploy.trials import Dataset, Trial

MAX_CLIP_SECONDS: Final = 60  # of a longer clip, this start stands for the whole
PREPARE_THREADS: Final = 2  # NumPy's FFT and the codecs release the GIL for most of their time


@dataclass(slots=True)
class _Pending:
    """A trial whose windows are made, and not all scored yet."""

    result: TrialScores
    windows: deque[tuple[int, Wave]]  # (index of the condition, or -1 for clean; window)


def sweep(
    engine: Engine,
    dataset: Dataset,
    conditions: Sequence[Condition],
    *,
    batch: int = DEFAULT_BATCH,
    threshold: float | None = None,
    seed: int = 0,
    pool: Dataset | None = None,
    threads: int = PREPARE_THREADS,
    on_item: Callable[[TrialScores], None] | None = None,
) -> RobustnessReport:
    """Score a dataset clean and under conditions, and measure what they change.

    Args:
        engine: Opened model.
        dataset: The trials to score; their audio must be on disk.
        conditions: What to apply, from `select`. Unavailable ones are listed in the report.
        batch: Windows scored together. A variable-length model scores one at a time.
        threshold: Decision threshold on the score; None takes the one of the clean EER.
        seed: Of all that is random.
        pool: Where babble is taken from, by default `dataset`. The whole split makes the babble of
            a trial the same, however many trials are scored.
        threads: Trials prepared at the same time.
        on_item: Called with each trial as it is done, in the order of the dataset.

    Returns:
        The report. Memory is that of a few trials' windows, and one float for each trial and
        condition.

    Raises:
        TrialsError: audio is missing on disk; nothing is scored then.
        UsageError: there are no conditions, or two of the same name.
    """
    start = time.perf_counter()
    items = []
    for item in scores_of(
        engine, dataset, conditions, batch=batch, seed=seed, pool=pool, threads=threads
    ):
        items.append(item)
        if on_item is not None:
            on_item(item)
    setting = Setting.of(engine, dataset, pool, seed=seed, threshold=threshold)
    seconds = time.perf_counter() - start
    return report_of(items, conditions, setting, seconds=seconds, complete=True)


def scores_of(
    engine: Engine,
    dataset: Dataset,
    conditions: Sequence[Condition],
    *,
    batch: int = DEFAULT_BATCH,
    seed: int = 0,
    pool: Dataset | None = None,
    threads: int = PREPARE_THREADS,
) -> Iterator[TrialScores]:
    """Yield the scores of each trial in the order of the dataset; arguments as for `sweep`."""
    names = [condition.name for condition in conditions]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"The sweep needs conditions of different names; it was given {names}.")
    dataset.require_audio()
    preparer = _Preparer(engine.contract, conditions, seed, (pool or dataset).trials)
    size = batch if engine.contract.n_samples is not None else 1
    pending: deque[_Pending] = deque()
    n_waiting = 0
    for trial in _ahead(preparer, dataset.trials, threads):
        pending.append(trial)
        n_waiting += len(trial.windows)
        while n_waiting >= size:
            n_waiting -= _score(engine, pending, size)
            yield from _done(pending)
    while n_waiting:
        n_waiting -= _score(engine, pending, size)
    yield from _done(pending)


def balanced(dataset: Dataset, limit: int) -> Dataset:
    """The dataset with at most `limit` trials: half of each class, evenly spaced in its order.

    Where a class has too few, the other gives more. The order stays. This is no random sample.
    """
    by_class = [
        [i for i, trial in enumerate(dataset.trials) if (trial.label == "bonafide") is wanted]
        for wanted in (True, False)
    ]
    fewer = min(len(indices) for indices in by_class)
    small = min(fewer, limit // 2)
    wanted = [small if len(indices) == fewer else limit - small for indices in by_class]
    if len(by_class[0]) == len(by_class[1]):
        wanted = [limit - small, small]
    chosen = sorted(
        indices[(2 * k + 1) * len(indices) // (2 * count)]
        for indices, asked in zip(by_class, wanted, strict=True)
        for count in [min(asked, len(indices))]
        for k in range(count)
    )
    return replace(dataset, trials=tuple(dataset.trials[i] for i in chosen))


class _Preparer:
    """From a trial to its windows: decode once, apply each condition, cut."""

    def __init__(
        self,
        contract: ModelContract,
        conditions: Sequence[Condition],
        seed: int,
        pool: Sequence[Trial],
    ) -> None:
        self._contract, self._conditions, self._seed = contract, conditions, seed
        named = sorted(pool, key=lambda trial: trial.utterance)  # not in the order of the dataset
        bonafide = [trial for trial in named if trial.label == "bonafide"]
        self._pool = bonafide if len(bonafide) > 2 else named

    def __call__(self, trial: Trial) -> _Pending:
        result = TrialScores.empty(trial, len(self._conditions))
        pending = _Pending(result, deque())
        try:
            wave = self._read(trial)
        except AudioError as error:
            result.error = str(error)
            return pending
        clean = window_of(wave, self._contract)
        pending.windows.append((-1, clean))
        context = self._context(trial)
        for index, condition in enumerate(self._conditions):
            if condition.unavailable is not None:
                continue
            try:
                window = window_of(condition.apply(wave, context), self._contract)
                if not np.isfinite(window).all():
                    raise AudioError(f"{condition.name} gave NaN or infinite samples")  # noqa: TRY301
            except NotApplicableError as reason:
                result.outcomes[index] = Outcome.NOT_APPLICABLE
                result.notes[index] = str(reason)
            except AudioError as error:
                result.outcomes[index] = Outcome.FAILED
                result.notes[index] = str(error)
            else:
                if np.array_equal(window, clean):
                    result.outcomes[index] = Outcome.UNCHANGED
                    # The engine need not see the same samples again; the control shows that it may.
                    if condition.family != CONTROL:
                        continue
                else:
                    result.outcomes[index] = Outcome.SCORED
                pending.windows.append((index, window))
        return pending

    def _read(self, trial: Trial) -> Wave:
        rate = self._contract.sample_rate_hz
        return read_audio(trial.path, sample_rate_hz=rate, max_samples=MAX_CLIP_SECONDS * rate).wave

    def _context(self, trial: Trial) -> Context:
        cached: dict[int, list[Wave]] = {}

        def others(count: int) -> list[Wave]:
            if count not in cached:
                cached[count] = self._others(trial, context, count)
            return cached[count]

        context = Context(
            utterance=trial.utterance,
            sample_rate_hz=self._contract.sample_rate_hz,
            n_samples=self._contract.n_samples,
            seed=self._seed,
            others=others,
        )
        return context

    def _others(self, trial: Trial, context: Context, count: int) -> list[Wave]:
        """Clips of other trials; of other speakers too, where enough are known."""
        order = context.random("babble-choice").permutation(len(self._pool))
        waves: list[Wave] = []
        spare: list[Trial] = []
        for other in (self._pool[i] for i in order):
            if other.utterance == trial.utterance:
                continue
            if other.speaker is not None and other.speaker == trial.speaker:
                spare.append(other)
                continue
            waves += self._readable(other)
            if len(waves) == count:
                return waves
        for other in spare:
            waves += self._readable(other)
            if len(waves) == count:
                break
        return waves

    def _readable(self, trial: Trial) -> list[Wave]:
        try:
            return [self._read(trial)]
        except AudioError:
            return []


def _ahead(preparer: _Preparer, trials: Sequence[Trial], threads: int) -> Iterator[_Pending]:
    """Prepare trials in threads, a few ahead of the engine."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
    queue: deque[Future[_Pending]] = deque()
    try:
        for trial in trials:
            queue.append(pool.submit(preparer, trial))
            if len(queue) > threads:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _score(engine: Engine, pending: Sequence[_Pending], size: int) -> int:
    """Score the next windows, at most `size`; how many there were."""
    taken: list[tuple[TrialScores, int, Wave]] = []
    for trial in pending:
        while trial.windows and len(taken) < size:
            index, window = trial.windows.popleft()
            taken.append((trial.result, index, window))
    scores = engine.score(np.stack([window for _, _, window in taken]))
    for (result, index, _), score in zip(taken, scores, strict=True):
        result.put(index, float(score))
    return len(taken)


def _done(pending: deque[_Pending]) -> Iterator[TrialScores]:
    """Take the trials from the front whose windows are all scored."""
    while pending and not pending[0].windows:
        yield pending.popleft().result.finished()
