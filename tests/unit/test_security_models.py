"""Files of models and weights that mean harm: refused in one sentence, with little memory."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import numpy as np
import onnx
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.torch import save

from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import AasistDeployError, CheckpointError, ModelFileError, TrainingError
from aasist_deploy.models import build_model, load_checkpoint, read_config
from aasist_deploy.onnx_file import parse_onnx, read_onnx_file, with_metadata
from aasist_deploy.trainer.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint

N = 400


class Runs:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_code_in_a_checkpoint_is_not_run(how: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "ran"
    content = {"state_dict": {"a": torch.zeros(1)}, "note": Runs(trace)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(path)
    assert "weights_only" not in str(raised.value)  # PyTorch's advice to run it is not passed on
    assert not trace.exists()


def test_code_in_a_state_of_training_is_not_run(tmp_path: Path) -> None:
    trace, folder = tmp_path / "ran", tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"format": 1, "note": Runs(trace)}, folder / "1.pt")
    digest = sha256((folder / "1.pt").read_bytes()).hexdigest()
    pointer = {"state": "checkpoints/1.pt", "sha256": digest}
    (tmp_path / "last.json").write_text(json.dumps(pointer))
    with pytest.raises(TrainingError, match="is damaged"):
        read_state(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../other.pt", "{absolute}", "checkpoints/../../other.pt"])
def test_pointer_of_a_run_names_no_file_outside_of_it(name: str, tmp_path: Path) -> None:
    outside, run = tmp_path / "other.pt", tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"format": 1}, outside)
    digest = sha256(outside.read_bytes()).hexdigest()
    pointer = {"state": name.format(absolute=outside), "sha256": digest}
    (run / "last.json").write_text(json.dumps(pointer))
    with pytest.raises(TrainingError, match="cannot be read"):
        read_state(run)


@pytest.mark.parametrize(
    "change",
    [
        {"gat_dims": [10**6, 10**6]},
        {"gat_dims": [10**19, 5]},
        {"first_conv": 10**9, "nb_samp": 10**10},
        {"first_conv": 10**30, "nb_samp": 10**31},
        {"filts": [10**8, [1, 32], [32, 32], [32, 64], [64, 64]]},
        {"filts": [70, [1, 10**6], [10**6, 32], [32, 64], [64, 64]]},
        {"nb_samp": 10**30},
        {"temperatures": [float("nan")] * 3},
        {"temperatures": [float("inf")] * 3},
        {"pool_ratios": [float("nan")] * 3},
        {5: 6},
    ],
    ids=str,
)
def test_configuration_out_of_this_world_is_refused_before_memory_is_taken(
    change: dict[Any, Any], small_config: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError):
        build_model({**small_config, **change})


def test_rawnet2_with_a_million_layers_is_refused(golden_checkpoint: Callable[..., Any]) -> None:
    config = golden_checkpoint("RawNet2-small").config
    with pytest.raises(CheckpointError, match="nb_gru_layer"):
        build_model({**config, "nb_gru_layer": 4_000})


@pytest.mark.parametrize("text", ["[" * 5_000, '{"a":' * 5_000, "9" * 5_000])
def test_configuration_without_end_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(tmp_path / "a.conf")
    (tmp_path / "a.safetensors").write_bytes(save({"a": torch.zeros(1)}, {"model_config": text}))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex"])
def test_tensors_that_hold_no_plain_numbers_are_refused(
    kind: str, small_checkpoint: Checkpoint, small_config: dict[str, Any], tmp_path: Path
) -> None:
    state = dict(small_checkpoint.model.state_dict())
    name = "out_layer.weight"
    changed = {
        "sparse": state[name].to_sparse,
        "meta": lambda: torch.empty_like(state[name], device="meta"),
        "complex": lambda: state[name].to(torch.complex64),
    }
    torch.save({**state, name: changed[kind]()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"no plain real numbers on the CPU: {name}"):
        load_checkpoint(tmp_path / "weights.pth", small_config)


def test_a_tensor_that_claims_a_terabyte_takes_no_memory(
    small_config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(path, small_config)


@settings(
    suppress_health_check=list(HealthCheck), deadline=10_000,
    max_examples=60 if settings().max_examples == 100 else settings().max_examples,
)  # fmt: skip
@given(data=st.data())
def test_damaged_safetensors_load_or_raise_one_error(
    data: st.DataObject, small_checkpoint: Checkpoint, small_config: dict[str, Any], tmp_path: Path
) -> None:
    weights = save(
        dict(small_checkpoint.model.state_dict()), {"model_config": json.dumps(small_config)}
    )
    n_header = 8 + int.from_bytes(weights[:8], "little")
    content = bytearray(weights)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, n_header - 1))
        content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content[: data.draw(st.sampled_from((len(content), n_header, 7)))])
    with suppress(CheckpointError):
        load_checkpoint(path)


def model_file(path: Path, graph: onnx.GraphProto, **metadata: str) -> Path:
    """An ONNX file with a contract that fits its graph, as someone who means harm would write."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    contract = ModelContract(
        architecture="AASIST",
        config={},
        sample_rate_hz=16_000,
        n_samples=N,
        min_samples=N,
        outputs={"score": "logit of bona fide, (batch,)"},
        checkpoint_sha256="ab" * 32,
        graph_sha256=sha256(model.graph.SerializeToString()).hexdigest(),
    )
    helper.set_model_props(model, {**contract.to_metadata(), **metadata})
    path.write_bytes(model.SerializeToString())
    return path


def graph_of(nodes: list[onnx.NodeProto], initializers: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", N])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        initializers,
    )  # fmt: skip


def external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[N])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


