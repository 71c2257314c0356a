"""What it does to PyTorch on a Linux CPU that freed memory is used again, by network and batch.

    python -m benchmarks.freed_memory --checkpoint AASIST.pth -o REPORT.json

The setting is for a whole process and for good, so each variant has a process of its own; they take
turns, and each answers with the wall-clock and the CPU time of its turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.common import N_SAMPLES, Report

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# Name -> whether it is the published structure, and whether freed memory is kept.
VARIANTS: Final = {
    "published structure": (True, False),
    "published structure, memory kept": (True, True),
    "ours": (False, False),
    "ours, memory kept": (False, True),
}


def serve(pipe: Connection, path: Path, published: bool, kept: bool, threads: int) -> None:
    """Time one call for each batch size that comes."""
    import torch

    from aasist_deploy.models import keep_freed_memory, load_checkpoint
    from benchmarks.published_structure import published_or_trained

    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    ours = load_checkpoint(path).model.eval()
    network = published_or_trained(ours) if published else ours
    random = np.random.default_rng(0)
    while (batch := pipe.recv()) is not None:
        waves = torch.from_numpy(random.uniform(-0.5, 0.5, (batch, N_SAMPLES)).astype(np.float32))
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            network(waves)
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    report = Report(options.output, ("aasist-deploy", "torch"), note=options.note)
    spawn: Any = multiprocessing.get_context("spawn")
    pipes = {}
    for name, (published, kept) in VARIANTS.items():
        pipes[name], other = spawn.Pipe()
        given = (other, options.checkpoint, published, kept, options.threads)
        spawn.Process(target=serve, args=given, daemon=True).start()

    def turn(name: str, batch: int) -> tuple[float, float]:
        pipes[name].send(batch)
        seconds: tuple[float, float] = pipes[name].recv()
        return seconds

    for batch in options.batches:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
        for name in VARIANTS:
            turn(name, batch)  # to warm up
        for _ in range(options.rounds):
            for name in VARIANTS:
                times[name].append(turn(name, batch))
        first = np.array(times["published structure"])
        for name, pairs in times.items():
            found = np.array(pairs)
            wall, cpu = np.median(found, axis=0)
            report.row(
                batch=batch,
                variant=name,
                wall_ms=round(1000 * wall, 1),
                cpu_ms=round(1000 * cpu, 1),
                times_as_fast=round(float(np.median(first[:, 0] / found[:, 0])), 2),
            )
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    main()
