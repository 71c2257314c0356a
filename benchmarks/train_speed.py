"""Training steps a second: the published structure and recipe written plainly, and our trainer.

    python -m benchmarks.train_speed -o benchmarks/results/DATE-train-cpu.json --batch 8
    python -m benchmarks.train_speed -o benchmarks/results/DATE-train-gpu.json --device cuda
    python -m benchmarks.train_curves -o benchmarks/results/DATE-curves-gpu.json --device cuda

All variants start from the same weights and are measured in one process, in rounds, each round in
another order. Windows are in memory; nothing is decoded or augmented. A step is forward, weighted
cross-entropy, backward and Adam; ours also looks for values that are not finite.
"""

import copy
import os
import time
from collections.abc import Callable
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer

from aasist_deploy.engines.base import usable_cores
from aasist_deploy.models import Aasist, Network, build_model
from aasist_deploy.published import published
from aasist_deploy.trainer.distributed import joined_world
from aasist_deploy.trainer.recipe import Optimizer, Training
from aasist_deploy.trainer.runtime import arithmetic
from aasist_deploy.trainer.step import Stepper, make_optimizer
from benchmarks.common import MODELS, Report, matmul_gflops, noise_waves, summary, timed_ms
from benchmarks.published_structure import as_published

PUBLISHED: Final = "published structure and recipe, plain loop"
PUBLISHED_TF32: Final = "published structure and recipe, PyTorch's default TF32 convolutions"
OURS: Final = {
    "ours, fp32": Training(deterministic=False),
    "ours, fp32, channels-last": Training(deterministic=False, channels_last=True),
    "ours, bf16": Training(deterministic=False, precision="bf16"),
    "ours, bf16, channels-last": Training(
        deterministic=False, precision="bf16", channels_last=True
    ),
}
ON_GPU: Final = {
    "ours, fp32, deterministic": Training(deterministic=True),
    "ours, TF32": Training(deterministic=False, tf32=True),
    "ours, TF32, channels-last": Training(deterministic=False, tf32=True, channels_last=True),
}
# Minutes of compiling; they come last and are left out unless asked for.
COMPILED: Final = {
    "ours, bf16, channels-last, compiled": Training(
        deterministic=False, precision="bf16", channels_last=True, compile=True
    ),
    "ours, TF32, compiled": Training(deterministic=False, tf32=True, compile=True),
}
WARM_UP: Final = 2  # the first step of each variant chooses kernels and allocates

Step = Callable[[], float]


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=2, help="Windows a step; published: 24.")] = 24,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    models: str = ",".join(MODELS),
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also the compiled variants (GPU).")
    ] = False,
    limit_s: Annotated[
        float | None, typer.Option(help="No new round or compilation after so many seconds.")
    ] = None,
) -> None:
    """Measure, print, write one JSON report."""
    # Asked for by deterministic products, and read when the first product is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stop = float("inf") if limit_s is None else time.monotonic() + limit_s
    torch.set_num_threads(usable_cores())
    report = Report(
        output,
        ("aasist-deploy", "torch", "numpy"),
        device=device,
        threads=torch.get_num_threads(),
        rounds=rounds,
        input="noise, seed 0",
        matmul_gflops=matmul_gflops(),
    )
    place = torch.device(device)
    rng = np.random.default_rng(0)
    waves = torch.from_numpy(noise_waves(batch)).to(place)
    labels = torch.from_numpy(rng.permutation(np.arange(batch) % 2)).to(place)
    names = models.split(",")
    bases: dict[str, float] = {}
    for number, model in enumerate(names):
        share = stop if number == len(names) - 1 else middle(stop, len(names) - number)
        variants = OURS | (ON_GPU if waves.is_cuda else {})
        with report.step(model):
            bases[model] = measure(report, model, variants, waves, labels, rounds, share)
    for model in names if compiled and waves.is_cuda else []:
        for variant, training in COMPILED.items():
            if model in bases and time.monotonic() < stop:
                with report.step(f"{model}, {variant}"):
                    measure(
                        report, model, {variant: training}, waves, labels, rounds, stop,
                        base_ms=bases[model],
                    )  # fmt: skip
    report.fact("matmul_gflops_after", matmul_gflops())


def middle(stop: float, parts: int) -> float:
    """The first of so many equal parts of the time that is left."""
    now = time.monotonic()
    return now + (stop - now) / parts


