"""Interleaved rounds: every variant once a round, in another order each round.

Whatever else the machine does then falls on all variants alike, and a ratio of two of them is taken
within a round, where it does least harm.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from aasist_deploy.audio import N_SAMPLES
from aasist_deploy.bench.process import WorkerProcess
from aasist_deploy.bench.products import PRODUCT_SIZE
from aasist_deploy.errors import AasistDeployError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from aasist_deploy.bench.variants import Variant

WARM_UP_CALLS: Final = 2
TURN_S: Final = (
    0.2  # a turn is as many calls as fill this time, so that fast ones are not all noise
)
MOST_CALLS: Final = 20


class Asked(Protocol):
    """What answers requests: a `WorkerProcess`, or a stand-in in tests."""

    def ask(self, do: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """The answer to one request."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run measures.

    Attributes:
        batches: Batch sizes, each >= 1.
        threads: Of every engine and matrix product.
        rounds: How often each variant has its turn.
        files: Audio to decode and score in every round; none: windows in memory alone.
        product_size: Rows of the square matrices of the matrix products.
        seed: Of the order of turns.
    """

    batches: tuple[int, ...] = (1, 8)
    threads: int = 1
    rounds: int = 11
    files: tuple[Path, ...] = ()
    product_size: int = PRODUCT_SIZE
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.batches or min(self.batches) < 1:
            raise UsageError(
                f"The batch sizes are {', '.join(map(str, self.batches)) or '(none)'}; each must "
                f"be 1 or more."
            )
        if self.rounds < 1 or self.threads < 1:
            raise UsageError(
                f"There are {self.rounds} rounds and {self.threads} threads; both must be 1 or "
                f"more."
            )


@dataclass(slots=True, kw_only=True)
class Turns:
    """Times of one variant at one batch size.

    Attributes:
        calls: Calls in a turn.
        wall_s: One list a round, of the wall times of the calls of its turn.
        cpu_s: The same of CPU time, of all threads.
        first_s: The first call after loading, which often compiles or allocates.
        peak_bytes: Largest resident memory of the process after calls of this size.
    """

    calls: int = 1
    wall_s: list[list[float]] = field(default_factory=list)
    cpu_s: list[list[float]] = field(default_factory=list)
    first_s: float = 0.0
    peak_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class Measured:
    """What became of one variant.

    Attributes:
        variant: What was measured.
        opened: What its engine said of itself, and how long it took to open.
        n_samples: Length of the windows.
        operations: For one window, or None where they could not be counted.
        turns: Batch size -> times.
        passes: Answers of the passes over files, one a round.
        imported_torch: Whether its process had imported PyTorch.
        error: Why it stopped, or None.
    """

    variant: Variant
    opened: dict[str, Any] = field(default_factory=dict)
    n_samples: int = 0
    operations: int | None = None
    turns: dict[int, Turns] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)
    imported_torch: bool = False
    error: AasistDeployError | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """All times of a run.

    Attributes:
        variants: In the order given.
        product_s: "PRECISION, TOOL" -> wall time of one matrix product, one a round.
        product_operations: Of one matrix product.
        rounds: Rounds that were completed.
        interrupted: Whether the user stopped it before the last round.
    """

    variants: list[Measured]
    product_s: dict[str, list[float]]
    product_operations: int
    rounds: int = 0
    interrupted: bool = False


def measure(
    variants: Sequence[Variant],
    settings: Settings,
    *,
    start: Callable[[str, int], Asked] = WorkerProcess,
    on_step: Callable[[str], None] | None = None,
) -> Run:
    """Open every variant in a process of its own and measure all in interleaved rounds.

    Args:
        variants: What is measured.
        settings: How.
        start: Makes a worker of a name and a number of threads.
        on_step: Called with a sentence before each of `n_steps` steps.

    Raises:
        AasistDeployError: a variant cannot be opened or does not take a batch size. What fails
            later is in its `error`, and the others go on.
    """
    say = on_step or (lambda _: None)
    workers: dict[str, Asked] = {}
    try:
        found = []
        for variant in variants:
            say(f"loading {variant.label}")
            worker = workers[variant.label] = start(variant.label, settings.threads)
            found.append(_opened(worker, variant, settings))
        say("counting operations")
        _count_operations(found, settings, start)
        say("matrix products")
        products = workers["matrix products"] = start("matrix products", settings.threads)
        ready = products.ask("open_products", threads=settings.threads, size=settings.product_size)
        run = Run(
            variants=found,
            product_s={name: [] for name in ready["names"]},
            product_operations=ready["operations"],
        )
        _rounds(run, workers, settings, say)
        return run
    finally:
        for worker in workers.values():
            worker.close()


def n_steps(n_variants: int, settings: Settings) -> int:
    """How often `measure` calls `on_step`."""
    return 2 + n_variants + settings.rounds


def _count_operations(
    found: Sequence[Measured], settings: Settings, start: Callable[[str, int], Asked]
) -> None:
    """Count the arithmetic of each file, in a process that is not measured."""
    counted: dict[tuple[Path, int], int | None] = {}
    counter = start("the counting of operations", settings.threads)
    try:
        for one in found:
            key = one.variant.path, one.n_samples
            if key not in counted:
                counted[key] = counter.ask(
                    "work",
                    path=str(one.variant.path),
                    n_samples=one.n_samples,
                    code=one.variant.options.get("code"),
                )["operations"]
            one.operations = counted[key]
    finally:
        counter.close()


def _rounds(
    run: Run, workers: Mapping[str, Asked], settings: Settings, say: Callable[[str], None]
) -> None:
    order = random.Random(settings.seed)  # noqa: S311  # an order of turns, not a secret
    try:
        for i in range(settings.rounds):
            say(f"round {i + 1} of {settings.rounds}")
            for name, times in run.product_s.items():
                answer = workers["matrix products"].ask("product", name=name)
                times.append(answer["wall_s"])
            for batch in settings.batches:
                for one in order.sample(run.variants, len(run.variants)):
                    _turn(one, workers[one.variant.label], batch)
            if settings.files:
                for one in order.sample(run.variants, len(run.variants)):
                    _pass(one, workers[one.variant.label], settings)
            run.rounds = i + 1
    except KeyboardInterrupt:
        if not run.rounds:
            raise
        run.interrupted = True
    _cut_to_whole_rounds(run)


def _opened(worker: Asked, variant: Variant, settings: Settings) -> Measured:
    """Open the engine, and warm it up at every batch size from the smallest."""
    opened = worker.ask(
        "open",
        opener=variant.opener,
        path=str(variant.path),
        backend=variant.backend,
        options=variant.options,
    )
    smallest, largest = opened["batch"]
    for batch in settings.batches:
        if batch < smallest or (largest is not None and batch > largest):
            raise UsageError(
                f"{variant.label} takes batches of {smallest} to {largest or 'any size'}; "
                f"{batch} was asked for.",
                fix="choose other sizes with --batch, or export it with --batch dynamic",
            )
    measured = Measured(variant=variant, opened=opened, n_samples=_n_samples(opened))
    for batch in sorted(settings.batches):
        values = {"batch": batch, "n_samples": measured.n_samples}
        warm = worker.ask("score", **values, calls=WARM_UP_CALLS)
        if not warm["finite"]:
            raise UsageError(f"{variant.label} gives scores that are no numbers.")
        memory = worker.ask("memory")
        measured.imported_torch = memory["torch"]
        measured.turns[batch] = Turns(
            calls=max(1, min(MOST_CALLS, math.ceil(TURN_S / warm["wall_s"][-1]))),
            first_s=warm["wall_s"][0],
            peak_bytes=memory["peak_bytes"],
        )
    return measured


def _n_samples(opened: Mapping[str, Any]) -> int:
    """Length of the windows: the contract's, or the usual one where the model takes any."""
    if opened["n_samples"] is not None:
        return int(opened["n_samples"])
    longest = opened["max_samples"] or N_SAMPLES
    return int(max(opened["min_samples"], min(N_SAMPLES, longest)))


def _turn(one: Measured, worker: Asked, batch: int) -> None:
    turns = one.turns[batch]
    if one.error is not None:
        return
    try:
        answer = worker.ask("score", batch=batch, n_samples=one.n_samples, calls=turns.calls)
    except AasistDeployError as error:
        one.error = error
        return
    turns.wall_s.append(answer["wall_s"])
    turns.cpu_s.append(answer["cpu_s"])


def _pass(one: Measured, worker: Asked, settings: Settings) -> None:
    if one.error is not None:
        return
    try:
        paths = [str(path) for path in settings.files]
        one.passes.append(worker.ask("files", paths=paths, batch=max(settings.batches)))
    except AasistDeployError as error:
        one.error = error


def _cut_to_whole_rounds(run: Run) -> None:
    """Leave out what an interrupted round had measured, so that rounds can be paired."""
    for times in run.product_s.values():
        del times[run.rounds :]
    for one in run.variants:
        for turns in one.turns.values():
            del turns.wall_s[run.rounds :]
            del turns.cpu_s[run.rounds :]
        del one.passes[run.rounds :]
