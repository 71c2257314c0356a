"""Exported graphs of all architectures and precisions in real TensorRT-RTX, without a GPU.

It parses, tells the type of every layer, and builds plans for other machines; it runs nothing here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")

import onnx
from onnx import TensorProto

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.tensorrt_runtime import Messages, TensorRt, load_tensorrt
from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.export.engine_from_onnx import BuildOptions, build_plan
from aasist_deploy.export.precision import lower_precision, rule_islands
from aasist_deploy.export.precision.lowering import value_types
from aasist_deploy.export.tensorrt_network import layers, parse_network, unsupported_nodes
from aasist_deploy.onnx_file import parse_onnx
from aasist_deploy.plan_file import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.trt, pytest.mark.slow, pytest.mark.timeout(900)]

PRECISIONS = ("fp32", "fp16", "bf16")
LOW = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
# TensorRT's name of each type of ONNX.
TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.BOOL: "BOOL",
}
# Operators of the fp32 graph of AASIST and AASIST-L, by the form of graph pooling.
NODES = {"rank": 374, "topk": 338}
# Casts at the borders of islands: 41 to 43 were measured.
MOST_CASTS = 60
MACHINES = ("8.0", "8.6", "8.9", "12.0")  # compute capabilities
NEVER = ("ScatterND", "ScatterElements", "Range", "NonZero", "Loop", "If")

AASISTS = [(name, form) for name in ("AASIST", "AASIST-L") for form in ("rank", "topk")]
OTHERS = [("RawGAT-ST", "rank"), ("RawNet2-small", "topk")]


@pytest.fixture(scope="module")
def tensorrt() -> TensorRt:
    return load_tensorrt("tensorrt_rtx")


@pytest.fixture(scope="module")
def graph(
    exported: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """(name, form of pooling, precision) -> the exported file, made once."""
    folder = tmp_path_factory.mktemp("graphs")

    def get(name: str, form: str, precision: str = "fp32") -> Path:
        path = folder / f"{name}.{form}.{precision}.onnx"
        if precision == "fp32":
            return exported(name, form)
        if not path.exists():
            source = exported(name, form)
            contract, _ = read_contract(source)
            model = onnx.load(source)
            islands = list(rule_islands(model, precision))
            low = lower_precision(model, precision, islands)
            digest = parse_onnx(low.SerializeToString(), path).graph_sha256
            said = replace(
                contract, precision=precision, fp32_nodes=tuple(islands), graph_sha256=digest
            )
            onnx.helper.set_model_props(low, said.to_metadata())
            path.write_bytes(low.SerializeToString())
        return path

    return get


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "form"), [*AASISTS, *OTHERS])
def test_every_node_parses_and_every_layer_has_the_type_of_the_graph(
    name: str, form: str, precision: str, graph: Callable[..., Path], tensorrt: TensorRt
) -> None:
    path = graph(name, form, precision)
    contract, file = read_contract(path)
    messages = Messages(tensorrt)
    assert unsupported_nodes(tensorrt, messages, file.content) == []
    network = parse_network(tensorrt, messages, file.content, contract, path)
    listed = layers(network.definition)

    wanted = value_types(onnx.load(path))
    given = {out["name"]: out["type"] for layer in listed for out in layer["outputs"]}
    compared = wanted.keys() & given.keys()
    assert {n: given[n] for n in compared} == {n: TYPES[wanted[n]] for n in compared}
    assert len(compared) > len(onnx.load(path).graph.node) / 2

    convolutions = Counter(
        out["type"]
        for layer in listed
        if layer["type"] == "CONVOLUTION"
        for out in layer["outputs"]
    )
    assert set(convolutions) == {LOW[precision]}
    for layer in listed:
        if layer["type"] in ("SOFTMAX", "TOPK"):
            assert layer["outputs"][0]["type"] == "FLOAT", layer["name"]
    inputs = [network.definition.get_input(0)]
    outputs = [network.definition.get_output(i) for i in range(network.definition.num_outputs)]
    assert {tensor.name for tensor in outputs} == set(contract.outputs)
    assert {tensor.dtype.name for tensor in [*inputs, *outputs]} == {"FLOAT"}
    assert [line for line in messages.lines if line[0] != "WARNING"] == []


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "form"), AASISTS)
def test_graphs_of_aasist_have_no_operator_that_tensorrt_is_slow_or_wary_of(
    name: str, form: str, precision: str, graph: Callable[..., Path]
) -> None:
    nodes = Counter(node.op_type for node in onnx.load(graph(name, form, precision)).graph.node)
    assert not set(nodes) & set(NEVER)
    assert ("TopK" in nodes) == (form == "topk")
    if precision == "fp32":
        assert nodes.total() == NODES[form]
    else:
        assert NODES[form] < nodes.total() <= NODES[form] + MOST_CASTS


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "form"), [*AASISTS, *OTHERS])
def test_plan_is_built_for_a_dynamic_batch_on_each_machine(
    name: str, form: str, precision: str, graph: Callable[..., Path], tmp_path: Path
) -> None:
    options = BuildOptions(for_sm=MACHINES, profiles=((1, 8, 32),))
    result = build_plan(graph(name, form, precision), tmp_path / "model.plan", options, cache=False)
    plan, content = read_plan(result.path)
    assert (plan.sm, plan.profiles) == (" ".join(MACHINES), ((1, 8, 32),))
    assert plan.contract.precision == precision
    assert len(content) > graph(name, form, precision).stat().st_size / 2  # the weights are in it


def test_too_little_memory_for_a_profile_is_told(
    graph: Callable[..., Path], tmp_path: Path
) -> None:
    options = BuildOptions(for_sm=("8.6",), profiles=((64, 128, 512),))
    with pytest.raises(EnvironmentLacks, match=r"OutOfMemory \(Requested size was") as caught:
        build_plan(graph("AASIST", "rank"), tmp_path / "model.plan", options, cache=False)
    assert "begins at 1" in str(caught.value.fix)
    wider = replace(options, profiles=((1, 128, 512),))
    result = build_plan(graph("AASIST", "rank"), tmp_path / "model.plan", wider, cache=False)
    assert result.contract.max_batch == 512