def measure(
    report: Report,
    name: str,
    variants: dict[str, Training],
    waves: torch.Tensor,
    labels: torch.Tensor,
    rounds: int,
    stop: float,
    *,
    base_ms: float | None = None,
) -> float:
    """Interleaved rounds of the published loop and the variants; a row for each.

    Args:
        report: Takes the rows, and the words of a variant that fails.
        name: Of the published model.
        variants: Name -> how ours is run.
        waves: (B, 64_600) on the device.
        labels: (B,) likewise.
        rounds: At most.
        stop: No further round after this time (monotonic).
        base_ms: Median of the published loop, where it was measured already.

    Returns:
        The median time of a step of the published loop, in ms.
    """
    torch.manual_seed(0)
    network = build_model(published(name.lower()).model_config)
    makers: dict[str, Callable[[], Step]] = {}
    if base_ms is None:
        makers[PUBLISHED] = lambda: plain_step(as_published(network), waves, labels)
        if waves.is_cuda:
            makers[PUBLISHED_TF32] = lambda: plain_step(
                as_published(network), waves, labels, tf32=True
            )
    for variant, training in variants.items():
        makers[variant] = _ours(network, training, waves, labels)
    steps: dict[str, Step] = {}
    facts: dict[str, dict[str, Any]] = {}
    so_far: dict[str, dict[str, Any]] = {}
    for each, make in makers.items():
        with report.step(f"{name}, {each}"):
            step = make()
            first_s = timed_ms(step) / 1000
            warm_ms = [timed_ms(step) for _ in range(WARM_UP)][-1]
            facts[each] = {"first_step_s": round(first_s, 2), **peak_memory(step, waves)}
            steps[each] = step
            so_far[each] = {**facts[each], "warm_step_ms": round(warm_ms, 2)}
            report.fact(f"so_far.{name}", so_far)  # kept if the time is up before the first round
    times: dict[str, list[float]] = {each: [] for each in steps}
    names = list(steps)
    for i in range(rounds):
        turn = i % len(names) if names else 0
        for each in names[turn:] + names[:turn]:
            times[each].append(timed_ms(steps[each]))  # a step ends with the loss as a number
        if time.monotonic() > stop:
            break
    base = float(np.median(times[PUBLISHED])) if base_ms is None else base_ms
    for each in names:
        median = float(np.median(times[each]))
        report.row(
            model=name,
            variant=each,
            **summary(times[each], len(waves)),
            steps_per_second=round(1000.0 / median, 4),
            times_faster_than_published=round(base / median, 2),
            **facts[each],
        )
    return base


def peak_memory(step: Step, waves: torch.Tensor) -> dict[str, float | None]:
    """What PyTorch held at most on the GPU during a step, in MiB; None on a CPU."""
    if not waves.is_cuda:
        return {"peak_memory_mib": None}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return {"peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}


def _ours(
    network: Network, training: Training, waves: torch.Tensor, labels: torch.Tensor
) -> Callable[[], Step]:
    return lambda: our_step(copy.deepcopy(network), training, waves, labels)


def plain_step(
    network: Aasist, waves: torch.Tensor, labels: torch.Tensor, *, tf32: bool = False
) -> Step:
    """The published recipe: weights [0.1, 0.9], Adam with weight decay.

    On a GPU with cuDNN's deterministic kernels and without its benchmark, as the published
    configuration says; `tf32` lets convolutions round as PyTorch lets them by default.
    """
    network = network.train().to(waves.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4)
    weights = torch.tensor([0.1, 0.9], device=waves.device)
    criterion = torch.nn.CrossEntropyLoss(weight=weights)

    def step() -> float:
        with torch.backends.cudnn.flags(allow_tf32=tf32, deterministic=True, benchmark=False):
            _, output = network(waves)
            loss = criterion(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.item())  # the published loop sums it up for its progress line

    return step


def our_step(
    network: Network, training: Training, waves: torch.Tensor, labels: torch.Tensor
) -> Step:
    """One step of the trainer on the batch."""
    network = network.train().to(waves.device)
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward = torch.compile(network) if training.compile else network
    indices = torch.arange(len(waves))
    with joined_world(waves.device) as world:
        stepper = Stepper(
            model=network,
            forward=forward,  # type: ignore[arg-type]
            optimizer=make_optimizer(network, Optimizer(), waves.device),
            training=training,
            device=waves.device,
            world=world,
        )

    def step() -> float:
        with arithmetic(training):
            return stepper.step([(waves, labels, indices)], 1e-4, stop_asked=False).loss

    return step


if __name__ == "__main__":
    typer.run(main)
