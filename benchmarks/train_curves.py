"""Does training in TF32 or bf16 follow fp32? Loss curves of short runs, beside other seeds.

    python -m benchmarks.train_curves -o benchmarks/results/DATE-curves-gpu.json --device cuda

All runs see the same batches of real clips in the same order. A seed decides over the first weights
and the dropout; each precision is run with each seed. A row's `gap` is the mean distance of its
smoothed loss from the fp32 run of the same seed, and `seed_gap` that of two fp32 runs of different
seeds: what a change of arithmetic does is no more than what another seed does where `gap` is below
it. The variant "fp32 again" shows what kernels do that add in another order each time.
"""

import itertools
import time
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.models import build_model
from aasist_deploy.published import published
from aasist_deploy.trainer.data import label_of
from aasist_deploy.trainer.distributed import joined_world
from aasist_deploy.trainer.recipe import Optimizer, Training
from aasist_deploy.trainer.runtime import arithmetic
from aasist_deploy.trainer.state import seed_all
from aasist_deploy.trainer.step import Stepper, make_optimizer
from aasist_deploy.trials import load_dataset
from benchmarks.common import Report

BASE: Final = "fp32"
# The published class weights are for nine spoofs to one bona fide clip; here it is turned round.
COMMON: Final[dict[str, Any]] = {"deterministic": False, "class_weights": (0.8, 0.2)}
VARIANTS: Final = {
    BASE: Training(**COMMON),
    "fp32 again": Training(**COMMON),
    "TF32": Training(**COMMON, tf32=True),
    "bf16": Training(**COMMON, precision="bf16"),
    "bf16, channels-last": Training(**COMMON, precision="bf16", channels_last=True),
}
ON_GPU_ALONE: Final = ("TF32",)
SMOOTHED: Final = 10  # steps that a point of the compared curve is the mean of

Curve = NDArray[np.float64]


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    root: Annotated[Path, typer.Option(help="Corpus of ASVspoof 2019 LA: its train split.")] = Path(
        "../shared/data/LA_mini"
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    model: Annotated[str, typer.Option(help="A published model's name.")] = "aasist-l",
    steps: Annotated[int, typer.Option(min=SMOOTHED)] = 60,
    seeds: Annotated[int, typer.Option(min=2)] = 3,
    batch: Annotated[int, typer.Option(min=2)] = 24,
    n_samples: Annotated[int, typer.Option(help="Of a window.")] = 64_600,
    lr: Annotated[float, typer.Option(help="Ten times the published: it is a short run.")] = 1e-3,
    limit_s: Annotated[float | None, typer.Option(help="No new run after so many seconds.")] = None,
) -> None:
    """Train, compare, write one JSON report."""
    stop = float("inf") if limit_s is None else time.monotonic() + limit_s
    torch.set_num_threads(usable_cores())
    place = torch.device(device)
    report = Report(
        output, ("aasist-deploy", "torch", "numpy"), device=device, model=model, steps=steps,
        batch=batch, n_samples=n_samples, lr=lr, smoothed_steps=SMOOTHED,
    )  # fmt: skip
    waves, labels = clips(root, n_samples)
    report.fact("clips", len(waves))
    order = batches(len(waves), batch, steps)
    settings = published(model).model_config
    curves: dict[str, dict[int, Curve]] = {}
    for seed, (variant, training) in itertools.product(range(seeds), VARIANTS.items()):
        if (variant in ON_GPU_ALONE and place.type != "cuda") or time.monotonic() > stop:
            continue
        with report.step(f"{variant}, seed {seed}"):
            began = time.monotonic()
            curve = losses(dict(settings), training, waves, labels, order, seed, lr, place)
            curves.setdefault(variant, {})[seed] = curve
            print(f"{variant}, seed {seed}: {curve[0]:.3f} to {curve[-SMOOTHED:].mean():.3f}, "
                  f"{time.monotonic() - began:.1f} s", flush=True)  # fmt: skip
    compare(report, curves)


def clips(root: Path, n_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, n_samples) windows of the train split and their (N,) classes."""
    trials = load_dataset("asvspoof2019-la", root, "train").trials
    waves = [fit_length(read_audio(t.path).wave[:n_samples], n_samples) for t in trials]
    return torch.from_numpy(np.stack(waves)), torch.tensor([label_of(t) for t in trials])


def batches(n_clips: int, size: int, steps: int) -> list[torch.Tensor]:
    """Indices of each step's batch: shuffled epochs one after another."""
    rng = np.random.default_rng(0)
    epochs = -(-steps // (n_clips // size))
    whole = [rng.permutation(n_clips)[: n_clips // size * size] for _ in range(epochs)]
    return list(torch.split(torch.from_numpy(np.concatenate(whole)), size)[:steps])


def losses(
    settings: dict[str, Any],
    training: Training,
    waves: torch.Tensor,
    labels: torch.Tensor,
    order: list[torch.Tensor],
    seed: int,
    lr: float,
    device: torch.device,
) -> Curve:
    """(steps,) loss of each step, by the trainer's own step."""
    seed_all(seed)
    network = build_model(settings).train().to(device)
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    waves, labels = waves.to(device), labels.to(device)
    with joined_world(device) as world, arithmetic(training):
        stepper = Stepper(
            model=network,
            forward=network,
            optimizer=make_optimizer(network, Optimizer(lr=lr), device),
            training=training,
            device=device,
            world=world,
        )
        found = []
        for step, indices in enumerate(order):
            seed_all(seed, step)
            of_step = (waves[indices], labels[indices], indices)
            found.append(stepper.step([of_step], lr, stop_asked=False).loss)
    return np.array(found)


def smoothed(curve: Curve) -> Curve:
    """Means over SMOOTHED steps, at every step that has as many behind it."""
    return np.convolve(curve, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")


def compare(report: Report, curves: dict[str, dict[int, Curve]]) -> None:
    """A row for each variant, and the curves."""
    base = {seed: smoothed(curve) for seed, curve in curves[BASE].items()}
    pairs = [
        float(np.abs(base[a] - base[b]).mean()) for a, b in itertools.combinations(sorted(base), 2)
    ]
    seed_gap = float(np.mean(pairs)) if pairs else float("nan")
    for variant, by_seed in curves.items():
        gaps = [
            float(np.abs(smoothed(c) - base[s]).mean()) for s, c in by_seed.items() if s in base
        ]
        last = [float(c[-SMOOTHED:].mean()) for c in by_seed.values()]
        report.row(
            variant=variant,
            seeds=len(by_seed),
            first_loss=round(float(np.mean([c[0] for c in by_seed.values()])), 4),
            last_loss=round(float(np.mean(last)), 4),
            last_loss_of_seeds=[round(value, 4) for value in last],
            gap=round(float(np.mean(gaps)), 5) if gaps else None,
            largest_gap_of_a_seed=round(max(gaps), 5) if gaps else None,
            seed_gap=round(seed_gap, 5),
            smallest_seed_gap=round(min(pairs), 5) if pairs else None,
            within_seed_spread=bool(gaps) and bool(pairs) and float(np.mean(gaps)) <= seed_gap,
        )
    report.fact(
        "curves",
        {
            variant: {
                str(seed): [round(float(x), 4) for x in curve] for seed, curve in each.items()
            }
            for variant, each in curves.items()
        },
    )


if __name__ == "__main__":
    typer.run(main)
