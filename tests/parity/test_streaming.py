"""Streams of real speech with the published weights: every window scores as it does alone.

benchmarks/stream_exact.py runs every hop from 1 to 29 on every backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.engines import missing_packages
from aasist_deploy.streaming import StreamScorer, open_stream_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ATOL = 1e-4  # measured 7e-6 over these windows, 5e-6 over all hops on ten seconds of speech
# From fp32, as the gate of exports in bf16 allows: a number keeps 8 bits. Measured 0.05 over these
# windows; 0.20 for whole windows of 105 clips.
BF16_ATOL = 0.25
FRAME, WINDOW = 2_187, 64_600
N_WINDOWS = 9

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stream_file(exported_stream: Callable[[], Path]) -> Path:
    return exported_stream()


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[NDArray[np.float32]]:
    folder = shared / "data" / "LA_mini" / "ASVspoof2019_LA_eval" / "flac"
    return [read_audio(path).wave for path in sorted(folder.glob("*.flac"))[:8]]


@pytest.fixture(scope="module")
def speech(clips: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Clips one after another, a little longer than the windows that are compared."""
    wave = np.concatenate(clips)
    assert len(wave) > WINDOW + N_WINDOWS * FRAME
    return wave[: WINDOW + (N_WINDOWS - 1) * FRAME + 1_000]


@pytest.fixture(scope="module")
def alone(
    published_checkpoint: Callable[[str], Path], speech: NDArray[np.float32]
) -> Callable[..., NDArray[np.float32]]:
    """Name of a model -> the scores of each window alone, by the checkpoint itself."""
    known: dict[str, NDArray[np.float32]] = {}

    def get(name: str) -> NDArray[np.float32]:
        if name not in known:
            with open_engine(published_checkpoint(name), "torch") as engine:
                windows = [speech[i * FRAME : i * FRAME + WINDOW] for i in range(N_WINDOWS)]
                known[name] = np.concatenate([engine.score(w[None]) for w in windows])
        return known[name]

    return get


@pytest.mark.parametrize(
    ("name", "backend"),
    [("AASIST", "onnx"), ("AASIST", "openvino"), ("AASIST", "torch"), ("AASIST-L", "torch")],
)
def test_windows_of_a_stream_score_as_each_window_alone(
    name: str,
    backend: str,
    published_checkpoint: Callable[[str], Path],
    request: pytest.FixtureRequest,
    speech: NDArray[np.float32],
    alone: Callable[..., NDArray[np.float32]],
) -> None:
    if missing_packages(backend):
        pytest.skip(f"needs {missing_packages(backend)}")
    path = (
        published_checkpoint(name) if backend == "torch" else request.getfixturevalue("stream_file")
    )
    hops = (1,) if backend == "torch" else (1, 5, 8)
    worst = 0.0
    with open_stream_model(path, backend) as model:
        for hop, chunk in zip(hops, (1_601, 160_000, 64_600), strict=False):
            scorer = StreamScorer(model, hop)
            found = [
                window
                for start in range(0, len(speech), chunk)
                for window in scorer.push(speech[start : start + chunk])
            ]
            wanted = alone(name)[::hop]
            scores = np.array([w.score for w in found])
            worst = max(worst, float(np.abs(scores - wanted).max()))
            np.testing.assert_allclose(scores, wanted, rtol=0, atol=ATOL)
            assert found[-1].end_s == pytest.approx((len(speech) - 1_000) / 16_000) or hop == 5
    assert np.ptp(alone(name)) > 0.5  # windows that differ: one score for all would not pass
    print(name, backend, worst)  # noqa: T201  # shown by -s


def test_a_short_clip_is_tiled_as_files_are(
    stream_file: Path,
    clips: list[NDArray[np.float32]],
    published_checkpoint: Callable[[str], Path],
) -> None:
    clip = min(clips, key=len)
    assert len(clip) < WINDOW
    with open_stream_model(stream_file, "onnx") as model:
        scorer = StreamScorer(model, 4)
        assert [scorer.push(sample) for sample in np.split(clip[:500], 500)] == [[]] * 500
        assert scorer.push(clip[500:]) == []
        (window,) = scorer.finish()
    with open_engine(published_checkpoint("AASIST"), "torch") as engine:
        wanted = float(engine.score(fit_length(clip)[None])[0])
    assert window.score == pytest.approx(wanted, abs=ATOL)


def test_bf16_of_a_stream_is_as_near_as_bf16_of_windows(
    stream_file: Path,
    speech: NDArray[np.float32],
    alone: Callable[..., NDArray[np.float32]],
) -> None:
    if missing_packages("openvino"):
        pytest.skip("needs OpenVINO")
    from aasist_deploy.engines.cpu_features import lacks_bf16

    if (reason := lacks_bf16()) is not None:
        pytest.skip(f"bf16 would be emulated: {reason}")
    with open_stream_model(stream_file, "openvino", precision="bf16") as model:
        scores = [w.score for w in StreamScorer(model, 1).push(speech)]
    gap = np.abs(np.array(scores) - alone("AASIST"))
    print("bf16", gap.max())  # noqa: T201  # shown by -s
    assert 0 < gap.max() <= BF16_ATOL


@pytest.mark.trt
def test_tensorrt_reads_every_node_of_a_file_for_streams(stream_file: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    from aasist_deploy.engines.tensorrt_runtime import Messages, load_tensorrt
    from aasist_deploy.export.tensorrt_network import new_builder, unsupported_nodes

    tensorrt: Any = load_tensorrt("tensorrt_rtx")
    messages = Messages(tensorrt)
    content = stream_file.read_bytes()
    assert unsupported_nodes(tensorrt, messages, content) == []
    builder = new_builder(tensorrt, messages)
    definition = builder.create_network(0)
    parser = tensorrt.module.OnnxParser(definition, messages.logger)
    assert parser.parse(content)
    inputs = {definition.get_input(i).name: tuple(definition.get_input(i).shape) for i in range(2)}
    assert inputs["samples"] == (-1, -1)
    assert inputs["state"][0] == -1
    assert inputs["state"][1] > 0
    outputs = [definition.get_output(i) for i in range(definition.num_outputs)]
    assert {tensor.name for tensor in outputs} == {"score", "logits", "next_state"}
    assert {tensor.dtype.name for tensor in outputs} == {"FLOAT"}
