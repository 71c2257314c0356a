from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch

from aasist_deploy import open_engine
from aasist_deploy.contract import read_contract
from aasist_deploy.errors import CheckFailed, OutputError, UsageError
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.export.options import OPSETS
from aasist_deploy.export.self_check import SELF_CHECK_ATOL
from aasist_deploy.models.aasist import SAMPLES_PER_NODE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# float32 rounding in another order; measured max 3.3e-6 (embedding, 16,000 samples).
ATOL = 2e-5

N_SAMPLES = 16_000
FORMS = ("topk", "rank")
NINETY_NODES = 197_100  # samples; int(90 * 0.7) is 62, float32 arithmetic would keep 63 nodes


def eager(checkpoint: Checkpoint, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    with torch.inference_mode():
        embedding, logits = checkpoint.model(torch.from_numpy(waves))
    return {
        "score": logits[:, 1].numpy(),
        "logits": logits.numpy(),
        "embedding": embedding.numpy(),
    }


def check_equal(path: Path, checkpoint: Checkpoint, waves: NDArray[np.float32]) -> None:
    expected = eager(checkpoint, waves)
    with open_engine(path) as engine:
        outputs = engine.run(waves)
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=ATOL, err_msg=name)


@pytest.mark.parametrize("topk", FORMS)
@pytest.mark.parametrize("n_waves", [1, 2, 7])
def test_both_forms_equal_eager_at_any_batch(
    topk: str,
    n_waves: int,
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    check_equal(small_onnx(topk=topk), small_checkpoint, noise(n_waves, seed=n_waves))


@pytest.mark.parametrize("topk", FORMS)
def test_graph_has_none_of_what_the_rewrite_removes(
    topk: str, small_onnx: Callable[..., Path]
) -> None:
    graph = onnx.load(small_onnx(topk=topk)).graph
    kinds = Counter(node.op_type for node in graph.node)
    gone = {
        "BatchNormalization",
        "ScatterND",
        "ScatterElements",
        "NonZero",
        "Dropout",
        "Loop",
        "If",
    }
    assert not gone & set(kinds)
    assert not {"Range", "Shape"} & set(kinds)  # the length is fixed: nothing is left to compute
    assert kinds["Elu"] == 7  # one in the front end, one in each residual block
    selus = [node.name for node in graph.node if node.op_type == "Selu"]
    assert len(selus) == 6
    assert all(re.match(r"(GAT_layer_|HtrgGAT_layer_)\w+\.act/Selu", name) for name in selus)
    assert kinds["TopK"] == (6 if topk == "topk" else 0)
    if topk == "rank":
        assert not {"TopK", "GatherElements", "GatherND"} & set(kinds)
    names = [initializer.name for initializer in graph.initializer]
    assert not [name for name in names if "bn1" in name or "bn2" in name]
    assert [i.data_type for i in graph.initializer if i.data_type == onnx.TensorProto.DOUBLE] == []


@pytest.mark.parametrize("topk", FORMS)
def test_nodes_are_named_by_layer_and_nothing_of_this_machine_is_in_the_file(
    topk: str, small_onnx: Callable[..., Path]
) -> None:
    path = small_onnx(topk=topk)
    model = onnx.load(path)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    layers = {name.rpartition("/")[0] for name in names}
    assert {"front_end", "encoder.0.conv1", "encoder.5.conv2", "pool_S", "out_layer"} <= layers
    assert {"GAT_layer_T.att_proj", "HtrgGAT_layer_ST12.proj_with_attM"} <= layers
    values = [output for node in model.graph.node for output in node.output]
    assert len(set(values)) == len(values)
    content = path.read_bytes()
    here = os.fsencode(os.path.dirname(os.path.dirname(onnx.__file__)))  # noqa: PTH120
    for trace in (b".py", b"site-packages", b"Traceback", b"pkg.torch", b"/tmp", b"/root", here):
        assert trace not in content, trace
    assert os.fsencode(os.getcwd()) not in content  # noqa: PTH109


def test_contract_says_what_was_exported(
    small_onnx: Callable[..., Path], small_checkpoint: Checkpoint
) -> None:
    contract, file = read_contract(small_onnx(topk="rank"))
    assert contract.architecture == "AASIST"
    assert contract.config == small_checkpoint.config
    assert contract.checkpoint_sha256 == small_checkpoint.sha256
    assert (contract.n_samples, contract.min_samples, contract.max_samples) == (
        16_000,
        16_000,
        None,
    )
    assert contract.batch == (1, None)
    assert contract.topk["method"] == "rank"
    assert contract.topk["ratios"]["pool_T"] == 0.7
    assert set(contract.tools) == {"aasist-deploy", "torch", "onnx"}
    produced = {o for node in onnx.load(file.path).graph.node for o in node.output}
    assert set(contract.topk["values"].values()) <= produced
    (opset,) = onnx.load(file.path).opset_import
    assert opset.version == 18


def test_one_file_without_external_data_that_other_readers_take(
    small_onnx: Callable[..., Path],
) -> None:
    path = small_onnx()
    model = onnx.load(path, load_external_data=False)
    assert not any(i.external_data for i in model.graph.initializer)
    onnx.checker.check_model(model, full_check=True)
    assert [p.name for p in path.parent.iterdir() if path.stem in p.name] == [path.name]
    wave = model.graph.input[0].type.tensor_type.shape.dim
    assert (wave[0].dim_param, wave[1].dim_value) == ("batch", N_SAMPLES)


def test_two_exports_give_the_same_graph(
    small_checkpoint: Checkpoint, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    first, _ = read_contract(small_onnx())
    options = ExportOptions(n_samples=N_SAMPLES, outputs=("score", "logits", "embedding"))
    second = export_onnx(small_checkpoint, tmp_path / "again.onnx", options)
    assert second.contract == first
    assert second.max_difference <= SELF_CHECK_ATOL
    assert second.path.stat().st_mode & 0o777 == 0o644


# All other tests of exports are of opset 18.
MIDDLE_OPSETS = [pytest.param(opset, marks=pytest.mark.long) for opset in OPSETS[1:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("opset", [*MIDDLE_OPSETS, OPSETS[-1]])
def test_every_supported_opset_runs(
    opset: int,
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    path = small_onnx(opset=opset, topk=FORMS[opset % 2])
    assert [o.version for o in onnx.load(path).opset_import] == [opset]
    check_equal(path, small_checkpoint, noise(3))


@pytest.mark.slow
def test_fixed_batch_of_one_output_scores_any_number_of_waves(
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    path = small_onnx(batch=3, outputs=("score",))
    contract, _ = read_contract(path)
    assert contract.batch == (3, 3)
    assert list(contract.outputs) == ["score"]
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    for n_waves in (1, 3, 7):
        waves = noise(n_waves)
        check_equal(path, small_checkpoint, waves)
        engine: Any = open_engine(path)
        with engine:
            assert engine.pooling_orders(waves)["pool_S"].shape == (n_waves, 11)


@pytest.mark.slow
def test_any_length_equals_eager_also_where_float32_would_count_wrong(
    small_onnx: Callable[..., Path],
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    path = small_onnx(n_samples=None)
    contract, _ = read_contract(path)
    assert contract.n_samples is None
    for n_samples in (contract.min_samples, 16_000, 23_456, NINETY_NODES):
        check_equal(path, small_checkpoint, noise(1, n_samples, seed=n_samples))
    engine: Any = open_engine(path)
    with engine:
        assert engine.pooling_orders(noise(1, NINETY_NODES))["pool_T"].shape == (1, 62)


@pytest.mark.slow
def test_node_counts_of_any_length_are_tables_of_whole_numbers(
    small_onnx: Callable[..., Path],
) -> None:
    graph = onnx.load(small_onnx(n_samples=None)).graph
    tables = {
        i.name: onnx.numpy_helper.to_array(i)
        for i in graph.initializer
        if i.name.startswith("n_kept")
    }
    assert set(tables) == {"n_kept.of_ratio_0.7", "n_kept.of_ratio_0.5"}
    table = tables["n_kept.of_ratio_0.7"]
    assert table.dtype == np.int64
    assert table.tolist() == [int(n * 0.7) for n in range(1_025)]
    assert table[90] == 62
    users = [node for node in graph.node if set(node.input) & set(tables)]
    assert {node.op_type for node in users} == {"Gather"}
    contract, _ = read_contract(small_onnx(n_samples=None))
    assert contract.max_samples == 1_024 * SAMPLES_PER_NODE + 128
    assert contract.min_samples == 3 * SAMPLES_PER_NODE + 128


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topk": "sort"}, "no top-k form 'sort'; known are: topk, rank"),
        ({"opset": 17}, "Opset 17 is not supported; 18 to 23 are"),
        ({"opset": 24}, "Opset 24 is not supported"),
        ({"outputs": ("score", "llr")}, "Unknown outputs llr; known are: score, logits, embedding"),
        ({"outputs": ()}, "none given"),
        ({"outputs": ("embedding",)}, "cannot be scored with"),
        ({"precision": "int8"}, "no precision 'int8'; known are: fp32, fp16, bf16"),
        ({"batch": 0}, "batch size is 0"),
    ],
)
def test_options_that_cannot_be_exported_are_refused_at_once(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(**given)


def test_a_window_that_leaves_no_graph_is_refused(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="6688 samples is too short; the network needs 6689"):
        export_onnx(small_checkpoint, tmp_path / "m.onnx", ExportOptions(n_samples=6_688))


@pytest.fixture
def traced(
    small_checkpoint: Checkpoint,
    small_onnx: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Checkpoint:
    """The small checkpoint, whose trace is taken from the file exported before."""
    model = onnx.load(small_onnx())
    del model.metadata_props[:]
    monkeypatch.setattr(onnx_from_torch_module(), "onnx_from_torch", lambda *_: model)
    return small_checkpoint


def onnx_from_torch_module() -> Any:
    import sys

    return sys.modules["aasist_deploy.export.onnx_from_torch"]


OPTIONS = ExportOptions(n_samples=N_SAMPLES, outputs=("score", "logits", "embedding"))


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_file_that_fails_its_check_is_not_left_and_the_old_one_stays(
    wrong: float,
    there: bool,
    traced: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.onnx"
    if there:
        path.write_bytes(b"an older model")
    forward = type(traced.model).forward

    def shifted(self: Any, wave: Any) -> Any:
        embedding, logits = forward(self, wave)
        return embedding, logits + wrong

    monkeypatch.setattr(type(traced.model), "forward", shifted)
    with pytest.raises(CheckFailed, match="away from the checkpoint") as raised:
        export_onnx(traced, path, OPTIONS)
    assert raised.value.exit_code == 1
    assert list(tmp_path.iterdir()) == ([path] if there else [])
    if there:
        assert path.read_bytes() == b"an older model"


def test_altered_weight_is_found_by_the_check(
    traced: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = onnx_from_torch_module()
    model = module.onnx_from_torch()
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (weight,) = [i for i in changed.graph.initializer if i.name.endswith("encoder.2.conv1.weight")]
    values = onnx.numpy_helper.to_array(weight).copy()
    values *= 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    monkeypatch.setattr(module, "onnx_from_torch", lambda *_: changed)
    with pytest.raises(CheckFailed, match="Nothing was written"):
        export_onnx(traced, tmp_path / "model.onnx", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_good_file_replaces_the_old_one(traced: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"an older model")
    result = export_onnx(traced, path, OPTIONS)
    assert read_contract(path)[0] == result.contract
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_export_leaves_nothing(
    traced: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_from_torch_module(), "self_check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(traced, tmp_path / "model.onnx", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_refused_before_the_trace(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file / "model.onnx", file / "a" / "model.onnx"):
        with pytest.raises(OutputError, match="cannot be written"):
            export_onnx(small_checkpoint, path, OPTIONS)
    with pytest.raises(OutputError, match="is a folder"):
        export_onnx(small_checkpoint, tmp_path, OPTIONS)
    with pytest.raises(OutputError, match="cannot be written"):
        export_onnx(small_checkpoint, "/proc/none/model.onnx", OPTIONS)
