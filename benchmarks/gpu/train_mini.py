"""Train aasist-l-mini: several settings at once on one GPU, the best of them by dev alone.

    python -m benchmarks.gpu.train_mini --root LA --out RUNS --seconds 150

Each run is `aasist-deploy train aasist-l-mini` with the settings of its row in `RUNS`. How many
epochs fit is estimated from a few timed steps; a run that is not done when the time is up is asked
to end, and keeps the best weights so far. `runs.json` in the folder of the runs tells of all of
them, and `best` is a copy of the best.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Any, Final

import typer

from benchmarks.common import machine, versions

RECIPE: Final = "aasist-l-mini"
# What is tried beside the recipe as it is; one thing is changed at a time, and the seed.
RUNS: Final[dict[str, dict[str, Any]]] = {
    "as-is": {"seed": 1},
    "full-window": {"seed": 2, "crop_samples": 64_600},
    "more-rawboost": {"seed": 3, "rawboost": "4", "rawboost_probability": 0.8},
    "short-window": {"seed": 4, "crop_samples": 26_000},
    "slower": {"seed": 5, "lr": 3e-4},
}
N_TRAIN: Final = 278
START_S: Final = 18.0  # imports, CUDA, workers, the first epoch's decoding
EPOCH_S: Final = 0.5  # scoring dev, writing states
TOGETHER: Final = (
    0.7  # runs side by side fill each other's gaps: time of n is 0.7 n times that of one
)
END_S: Final = 8.0  # for a run that is asked to end, and for packing
MOST_EPOCHS: Final = 400
LEAST_EPOCHS: Final = 20
SHM_PART: Final = 0.5  # of /dev/shm that batches on their way may take
IN_FLIGHT: Final = 3  # batches of each worker
KEPT: Final = (
    "best.safetensors", "best.json", "recipe.toml", "log.jsonl", "scores.dev.txt", "curves.png",
    "log.csv",
)  # fmt: skip


def main(
    root: Annotated[Path, typer.Option(help="The corpus: train and dev splits.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs.")],
    seconds: Annotated[float, typer.Option(help="For everything.")] = 150.0,
    only: Annotated[str, typer.Option(help="Names of runs, with commas; all by default.")] = "",
    epochs: Annotated[int | None, typer.Option(help="In place of the estimate.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="For all runs.")] = None,
) -> None:
    """Train, choose, copy."""
    began = time.monotonic()
    chosen = {name: RUNS[name] for name in (only.split(",") if only else RUNS)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    step_s = timed_step(chosen, set_ or [])
    if epochs is None:
        left = seconds - (time.monotonic() - began) - START_S - END_S
        steps = N_TRAIN // 24
        per_epoch = steps * step_s * max(1.0, TOGETHER * len(chosen)) + EPOCH_S
        epochs = max(LEAST_EPOCHS, min(MOST_EPOCHS, int(left / per_epoch)))
    workers = n_workers(len(chosen))
    print(f"a step alone takes {step_s * 1e3:.1f} ms; {epochs} epochs, {workers} workers a run")
    started = {}
    for name, settings in chosen.items():
        given = {**settings, "epochs": epochs, "workers": workers}
        command = [sys.executable, "-m", "aasist_deploy", "train", RECIPE]
        command += ["--root", str(root), "--out", str(out / name), "--set", "tensorboard=false"]
        for text in [*(f"{key}={value}" for key, value in given.items()), *(set_ or [])]:
            command += ["--set", text]
        with (out / f"{name}.txt").open("w") as log:
            started[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    ended = wait(started, deadline=began + seconds - END_S)
    report(out, chosen, ended, epochs=epochs, step_s=step_s, seconds=time.monotonic() - began)


def timed_step(chosen: dict[str, dict[str, Any]], overrides: list[str]) -> float:
    """Seconds that a step of the recipe takes with nothing beside it."""
    import torch

    from aasist_deploy.models import build_model
    from aasist_deploy.trainer.distributed import choose_device
    from aasist_deploy.trainer.recipe import load_recipe
    from benchmarks.train_speed import our_step

    recipe = load_recipe(RECIPE, overrides)
    own = recipe.data.crop_samples or 64_600
    crops = [int(settings.get("crop_samples", own)) for settings in chosen.values()]
    device = choose_device(recipe.training.device)
    waves = 0.1 * torch.randn(recipe.training.batch_size, int(statistics.mean(crops)))
    labels = (torch.arange(len(waves)) % 2).to(device)
    step = our_step(build_model(recipe.model.settings), recipe.training, waves.to(device), labels)
    times = []
    for _ in range(12 if device.type == "cuda" else 2):
        start = time.perf_counter()
        step()  # gives the loss as a number, so the device is done
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def n_workers(n_runs: int) -> int:
    """As many as there are cores for, and as the memory holds that their batches travel through."""
    shm = os.statvfs("/dev/shm")  # where PyTorch puts them
    batch_bytes = 24 * 64_600 * 4
    fit = int(SHM_PART * shm.f_bavail * shm.f_frsize / (n_runs * IN_FLIGHT * batch_bytes))
    return max(0, min(len(os.sched_getaffinity(0)) // n_runs, fit))


def wait(started: dict[str, subprocess.Popen[bytes]], deadline: float) -> dict[str, str]:
    """How each run ended; one that is late is asked to, and killed when it does not."""
    while time.monotonic() < deadline and any(run.poll() is None for run in started.values()):
        time.sleep(0.5)
    ended = {}
    for run in started.values():
        if run.poll() is None:
            run.send_signal(signal.SIGTERM)
    for name, run in started.items():
        try:
            code = run.wait(timeout=max(0.1, deadline + END_S / 2 - time.monotonic()))
            ended[name] = "done" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            run.kill()
            ended[name] = "killed"
    return ended


def report(
    out: Path, chosen: dict[str, dict[str, Any]], ended: dict[str, str], **facts: object
) -> None:
    """Write runs.json and copy the run that is best on dev: lowest EER, then lowest loss."""
    rows: list[dict[str, Any]] = []
    for name, settings in chosen.items():
        found = out / name / "best.json"
        best = json.loads(found.read_text()) if found.is_file() else None
        log = out / name / "log.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        done = [json.loads(line) for line in lines if '"epoch"' in line]
        rows.append(
            {
                "run": name,
                "settings": settings,
                "ended": ended[name],
                "epochs_done": max((row["epoch"] for row in done), default=0),
                "best": best,
            }
        )
    able = [row for row in rows if row["best"] is not None]
    able.sort(key=lambda row: (row["best"]["dev"]["eer"], row["best"]["dev"]["loss"]))
    content = {
        "chosen_on": "dev EER, then dev loss",
        "chosen": able[0]["run"] if able else None,
        "machine": machine(),
        "versions": versions(("torch", "numpy", "soundfile", "soxr")),
        **facts,
        "runs": rows,
    }
    (out / "runs.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))
    if not able:
        for name in chosen:
            print(name, (out / f"{name}.txt").read_text()[-1500:])
        raise SystemExit("no run has weights")
    (out / "best").mkdir(exist_ok=True)
    for name in KEPT:
        if (out / able[0]["run"] / name).is_file():
            shutil.copyfile(out / able[0]["run"] / name, out / "best" / name)


if __name__ == "__main__":
    typer.run(main)
