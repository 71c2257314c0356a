"""The small network on OpenVINO, and CPUs that this one pretends to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy import open_engine
from aasist_deploy.engines import cpu_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def engine(small_onnx: Callable[..., Path]) -> Iterator[Any]:
    with open_engine(small_onnx(), "openvino", threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Makes this CPU another one: a made-up text in place of the kernel's."""

    def pretend(text: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(cpu_features, "CPUINFO", path)
        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(variable, raising=False)

    return pretend
