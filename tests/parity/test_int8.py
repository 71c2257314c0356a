"""int8 of the published AASIST on real clips, in the three runtimes that read the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy.audio import N_SAMPLES, fit_length, read_audio
from aasist_deploy.contract import read_contract
from aasist_deploy.engines import missing_packages
from aasist_deploy.engines.openvino_graph import openvino_core
from aasist_deploy.export.int8 import calibrate, quantizable_layers, quantized
from aasist_deploy.export.int8.clip_scales import scaled_name
from aasist_deploy.export.precision.measuring import measure
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_CALIBRATION, N_CLIPS = 4, 4
# The limit of the gate. 24 development clips with these layers: 0.19 at most (docs/int8.md).
INT8_ATOL = 0.5
FIRST = "encoder.1/MaxPool.out"  # what block 2 reads


@pytest.fixture(scope="module")
def low(exported: Callable[..., Path], shared: Path) -> tuple[onnx.ModelProto, Path, int]:
    """Blocks 2 to 5 in int8 with a scale for each clip; the fp32 file; how many convolutions."""
    path = exported("AASIST", "rank")
    model = onnx.load(path)
    layers, _ = quantizable_layers(model, N_SAMPLES)
    chosen = layers[[layer.value for layer in layers].index(FIRST) :]
    waves, _ = clips(shared, "train", N_CALIBRATION)
    seen = calibrate(model, [layer.value for layer in chosen], waves)
    low = quantized(
        model,
        chosen,
        {scaled_name(value): (-1.0, 1.0) for value in seen},
        symmetric=True,
        per_clip={value: max(-a, b) for value, (a, b) in seen.items()},
    )
    return low, path, sum(len(layer.nodes) for layer in chosen)


def clips(shared: Path, split: str, n: int) -> tuple[NDArray[np.float32], list[str]]:
    trials = load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", split).trials[:n]
    waves = [fit_length(read_audio(t.path, max_samples=N_SAMPLES).wave, N_SAMPLES) for t in trials]
    return np.stack(waves), [t.utterance for t in trials]


def test_scores_are_near_the_reference_in_onnxruntime_and_openvino_which_computes_in_int8(
    low: tuple[onnx.ModelProto, Path, int], shared: Path
) -> None:
    if missing_packages("openvino"):
        pytest.skip("needs the extra openvino")
    model, path, n_convolutions = low
    waves, names = clips(shared, "eval", N_CLIPS)
    golden = np.load(shared / "golden" / "AASIST.LA_mini.npz")
    rows = {str(name): index for index, name in enumerate(golden["utt"])}
    reference = golden["logits"][[rows[name] for name in names], 1].astype(np.float64)

    by_onnxruntime = measure(model, read_contract(path)[0], waves).scores
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    by_openvino = np.array([compiled({"wave": w[None]})["score"][0] for w in waves], np.float64)
    for scores in (by_onnxruntime, by_openvino):
        assert 1e-4 < np.abs(scores - reference).max() < INT8_ATOL
    if "INT8" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        made: list[Any] = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
        kinds = [str(info["primitiveType"].value) for info in made]
        assert sum(kind.endswith("_I8") for kind in kinds) >= n_convolutions


def test_tensorrt_reads_the_file(low: tuple[onnx.ModelProto, Path, int]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    from aasist_deploy.engines.tensorrt_runtime import Messages, load_tensorrt
    from aasist_deploy.export.tensorrt_network import layers, parse_network

    tensorrt = load_tensorrt("tensorrt_rtx")
    model, path, n_convolutions = low
    content = model.SerializeToString()
    network = parse_network(tensorrt, Messages(tensorrt), content, read_contract(path)[0], path)
    types = [out["type"] for layer in layers(network.definition) for out in layer["outputs"]]
    assert types.count("INT8") > n_convolutions  # the weights, and what the layers read
