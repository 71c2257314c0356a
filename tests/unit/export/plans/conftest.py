"""Small graphs that plans are built from, and a cache that is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra export")
from onnx import TensorProto, helper, numpy_helper

from aasist_deploy.contract import ModelContract
from aasist_deploy.export.engine_from_onnx import BuildOptions
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

N_SAMPLES = 64
FOR_86 = BuildOptions(for_sm=("8.6",))
WEIGHT = np.random.default_rng(0).normal(size=(N_SAMPLES, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("AASIST_DEPLOY_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """(nodes, weights, contract) -> an exported file whose graph takes waves of 64 samples."""

    def make(
        nodes: list[Any] | None = None,
        weights: dict[str, NDArray[Any]] | None = None,
        graph_samples: int = N_SAMPLES,
        graph_batch: str | int = "batch",
        **contract: Any,
    ) -> Path:
        graph = helper.make_graph(
            nodes or [helper.make_node("MatMul", ["wave", "w"], ["logits"], name="head")],
            "g",
            [
                helper.make_tensor_value_info(
                    "wave", TensorProto.FLOAT, [graph_batch, graph_samples]
                )
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [graph_batch, 2])],
            [numpy_helper.from_array(v, k) for k, v in (weights or {"w": WEIGHT}).items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        path = tmp_path / "model.onnx"
        fields: dict[str, Any] = {
            "architecture": "Head",
            "config": {},
            "sample_rate_hz": 16_000,
            "n_samples": graph_samples,
            "min_samples": graph_samples,
            "outputs": {"logits": "logits of spoof and bona fide, (batch, 2)"},
            "checkpoint_sha256": "0" * 64,
            "graph_sha256": parse_onnx(made.SerializeToString(), path).graph_sha256,
            **contract,
        }
        helper.set_model_props(made, ModelContract(**fields).to_metadata())
        path.write_bytes(made.SerializeToString())
        return path

    return make
