"""The process in which one variant lives: it does what the lines on stdin say, and answers each.

A process of its own gives each variant its own load time, its own peak memory and CPU time, and
thread pools that share nothing with those of another variant but the cores. Requests and answers
are JSON, one a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from aasist_deploy.bench.machine import peak_memory_bytes
from aasist_deploy.errors import AasistDeployError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.engines import Engine

NOISE_LEVEL = 0.1  # speech-like; no operator of these networks takes another time on speech


class Worker:
    """Answers requests; the names of its public methods are the requests."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._products: Any = None
        self._waves: dict[tuple[int, int], NDArray[np.float32]] = {}

    def open(self, opener: str, path: str, backend: str, options: dict[str, Any]) -> dict[str, Any]:
        """Open an engine; the time includes the import of its runtime."""
        before = peak_memory_bytes()
        start = time.perf_counter()
        module, _, function = opener.partition(":")
        engine: Engine = getattr(import_module(module), function)(
            Path(path), backend=backend, **options
        )
        seconds = time.perf_counter() - start
        self._engine, contract = engine, engine.contract
        return {
            "load_s": seconds,
            "memory_before_bytes": before,
            "device": engine.device,
            "backend": engine.backend,
            "architecture": contract.architecture,
            "precision": contract.precision,
            "sample_rate_hz": contract.sample_rate_hz,
            "n_samples": contract.n_samples,
            "min_samples": contract.min_samples,
            "max_samples": contract.max_samples,
            "batch": list(contract.batch),
        }

    def score(self, batch: int, n_samples: int, calls: int) -> dict[str, Any]:
        """Score the same noise several times; wall and CPU time of each call, in seconds."""
        assert self._engine is not None
        waves = self._noise(batch, n_samples)
        wall, cpu = [], []
        for _ in range(calls):
            start, start_cpu = time.perf_counter(), time.process_time()
            scores = self._engine.score(waves)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
        finite = bool(np.isfinite(scores).all())
        return {"wall_s": wall, "cpu_s": cpu, "finite": finite}

    def memory(self) -> dict[str, Any]:
        """The largest resident memory of this process so far, and whether torch was imported."""
        return {"peak_bytes": peak_memory_bytes(), "torch": "torch" in sys.modules}

    def files(self, paths: list[str], batch: int) -> dict[str, Any]:
        """Decode and score files as `score` does, once."""
        from aasist_deploy.pipeline import score_files

        assert self._engine is not None
        start, start_cpu = time.perf_counter(), time.process_time()
        rows = list(score_files(self._engine, map(Path, paths), batch=batch))
        return {
            "wall_s": time.perf_counter() - start,
            "cpu_s": time.process_time() - start_cpu,
            "n_scored": sum(row.score is not None for row in rows),
            "errors": [row.error for row in rows if row.error is not None],
            "audio_s": sum(row.seconds or 0.0 for row in rows),
        }

    def work(self, path: str, n_samples: int, code: str | None) -> dict[str, Any]:
        """Operations for one window of a model file, or null."""
        from aasist_deploy.bench.work import operations_of_checkpoint, operations_of_onnx

        if path.endswith(".onnx"):
            return {"operations": operations_of_onnx(Path(path), n_samples)}
        if path.endswith(".plan"):
            return {"operations": None}
        return {"operations": operations_of_checkpoint(Path(path), n_samples, code)}

    def open_products(self, threads: int, size: int) -> dict[str, Any]:
        """Make the matrix products of this machine ready."""
        from aasist_deploy.bench.products import Products

        self._products = Products(threads, size)
        for name in self._products.runs:  # the first of each sets up threads and packs weights
            self._products.run(name)
        return {"names": list(self._products.runs), "operations": self._products.operations}

    def product(self, name: str) -> dict[str, Any]:
        """Time one matrix product."""
        start = time.perf_counter()
        self._products.run(name)
        return {"wall_s": time.perf_counter() - start}

    def _noise(self, batch: int, n_samples: int) -> NDArray[np.float32]:
        key = batch, n_samples
        if key not in self._waves:
            random = np.random.default_rng(0)
            waves = NOISE_LEVEL * random.standard_normal((batch, n_samples), dtype=np.float32)
            self._waves = {key: waves}
        return self._waves[key]


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        method: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
        answer: dict[str, Any]
        try:
            answer = method(**request)
        except AasistDeployError as error:
            answer = {"error": type(error).__name__, "message": str(error), "fix": error.fix}
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises is said, not lost
            answer = {"error": "", "message": f"{type(error).__name__}: {error}", "fix": None}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on stdin and stdout; what runtimes print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
