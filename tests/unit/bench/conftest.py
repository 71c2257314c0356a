"""Workers without processes: they answer with times that the test chose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.bench import Variant
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeWorker:
    """Answers as a worker does; a batch takes `seconds` a window, and a product 0.1 s."""

    def __init__(self, name: str, machine: FakeMachine) -> None:
        self.name, self.machine, self.closed = name, machine, False
        self.calls = 0

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        machine = self.machine
        machine.log.append((self.name, do, values))
        if do == "open":
            return {
                "load_s": 0.5,
                "memory_before_bytes": 30_000_000,
                "device": "nothing, 1 threads",
                "backend": "onnx",
                "architecture": "Fake",
                "precision": machine.precision,
                "sample_rate_hz": 16_000,
                "n_samples": machine.n_samples,
                "min_samples": 800,
                "max_samples": 2_000,
                "batch": machine.batch,
            }
        if do == "score":
            self.calls += 1
            if machine.fail_after.get(self.name, 10**9) < self.calls:
                raise EnvironmentLacks(f"The process of {self.name} was killed by signal 9.")
            if machine.interrupt_after is not None and self.calls > machine.interrupt_after:
                raise KeyboardInterrupt
            seconds = machine.seconds[self.name] * values["batch"]
            calls = values["calls"]
            return {
                "wall_s": [seconds] * calls,
                "cpu_s": [2 * seconds] * calls,
                "finite": machine.finite,
            }
        if do == "memory":
            return {"peak_bytes": 100_000_000 + self.calls, "torch": False}
        if do == "work":
            return {"operations": machine.operations}
        if do == "open_products":
            return {"names": ["fp32, numpy", "fp32, OpenVINO"], "operations": 2_000}
        if do == "product":
            return {"wall_s": {"fp32, numpy": 0.2, "fp32, OpenVINO": 0.1}[values["name"]]}
        assert do == "files"
        return {
            "wall_s": machine.seconds[self.name] * len(values["paths"]),
            "cpu_s": 1.0,
            "n_scored": len(values["paths"]) - 1,
            "errors": ["one is broken"],
            "audio_s": 20.0,
        }

    def close(self) -> None:
        self.closed = True


class FakeMachine:
    """Makes workers, and remembers what each was asked."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"slow": 0.04, "fast": 0.01}
        self.fail_after: dict[str, int] = {}
        self.interrupt_after: int | None = None
        self.batch: list[int | None] = [1, None]
        self.n_samples: int | None = 800
        self.operations: int | None = 200
        self.precision = "fp32"
        self.finite = True
        self.log: list[tuple[str, str, dict[str, Any]]] = []
        self.workers: list[FakeWorker] = []

    def __call__(self, name: str, threads: int) -> FakeWorker:
        assert threads >= 1
        self.workers.append(FakeWorker(name, self))
        return self.workers[-1]


@pytest.fixture
def fake_machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def variant() -> Callable[..., Variant]:
    """Label -> a variant of that name."""
    return lambda label, **fields: Variant(
        label=label, path=Path(f"{label}.onnx"), backend="onnx", **fields
    )
