"""What benchmarks share: the machine, versions, medians, and a report written as it grows.

Only the standard library and numpy, and Python 3.10: one of the benchmarks runs under the Python
that its TensorRT was built for.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SCHEMA: Final = "aasist-deploy/benchmark/1"
MODELS: Final = ("AASIST", "AASIST-L")
N_SAMPLES: Final = 64_600  # a window of the published models, 4.0375 s at 16 kHz

Waves = NDArray[np.float32]


class Report:
    """A JSON report that is on disk after every row, so that a crash loses one row at most.

    Args:
        path: Where it is written.
        packages: Distributions whose versions are recorded.
        facts: Anything else that belongs at the top.
    """

    def __init__(self, path: Path, packages: Sequence[str], **facts: object) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": _command(),
            "machine": machine(),
            "versions": versions(packages),
            **facts,
            "rows": [],
            "errors": [],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save()

    def fact(self, name: str, value: object) -> None:
        """Set a top-level entry."""
        self.content[name] = value
        self.save()
        print(f"{name}: {json.dumps(value)[:600]}", flush=True)

    def row(self, **values: object) -> None:
        """Add a measurement."""
        self.content["rows"].append(values)
        self.save()
        print("  ".join(f"{k}={_short(v)}" for k, v in values.items()), flush=True)

    def error(self, where: str, error: BaseException | str) -> None:
        """Record what failed, in its own words."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.content["errors"].append({"where": where, "error": text[:4000]})
        self.save()
        print(f"FAILED {where}: {text[:400]}", flush=True)

    @contextmanager
    def step(self, where: str) -> Iterator[None]:
        """A step whose failure is recorded and does not stop the next one."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # recorded, whatever it is
            self.error(where, error)

    def save(self) -> None:
        """Write the file; a reader never sees half of it."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def summary(times_ms: Sequence[float], batch: int) -> dict[str, float | int]:
    """Median and 95th percentile of the time of a batch, and windows per second at the median."""
    median = float(np.median(times_ms))
    return {
        "batch": batch,
        "median_ms": round(median, 4),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 4),
        "windows_per_second": round(1000.0 * batch / median, 1),
        "repeats": len(times_ms),
    }


@contextmanager
def turn() -> Iterator[None]:
    """Have the GPU alone while something is timed.

    The file named by GPU_TURN is the lock of a machine on which several processes time; where it is
    not set, or GPU_TURN_TAKEN says that the caller holds it, nothing is waited for.
    """
    path = os.environ.get("GPU_TURN")
    if not path or os.environ.get("GPU_TURN_TAKEN"):
        yield
        return
    import fcntl

    with Path(path).open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def timed_ms(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000.0


def repeat_ms(
    once: Callable[[], float], *, seconds: float, at_least: int = 3, at_most: int = 200
) -> list[float]:
    """Call `once`, which returns its own time in ms, until the time is used up."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < at_least or (time.perf_counter() < stop and len(times) < at_most):
        times.append(once())
    return times


def matmul_gflops(size: int = 2048, repeats: int = 5) -> float:
    """Rate of float32 matrix products through numpy: what the machine can do now."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    a @ b
    best = min(timed_ms(lambda: a @ b) for _ in range(repeats))
    return round(2.0 * size**3 / best / 1e6, 1)


def noise_waves(n_waves: int, seed: int = 0) -> Waves:
    """Noise at speech-like levels; no operator of the network takes another time on speech."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((n_waves, N_SAMPLES))).astype(np.float32)


def eer_threshold(
    scores: NDArray[np.floating[Any]], bonafide: NDArray[np.bool_]
) -> tuple[float, float]:
    """(EER, threshold) where misses and false alarms are nearest; scores above it are bona fide."""
    order = np.argsort(scores, kind="stable")
    miss = np.concatenate([[0.0], np.cumsum(bonafide[order]) / max(int(bonafide.sum()), 1)])
    n_spoof = max(int((~bonafide).sum()), 1)
    alarm = np.concatenate([[1.0], 1.0 - np.cumsum(~bonafide[order]) / n_spoof])
    at = int(np.argmin(np.abs(miss - alarm)))
    edges = np.concatenate([[-np.inf], scores[order], [np.inf]]).astype(float)
    low, high = edges[at], edges[at + 1]
    middle = (
        (low + high) / 2
        if np.isfinite(low + high)
        else float(scores[order][min(at, len(order) - 1)])
    )
    return float((miss[at] + alarm[at]) / 2), float(middle)


def drift(
    logits: NDArray[np.floating[Any]], golden: NDArray[np.float32], bonafide: NDArray[np.bool_]
) -> dict[str, float | int]:
    """How far scores are from the reference, and what that does to decisions.

    Args:
        logits: (B, 2) of the variant.
        golden: (B, 2) of the published code in float32.
        bonafide: (B,) the truth.

    Returns:
        Largest and mean difference of a logit; rank correlation of the scores; decisions that
        flipped at 0 and at the reference's EER threshold; both EERs.
    """
    difference = np.abs(logits.astype(np.float64) - golden)
    score, reference = logits[:, 1].astype(np.float64), golden[:, 1].astype(np.float64)
    eer, threshold = eer_threshold(reference, bonafide)
    ranks = [np.argsort(np.argsort(s, kind="stable")) for s in (score, reference)]
    return {
        "clips": len(score),
        "not_finite": int(np.count_nonzero(~np.isfinite(logits).all(axis=1))),
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "rank_correlation": float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(score) > 1 else 1.0,
        "flipped_at_0": int(((score > 0) != (reference > 0)).sum()),
        "flipped_at_eer_threshold": int(((score > threshold) != (reference > threshold)).sum()),
        "eer": eer_threshold(score, bonafide)[0],
        "eer_of_reference": eer,
        "threshold_of_reference": threshold,
    }


def machine() -> dict[str, Any]:
    """CPU, cores that this process may use, memory, and the NVIDIA GPU if there is one."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    found: dict[str, Any] = {
        "cpu": cpu,
        "cores": cores,
        "ram_gib": round(ram / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
    }
    query = "name,driver_version,memory.total,compute_cap"
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        found["gpu"] = said.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return found


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _command() -> str:
    """How this program was called, without the places of one machine."""
    return shlex.join(["python", Path(sys.argv[0]).name, *map(_without_place, sys.argv[1:])])


def _without_place(word: str) -> str:
    """A path beside the repository as it is from there, any other absolute one as its name."""
    path = Path(word)
    if not path.is_absolute():
        return word
    beside = Path.cwd().parent
    return f"../{path.relative_to(beside)}" if path.is_relative_to(beside) else path.name


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