BACKENDS = ("onnx", "openvino")
SUM = [
    helper.make_node("Mul", ["wave", "w"], ["m"]),
    helper.make_node("ReduceSum", ["m"], ["score"], keepdims=0, noop_with_empty_axes=0),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["beside.bin", "../secret.bin", "{absolute}"])
def test_external_data_is_never_read(
    backend: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (folder / "beside.bin", tmp_path / "secret.bin"):
        place.write_bytes(bytes(4 * N))
    monkeypatch.chdir(folder)
    location = where.format(absolute=tmp_path / "secret.bin")
    path = model_file(folder / "m.onnx", graph_of(SUM, [external(location)]))
    with pytest.raises(ModelFileError, match="outside of itself"):
        open_engine(path, backend=backend)


def test_model_that_is_whole_in_itself_is_opened(tmp_path: Path) -> None:
    """The files above are refused for what was put into them alone."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [N], [1.0] * N)
    path = model_file(tmp_path / "m.onnx", graph_of(SUM, [weights]))
    read_contract(path)


def hidden_in(kind: str) -> onnx.GraphProto:
    """A tensor in another file, where a glance at the initializers does not see it."""
    tensor = external("beside.bin")
    if kind == "constant":
        return graph_of([helper.make_node("Constant", [], ["w"], value=tensor), *SUM], [])
    if kind == "sparse":
        graph = graph_of(SUM, [])
        graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[N]))
        return graph
    inner = helper.make_graph([], "inner", [], [], [tensor])
    branches = {"then_branch": inner, "else_branch": inner}
    return graph_of([helper.make_node("If", ["c"], ["w"], **branches), *SUM], [])


@pytest.mark.parametrize("kind", ["constant", "sparse", "branch", "function"])
def test_external_data_is_found_wherever_it_hides(kind: str, tmp_path: Path) -> None:
    path = model_file(tmp_path / "m.onnx", hidden_in("constant" if kind == "function" else kind))
    if kind == "function":
        constant = onnx.load_model(path, load_external_data=False).graph.node[0]
        plain = model_file(path, graph_of(SUM, []))
        function = helper.make_function("d", "f", [], ["w"], [constant], [])
        model = onnx.load_model(plain)
        model.functions.append(function)
        path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="outside of itself"):
        read_contract(path)


def test_a_field_number_whose_upper_bits_are_dropped_hides_nothing(tmp_path: Path) -> None:
    """Five bytes of tag: protobuf drops bit 32 and above, and sees initializers there."""
    tensor = external("beside.bin").SerializeToString()
    tag = bytes([0x2A | 0x80, 0x80, 0x80, 0x80, 0x10])
    inner = graph_of(SUM, []).SerializeToString() + tag + bytes([len(tensor)]) + tensor
    path = model_file(tmp_path / "m.onnx", graph_of(SUM, []))
    metadata = {**read_onnx_file(path).metadata, "graph_sha256": sha256(inner).hexdigest()}
    whole = parse_onnx(bytes([0x3A, len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner, path)
    path.write_bytes(with_metadata(whole, metadata))
    with pytest.raises(ModelFileError, match="a field number of over 29 bits"):
        read_contract(path)


def test_a_file_that_a_runtime_would_take_for_another_format_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime looks for four letters, and then reads a graph of which there is no hash."""
    pytest.importorskip("onnxruntime")
    weights = helper.make_tensor("w", TensorProto.FLOAT, [N], [1.0] * N)
    content = model_file(path := tmp_path / "m.onnx", graph_of(SUM, [weights])).read_bytes()
    for text, refused in ((b"..ORTM", True), (b"...ORTM", False)):
        path.write_bytes(bytes([6 << 3 | 2, len(text)]) + text + content)  # a description in front
        with pytest.raises(ModelFileError, match="own format") if refused else nullcontext():
            open_engine(path, backend="onnx").close()


def test_graphs_nested_a_thousand_deep_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["w"], then_branch=graph)],
                                  "g", [], [])  # fmt: skip
    path = model_file(tmp_path / "m.onnx", graph)
    with pytest.raises(ModelFileError, match="nested more than 10 deep"):
        read_contract(path)


def test_a_graph_of_millions_of_nodes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasist_deploy.onnx_file.MAX_GRAPH_FIELDS", 1_000)
    nodes = [helper.make_node("Abs", ["wave"], ["a"]) for _ in range(400)]
    path = model_file(tmp_path / "m.onnx", graph_of(nodes, []))
    with pytest.raises(ModelFileError, match="more than 1000 fields"):
        read_contract(path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dims", [[2**40], [2**62, 2**62], [-5]], ids=str)
def test_weights_with_a_shape_out_of_this_world_are_one_error(
    backend: str, dims: list[int], tmp_path: Path
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(16))
    path = model_file(tmp_path / "m.onnx", graph_of(SUM, [tensor]))
    with pytest.raises(AasistDeployError), open_engine(path, backend=backend):
        pass


def test_contract_of_another_graph_is_refused(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [N], [1.0] * N)
    path = model_file(tmp_path / "m.onnx", graph_of(SUM, [weights]))
    content = path.read_bytes()
    changed = content.replace(b"\x00\x00\x80\x3f" * 2, b"\x00\x00\x80\x40" * 2, 1)
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(ModelFileError, match="altered after export"):
        read_contract(path)


def test_a_graph_that_asks_for_terabytes_is_one_error(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [2**20, 2**22])
    axis = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["huge"]),  # 16 TiB
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wave", "one"], ["d"], keepdims=0),
        helper.make_node("Add", ["sum", "d"], ["score"]),
    ]
    path = model_file(tmp_path / "m.onnx", graph_of(nodes, [shape, axis]))
    with (
        open_engine(path, backend="onnx") as engine,
        pytest.raises(ModelFileError, match=r"ONNX Runtime cannot compute .*allocate"),
    ):
        engine.score(np.zeros((1, N), np.float32))
