"""A plan on a fake GPU and a fake TensorRT: the engine for plans runs without either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.engines.cuda_memory import CudaContext
from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt
from tests.contracts import N_SAMPLES, contract_of, write_tiny_plan
from tests.unit.engines.trt.fake_cuda import FakeCudaDriver
from tests.unit.engines.trt.fake_tensorrt import FakeTensorRt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class FakePlan:
    """A plan file of the fake TensorRT, and the engine opened on the fake GPU."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "model.plan"
        self.driver = FakeCudaDriver()
        self.module = FakeTensorRt(self.driver, ((1, 4, 8),))
        self.gpu = Gpu(0, "Fake GPU", (9, 0), self.driver.memory_bytes, "13.0")
        self.name = "tensorrt"
        self.fields: dict[str, Any] = {}
        self.contract: dict[str, Any] = {}
        engine = "aasist_deploy.engines.trt"

        def load(name: str) -> TensorRt:
            assert name in ("tensorrt", "tensorrt_rtx")
            return TensorRt(self.module, self.name, self.module.__version__)

        def cuda(gpu: int, _package: str | None) -> CudaContext:
            return CudaContext(self.driver, gpu)

        monkeypatch.setattr(f"{engine}.require_gpu", lambda _index: self.gpu)
        monkeypatch.setattr(f"{engine}.load_tensorrt", load)
        monkeypatch.setattr(f"{engine}.open_cuda", cuda)

    def write(self) -> Path:
        outputs = dict.fromkeys(("score", "logits", "embedding"), "fake")
        plain = {"architecture": "Fake", "outputs": outputs}
        contract = contract_of(**plain | self.contract)
        fields: dict[str, Any] = {"profiles": self.module.profiles, **self.fields}
        return write_tiny_plan(self.path, contract, **fields)

    def open(self, **options: Any) -> Any:
        from aasist_deploy.engines.trt import TrtEngine

        return TrtEngine(self.write(), **options)

    def left(self) -> dict[str, int]:
        """What is still alive on the fake GPU and in the fake TensorRT."""
        return {k: n for k, n in {**self.driver.alive(), **self.module.alive}.items() if n}


@pytest.fixture
def fake_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePlan:
    return FakePlan(tmp_path, monkeypatch)


@pytest.fixture
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(40, N_SAMPLES)
