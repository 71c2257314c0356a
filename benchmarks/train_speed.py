"""Training steps a second: the published structure and recipe written plainly, and our trainer.

    python -m benchmarks.train_speed -o benchmarks/results/DATE-train-cpu.json --batch 8
    python -m benchmarks.train_speed -o benchmarks/results/DATE-train-gpu.json --device cuda

All variants start from the same weights and are measured in one process, in rounds, each round in
another order. Windows are in memory; nothing is decoded or augmented. A step is forward, weighted
cross-entropy, backward and Adam; ours also looks for values that are not finite.
"""

import copy
from collections.abc import Callable
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

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

PUBLISHED = "published structure and recipe, plain loop"
OURS = {
    "ours, fp32": Training(deterministic=False),
    "ours, fp32, channels-last": Training(deterministic=False, channels_last=True),
    "ours, bf16": Training(deterministic=False, precision="bf16"),
    "ours, bf16, channels-last": Training(
        deterministic=False, precision="bf16", channels_last=True
    ),
}
ON_GPU = {
    "ours, TF32": Training(deterministic=False, tf32=True),
    "ours, bf16, channels-last, compiled": Training(
        deterministic=False, precision="bf16", channels_last=True, compile=True
    ),
}


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=2, help="Windows a step; published: 24.")] = 24,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    models: str = ",".join(MODELS),
) -> None:
    """Measure, print, write one JSON report."""
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
    for model in models.split(","):
        with report.step(model):
            measure(report, model, waves, labels, rounds)
    report.fact("matmul_gflops_after", matmul_gflops())


def measure(
    report: Report, name: str, waves: torch.Tensor, labels: torch.Tensor, rounds: int
) -> None:
    """Interleaved rounds of all variants; a row for each."""
    torch.manual_seed(0)
    network = build_model(published(name.lower()).model_config)
    steps: dict[str, Callable[[], object]] = {
        PUBLISHED: plain_step(as_published(network), waves, labels)
    }
    for variant, training in (OURS | (ON_GPU if waves.is_cuda else {})).items():
        steps[variant] = our_step(copy.deepcopy(network), training, waves, labels)
    names = list(steps)
    for each in names:
        steps[each]()
    peaks = dict.fromkeys(names, 0.0)
    for each in names:
        if waves.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        steps[each]()
        if waves.is_cuda:
            torch.cuda.synchronize()
            peaks[each] = torch.cuda.max_memory_allocated() / 2**20

    def timed(each: str) -> float:
        def step() -> None:
            steps[each]()
            if waves.is_cuda:
                torch.cuda.synchronize()

        return timed_ms(step)

    times: dict[str, list[float]] = {each: [] for each in names}
    for i in range(rounds):
        turn = i % len(names)
        for each in names[turn:] + names[:turn]:
            times[each].append(timed(each))
    base = float(np.median(times[PUBLISHED]))
    for each in names:
        median = float(np.median(times[each]))
        report.row(
            model=name,
            variant=each,
            **summary(times[each], len(waves)),
            steps_per_second=round(1000.0 / median, 4),
            times_faster_than_published=round(base / median, 2),
            peak_memory_mib=round(peaks[each], 1) or None,
        )


def plain_step(network: Aasist, waves: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """The published recipe: float32, weights [0.1, 0.9], Adam with weight decay."""
    network = network.train().to(waves.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4)
    weights = torch.tensor([0.1, 0.9], device=waves.device)
    criterion = torch.nn.CrossEntropyLoss(weight=weights)

    def step() -> float:
        with torch.backends.cudnn.flags(allow_tf32=False):
            _, output = network(waves)
            loss = criterion(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.item())  # the published loop sums it up for its progress line

    return step


def our_step(
    network: Network, training: Training, waves: torch.Tensor, labels: torch.Tensor
) -> Callable[[], float]:
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
