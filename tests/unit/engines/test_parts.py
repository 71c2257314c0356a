"""Files for streams on each backend: exported, opened, called, refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs the extra export")

import onnx
import torch

from aasist_deploy import open_engine
from aasist_deploy.contract import STREAM_SCHEMA, ModelContract, read_contract, write_contract
from aasist_deploy.engines import missing_packages
from aasist_deploy.engines.parts import OnnxStep
from aasist_deploy.errors import CheckFailed, ModelFileError, OutputError, ShapeError, UsageError
from aasist_deploy.export import ExportOptions, stream_export
from aasist_deploy.export.stream_export import export_stream
from aasist_deploy.onnx_file import parse_onnx
from aasist_deploy.streaming import StreamScorer, open_stream_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.engines.openvino_graph import OpenvinoGraph
    from aasist_deploy.models import Checkpoint

ATOL = 1e-4  # measured 3e-6 with these weights, three times those of training
FRAME = 2_187
WINDOW = 20_000  # of the file; another than the network's own 16,000, which is no special case
BACKENDS = ("onnx", "openvino", "torch")


@pytest.fixture(scope="module")
def stream_file(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "small.stream.onnx"
    return export_stream(small_checkpoint, path, ExportOptions(n_samples=WINDOW)).path


def test_the_contract_says_how_the_file_is_called(stream_file: Path) -> None:
    contract, _ = read_contract(stream_file, stream=True)
    layout = contract.stream
    assert contract.schema == STREAM_SCHEMA
    assert layout is not None
    assert (layout.window_samples, layout.frame_samples) == (WINDOW, FRAME)
    assert contract.n_samples == WINDOW
    assert (layout.window_samples + layout.lead_samples) % FRAME == 0
    assert layout.shared_frames == layout.n_frames - 2
    graph = onnx.load(stream_file).graph
    assert [v.name for v in graph.input] == [contract.input_name, layout.state_input]
    assert [v.name for v in graph.output] == ["score", "logits", layout.state_output]
    assert set(contract.outputs) == {"score", "logits"}
    sizes = [v.type.tensor_type.shape.dim[1].dim_value for v in (graph.input[1], graph.output[-1])]
    assert sizes == [layout.state_size, layout.state_size]
    never = {"ScatterND", "ScatterElements", "Loop", "If", "NonZero", "Range"}
    assert not never & {node.op_type for node in graph.node}


def test_every_convolution_has_a_bias_of_its_own(stream_file: Path) -> None:
    graph = onnx.load(stream_file).graph
    biases = [n.input[2] for n in graph.node if n.op_type == "Conv" and len(n.input) > 2]
    assert len(biases) > 15
    assert len(set(biases)) == len(biases)


def test_openvino_computes_every_elu_in_a_convolution(stream_file: Path) -> None:
    """It does not where convolutions share a bias: half of the time of a call went there."""
    if missing_packages("openvino"):
        pytest.skip("needs OpenVINO")
    from aasist_deploy.engines.openvino_graph import import_openvino, openvino_core

    model = openvino_core().read_model(stream_file)
    compiled = openvino_core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": import_openvino().Type.f32}
    )
    layers = [
        str(node.get_rt_info()["originalLayersNames"].astype(str)).split(",")
        for node in compiled.get_runtime_model().get_ops()
    ]
    elus = [layer for layer in layers if any("encoder" in x and "/Elu" in x for x in layer)]
    assert len(elus) > 4
    assert all(any("/Conv" in name for name in layer) for layer in elus), elus


@pytest.mark.parametrize("n_frames", [None, 4])
def test_openvino_computes_sums_and_pools_in_bf16(stream_file: Path, n_frames: int | None) -> None:
    """It would leave them in fp32: their columns go to an output, the state."""
    if missing_packages("openvino"):
        pytest.skip("needs OpenVINO")
    from aasist_deploy.engines.cpu_features import lacks_bf16

    if (reason := lacks_bf16()) is not None:
        pytest.skip(f"bf16 would be emulated: {reason}")
    from aasist_deploy.engines.parts import OpenvinoStep

    with OpenvinoStep(stream_file, precision="bf16", threads=1) as step:
        graph = step._any if n_frames is None else step._graph_of(n_frames)
        pools = [
            node.get_rt_info()["runtimePrecision"].astype(str)
            for node in graph._compiled.get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) == "Pooling"
        ]
    assert len(pools) > 4
    assert set(pools) == {"bf16"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_are_those_of_each_window_alone(
    backend: str,
    stream_file: Path,
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    if missing_packages(backend):
        pytest.skip(f"needs {missing_packages(backend)}")
    wave = noise(1, WINDOW + 6 * FRAME)[0]
    path = small_checkpoint.path if backend == "torch" else stream_file
    with open_stream_model(path, backend, threads=1) as model:
        assert model.backend == backend
        window = model.layout.window_samples
        assert window == (small_checkpoint.model.n_samples if backend == "torch" else WINDOW)
        found = StreamScorer(model, 2).push(wave)
        assert model.contract.checkpoint_sha256 == small_checkpoint.sha256
    starts = range(0, len(wave) - window + 1, 2 * FRAME)
    windows = np.stack([wave[s : s + window] for s in starts])
    with torch.inference_mode():
        alone = small_checkpoint.model(torch.from_numpy(windows))[1][:, 1].numpy()
    np.testing.assert_allclose([w.score for w in found], alone, rtol=0, atol=ATOL)
    assert alone.std() > 100 * ATOL


def test_openvino_compiles_nothing_once_a_stream_is_there(
    stream_file: Path,
    noise: Callable[..., NDArray[np.float32]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A live stream would wait a second or two for that while its samples come."""
    if missing_packages("openvino"):
        pytest.skip("needs OpenVINO")
    from aasist_deploy.engines.parts import OpenvinoStep

    def never(n_frames: int | None) -> OpenvinoGraph:
        raise AssertionError(f"a graph of {n_frames} frames is compiled in the stream")

    wave = noise(1, WINDOW + 6 * FRAME)[0]
    with OpenvinoStep(stream_file, threads=1) as model:
        streams = [StreamScorer(model, 3), StreamScorer(model, 6)]
        monkeypatch.setattr(model, "_compiled", never)
        assert [len(stream.push(wave)) for stream in streams] == [3, 2]
        short = StreamScorer(model, 3)
        assert short.push(wave[:500]) == []
        assert len(short.finish()) == 1
        with pytest.raises(AssertionError, match="a graph of 1 frames"):
            StreamScorer(model, 1)


