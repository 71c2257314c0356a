"""Arithmetic of a window: what convolutions and matrix products of a graph must compute.

One multiplication and one addition are two operations. Only Conv, MatMul, Gemm and the recurrent
layers count: all else is under a hundredth of AASIST's arithmetic, and a fraction of the rate of
matrix products can be taken of matrix products only.
"""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines import missing_packages
from aasist_deploy.engines.onnx import import_onnxruntime
from aasist_deploy.engines.openvino_graph import openvino_core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Shape = list[int]

# Where the weight or second factor of a product lies among the inputs of quantized operators.
_SECOND: Final = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "MatMul": 1, "MatMulInteger": 1}
_GATES: Final = {"GRU": 3, "LSTM": 4, "RNN": 1}


def operations_of_onnx(path: Path, n_samples: int) -> int | None:
    """Operations for one window of an exported file, or None where no runtime here can tell.

    The shapes are those of a real run in ONNX Runtime without any rewrite of the graph, from its
    profile; where that is not installed or cannot run the graph, those that OpenVINO derives.
    """
    for backend, count in (("onnx", _by_onnxruntime), ("openvino", _by_openvino)):
        if not _is_here(backend):
            continue
        with suppress(Exception):  # the runtimes' exceptions share no base but this
            return count(path, n_samples)
    return None


def operations_of_checkpoint(path: Path, n_samples: int, code: str | None = None) -> int:
    """Operations for one window of a checkpoint, counted by PyTorch while it computes one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from aasist_deploy.models import load_checkpoint

    model = load_checkpoint(path, code=code).model
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, n_samples))
    return int(counter.get_total_flops())


def operations(kind: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Operations of one ONNX operator from the shapes of its inputs and of its first output."""
    if kind in ("Conv", "ConvInteger", "QLinearConv"):
        weight = inputs[_SECOND[kind]]  # (M, C / groups, kernel...)
        return 2 * math.prod(output) * math.prod(weight[1:])
    if kind in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return 2 * math.prod(output) * inputs[0][-1]
    if kind == "Gemm":  # (M, K) or its transpose
        return 2 * math.prod(output) * (math.prod(inputs[0]) // output[0])
    if kind in _GATES:
        steps, batch, n_in = inputs[0]
        directions, rows, hidden = inputs[2]  # of the recurrent weights
        return 2 * steps * batch * directions * rows * (n_in + hidden)
    return 0


def _is_here(backend: str) -> bool:
    with suppress(KeyError):
        return not missing_packages(backend)
    return False


def _by_onnxruntime(path: Path, n_samples: int) -> int:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "work")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        wave = session.get_inputs()[0]
        n_waves = wave.shape[0] if isinstance(wave.shape[0], int) else 1
        session.run(None, {wave.name: np.zeros((n_waves, n_samples), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    total = 0
    for event in events:
        known: dict[str, Any] = event.get("args", {})
        if "input_type_shape" in known and "op_name" in known:
            shapes = [next(iter(one.values())) for one in known["input_type_shape"]]
            output = next(iter(known["output_type_shape"][0].values()))
            total += operations(known["op_name"], shapes, output)
    return total // n_waves


def _by_openvino(path: Path, n_samples: int) -> int:
    model = openvino_core().read_model(path)
    wave = model.input(0).get_partial_shape()
    n_waves = 1 if wave[0].is_dynamic else wave[0].get_length()
    model.reshape({0: [n_waves, n_samples]})
    return sum(_of_openvino_node(node) for node in model.get_ops()) // n_waves


def _of_openvino_node(node: Any) -> int:  # noqa: ANN401  # openvino has no types
    kind = node.get_type_name()
    if kind not in _OPENVINO:
        return 0
    # A shape that is not fixed raises: the count would be wrong.
    inputs = [list(value.get_shape()) for value in node.input_values()]
    return _OPENVINO[kind](node, inputs, list(node.output(0).get_shape()))


def _openvino_matmul(node: Any, inputs: list[Shape], output: Shape) -> int:  # noqa: ANN401
    depth = inputs[0][-2 if node.get_attributes()["transpose_a"] else -1]
    return 2 * math.prod(output) * depth


def _openvino_recurrent(_node: Any, inputs: list[Shape], _output: Shape) -> int:  # noqa: ANN401
    (batch, steps, n_in), rows_and_hidden = inputs[0], inputs[-2]
    directions, rows, hidden = rows_and_hidden
    return 2 * steps * batch * directions * rows * (n_in + hidden)


_OPENVINO: Final[dict[str, Callable[[Any, list[Shape], Shape], int]]] = {
    "Convolution": lambda _, i, o: 2 * math.prod(o) * math.prod(i[1][1:]),
    "GroupConvolution": lambda _, i, o: 2 * math.prod(o) * math.prod(i[1][2:]),
    "MatMul": _openvino_matmul,
    "GRUSequence": _openvino_recurrent,
    "LSTMSequence": _openvino_recurrent,
    "RNNSequence": _openvino_recurrent,
}
