"""What a sweep found: scores of one trial, figures of one condition, and the report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.pipeline import window_rule
from aasist_deploy.robustness.measures import ConditionFigures, clean_figures, figures_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.degradations.base import Condition
    from aasist_deploy.engines import Engine
    from aasist_deploy.trials import Dataset, Trial

SCHEMA: Final = "aasist-deploy/robustness/1"
MAX_FAILURES: Final = 200  # listed one by one; all are counted


class Outcome(IntEnum):
    """What became of one trial under one condition."""

    UNAVAILABLE = 0
    SCORED = 1
    UNCHANGED = 2
    NOT_APPLICABLE = 3
    FAILED = 4


@dataclass(slots=True)
class TrialScores:
    """The scores of one trial.

    Attributes:
        utterance: Name of the trial.
        is_bonafide: The truth.
        clean: Score of the clip as it is; NaN when it has none.
        scores: (C,) float64 under each condition; NaN where there is none.
        outcomes: (C,) uint8, values of `Outcome`.
        notes: Index of a condition -> why there is no score.
        error: Why the clip could not be read or scored at all, or None.
    """

    utterance: str
    is_bonafide: bool
    clean: float
    scores: NDArray[np.float64]
    outcomes: NDArray[np.uint8]
    notes: dict[int, str] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def empty(cls, trial: Trial, n_conditions: int) -> TrialScores:
        """A trial before anything of it is scored."""
        return cls(
            utterance=trial.utterance,
            is_bonafide=trial.label == "bonafide",
            clean=math.nan,
            scores=np.full(n_conditions, np.nan),
            outcomes=np.zeros(n_conditions, np.uint8),
        )

    def put(self, index: int, score: float) -> None:
        """Note a score: of a condition, or of the clean clip when `index` is -1."""
        if index < 0:
            self.clean = score
            if not math.isfinite(score):
                self.error = f"the model's score is {score}"
        elif math.isfinite(score):
            self.scores[index] = score
        else:
            self.outcomes[index] = Outcome.FAILED
            self.notes[index] = f"the model's score is {score}"

    def finished(self) -> TrialScores:
        """The trial, with the clean score where a condition left the window as it was."""
        copied = (self.outcomes == Outcome.UNCHANGED) & np.isnan(self.scores)
        self.scores[copied] = self.clean
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was swept, as it stands in robustness.json."""

    dataset: dict[str, Any]
    model: dict[str, Any]
    backend: dict[str, str]
    window: str
    seed: int
    threshold: float | None

    @classmethod
    def of(
        cls,
        engine: Engine,
        dataset: Dataset,
        pool: Dataset | None,
        *,
        seed: int,
        threshold: float | None,
    ) -> Setting:
        """Read it off the engine and the dataset; `threshold` None means that of the clean EER."""
        return cls(
            dataset={
                "name": dataset.name,
                "split": dataset.split,
                "protocol": str(dataset.protocol),
                "n_trials": len((pool or dataset).trials),
                "n_selected": len(dataset.trials),
            },
            model=engine.contract.to_dict(),
            backend={"name": engine.backend, "device": engine.device},
            window=window_rule(engine.contract),
            seed=seed,
            threshold=threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """A condition and what it changed (docs/robustness.md has the meaning of each figure)."""

    name: str
    family: str
    meaning: str
    parameters: dict[str, Any]
    status: str
    reason: str | None
    figures: ConditionFigures

    def to_dict(self) -> dict[str, Any]:
        """One object of `conditions` in robustness.json."""
        values = asdict(self)
        return {**{k: v for k, v in values.items() if k != "figures"}, **values["figures"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessLimits:
    """What a sweep may find and still pass.

    Attributes:
        max_eer_increase: Percentage points by which the EER may grow under any condition.
        max_flips: Decisions that may change under any condition.
    """

    max_eer_increase: float | None = None
    max_flips: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessReport:
    """The result of a sweep.

    Attributes:
        setting: What was swept.
        conditions: In the order they were given.
        clean: Figures of the clips as they are.
        threshold: Decision threshold, or None when a class is missing and none was given.
        threshold_source: "given", "clean EER" or None.
        failures: Trials without a score: {"utterance", "condition", "error"}; the first of them.
        n_done: Trials gone through.
        complete: Whether those are all.
        seconds: Wall time.
    """

    setting: Setting
    conditions: tuple[ConditionResult, ...]
    clean: dict[str, Any]
    threshold: float | None
    threshold_source: str | None
    failures: tuple[dict[str, str], ...]
    n_done: int
    complete: bool
    seconds: float

    @property
    def n_failed(self) -> int:
        """Trials, and conditions of trials, that should have a score and have none."""
        return int(self.clean["n_failed"]) + sum(c.figures.n_failed for c in self.conditions)

    def worst(self) -> dict[str, str | None]:
        """The conditions with the largest EER increase, the most flips, the largest mean drift."""
        return {
            "eer": self._largest("eer_change"),
            "flips": self._largest("flips"),
            "drift": self._largest("mean_abs_drift"),
        }

    def breaches(self, limits: RobustnessLimits) -> tuple[str, ...]:
        """The limits that do not hold, or that nothing can be said of, in words."""
        found = []
        if limits.max_eer_increase is not None and self.clean["eer_percent"] is None:
            found.append("the EER is not known without trials of both classes")
        if limits.max_flips is not None and self.threshold is None:
            found.append("flips are not known without a threshold")
        for one in self.conditions:
            rise, flips = one.figures.eer_change, one.figures.flips
            most = limits.max_eer_increase
            if most is not None and rise is not None and rise > most:
                found.append(f"{one.name} raises the EER by {rise:.2f} points, over {most:g}")
            if limits.max_flips is not None and flips is not None and flips > limits.max_flips:
                found.append(f"{one.name} flips {flips} decisions, over {limits.max_flips}")
        return tuple(found)

    def to_dict(self, limits: RobustnessLimits | None = None) -> dict[str, Any]:
        """The report as plain JSON types, without `created`, `command` and `environment`."""
        limits = limits or RobustnessLimits()
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "seed": self.setting.seed,
            "window": self.setting.window,
            "dataset": {**self.setting.dataset, "n_done": self.n_done},
            "model": self.setting.model,
            "backend": self.setting.backend,
            "threshold": {"value": self.threshold, "source": self.threshold_source},
            "clean": self.clean,
            "conditions": [one.to_dict() for one in self.conditions],
            "worst": self.worst(),
            "limits": asdict(limits),
            "breaches": list(self.breaches(limits)),
            "failures": list(self.failures),
            "seconds": self.seconds,
        }

    def _largest(self, figure: str) -> str | None:
        values = [(getattr(one.figures, figure) or 0, one.name) for one in self.conditions]
        largest = max(values, key=lambda pair: pair[0], default=(0, ""))
        return largest[1] if largest[0] > 0 else None


def report_of(
    items: Sequence[TrialScores],
    conditions: Sequence[Condition],
    setting: Setting,
    *,
    seconds: float,
    complete: bool,
) -> RobustnessReport:
    """Measure what a sweep, or the part of it that was done, found.

    Args:
        items: What `scores_of` gave for these conditions.
        conditions: The same that it was given.
        setting: What was swept.
        seconds: Wall time.
        complete: Whether `items` are all trials.
    """
    clean = np.array([item.clean for item in items], np.float64)
    is_bonafide = np.array([item.is_bonafide for item in items], np.bool_)
    utterances = [item.utterance for item in items]
    shape = (len(items), len(conditions))
    scores = np.array([item.scores for item in items], np.float64).reshape(shape)
    outcomes = np.array([item.outcomes for item in items], np.uint8).reshape(shape)
    # What could not be read or scored at all is counted once, under clean.
    outcomes[~np.isfinite(clean)] = Outcome.UNAVAILABLE
    figures, threshold = clean_figures(clean, is_bonafide, setting.threshold)
    results = []
    for index, condition in enumerate(conditions):
        n_of = np.bincount(outcomes[:, index], minlength=len(Outcome))
        results.append(
            ConditionResult(
                name=condition.name,
                family=condition.family,
                meaning=condition.meaning,
                parameters=dict(condition.parameters),
                status="measured" if condition.unavailable is None else "unavailable",
                reason=condition.unavailable,
                figures=figures_of(
                    clean,
                    scores[:, index],
                    is_bonafide,
                    threshold,
                    utterances=utterances,
                    n_unchanged=int(n_of[Outcome.UNCHANGED]),
                    n_not_applicable=int(n_of[Outcome.NOT_APPLICABLE]),
                    n_failed=int(n_of[Outcome.FAILED]),
                    first_note=next(
                        (item.notes[index] for item in items if index in item.notes), None
                    ),
                ),
            )
        )
    source = None if threshold is None else "clean EER" if setting.threshold is None else "given"
    return RobustnessReport(
        setting=setting,
        conditions=tuple(results),
        clean=figures,
        threshold=threshold,
        threshold_source=source,
        failures=tuple(islice(_failures(items, outcomes, conditions), MAX_FAILURES)),
        n_done=len(items),
        complete=complete,
        seconds=seconds,
    )


def _failures(
    items: Sequence[TrialScores], outcomes: NDArray[np.uint8], conditions: Sequence[Condition]
) -> Iterator[dict[str, str]]:
    """Those of clean clips, in the order of the dataset, and then those of conditions."""
    for item in items:
        if item.error is not None:
            yield {"utterance": item.utterance, "condition": "clean", "error": item.error}
    for row, index in np.argwhere(outcomes == Outcome.FAILED):
        item = items[row]
        yield {
            "utterance": item.utterance,
            "condition": conditions[index].name,
            "error": item.notes[index],
        }