def test_calls_that_do_not_fit_are_refused(stream_file: Path) -> None:
    with open_stream_model(stream_file, "onnx", threads=1) as model:
        good, state = np.zeros((1, FRAME), np.float32), model.new_state()[None]
        bad: list[tuple[Any, Any, str]] = [
            (good[0], state, "two axes"),
            (good.astype(float), state, "float64"),
            (good[:, 1:], state, "these are 2186 samples"),
            (np.zeros((1, 65 * FRAME), np.float32), state, "1 to 64 frames"),
            (good, state[:, 1:], "need states of the shape"),
            (good, np.concatenate([state, state]), "1 streams need states"),
            (np.full((1, FRAME), np.nan, np.float32), state, "NaN or infinite"),
        ]
        for samples, states, reason in bad:
            with pytest.raises(ShapeError, match=reason):
                model.step(samples, states)
        assert model.step(good, state)[1].shape == state.shape
    with pytest.raises(ShapeError, match="closed"):
        model.step(good, state)


def test_the_two_kinds_of_file_are_not_taken_for_one_another(
    stream_file: Path, small_onnx: Callable[..., Path]
) -> None:
    with pytest.raises(ModelFileError, match="a state beside its samples") as caught:
        open_engine(stream_file, "onnx")
    assert "without --stream" in str(caught.value.fix)
    with pytest.raises(ModelFileError, match="takes whole waves") as caught:
        open_stream_model(small_onnx(), "onnx")
    assert "--stream" in str(caught.value.fix)


def test_a_file_altered_after_export_is_refused(stream_file: Path, tmp_path: Path) -> None:
    model = onnx.load(stream_file)
    model.graph.node[0].name = "another"
    path = tmp_path / "altered.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="altered after export"):
        open_stream_model(path, "onnx")


def test_a_contract_of_another_graph_is_refused(
    stream_file: Path, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    said, _ = read_contract(stream_file, stream=True)
    whole = onnx.load(small_onnx())
    digest = parse_onnx(whole.SerializeToString(), tmp_path).graph_sha256
    onnx.helper.set_model_props(whole, replace(said, graph_sha256=digest).to_metadata())
    path = tmp_path / "whole.onnx"
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(ModelFileError, match="the graph has wave"):
        open_stream_model(path, "onnx")


def test_a_file_can_be_calibrated_like_any_other(stream_file: Path, tmp_path: Path) -> None:
    contract, file = read_contract(stream_file, stream=True)
    held = {"scale": 2.0, "offset": -1.0}
    write_contract(replace(contract, calibration=held), file, tmp_path / "calibrated.onnx")
    with open_stream_model(tmp_path / "calibrated.onnx", "onnx") as model:
        assert model.contract.calibration == held
        assert model.layout == contract.stream


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state_size": 0}, "state_size is 0"),
        ({"lead_samples": -1}, "lead_samples is -1"),
        ({"lead_samples": 5}, "no multiple of its frames"),
        ({"state_input": 3}, "state_input is 3; it must be a text"),
    ],
)
def test_a_layout_that_no_reader_could_use_is_refused(
    change: dict[str, Any], reason: str, stream_file: Path
) -> None:
    contract, _ = read_contract(stream_file, stream=True)
    values = contract.to_dict()
    values["stream"] |= change
    with pytest.raises(ModelFileError, match=reason):
        ModelContract.from_dict(values, stream_file)


def test_schema_and_layout_belong_together(stream_file: Path) -> None:
    values = read_contract(stream_file, stream=True)[0].to_dict()
    for change in ({"stream": None}, {"schema": "aasist-deploy/contract/1"}):
        with pytest.raises(ModelFileError, match="and its stream is"):
            ModelContract.from_dict({**values, **change}, stream_file)


def test_options_that_a_file_for_streams_does_not_have_are_refused(
    small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for options, reason in (
        (ExportOptions(n_samples=None), "windows of one length"),
        (ExportOptions(batch=4), "a batch of 4"),
        (ExportOptions(precision="fp16"), "fp16"),
    ):
        with pytest.raises(UsageError, match=reason):
            export_stream(small_checkpoint, tmp_path / "x.onnx", options)
    with pytest.raises(OutputError, match="is a folder"):
        export_stream(small_checkpoint, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_backends_and_options_that_score_no_streams_are_refused(stream_file: Path) -> None:
    with pytest.raises(UsageError, match="does not know an option for streams"):
        open_stream_model(stream_file, "onnx", provider="cuda")
    with pytest.raises(UsageError, match="scores no streams yet"):
        open_stream_model(stream_file, "trt")


def test_the_check_of_an_export_finds_frames_that_are_not_those_of_the_window(
    small_checkpoint: Checkpoint, stream_file: Path
) -> None:
    class OneSampleOff(OnnxStep):
        """The windows of a stream that starts one sample later."""

        def _run(self, samples: Any, states: Any) -> Any:
            return super()._run(np.roll(samples, 1, axis=1), states)

    with OnnxStep(stream_file, threads=1) as step:
        assert stream_export.largest_difference(small_checkpoint, step) < ATOL
    with (
        OneSampleOff(stream_file, threads=1) as step,
        pytest.raises(CheckFailed, match="away from those of the windows alone"),
    ):
        stream_export.largest_difference(small_checkpoint, step)
