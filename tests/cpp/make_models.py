"""Writes the small models of the C++ tests into cpp/tests/data.

The score of a wave is 8 * mean(wave): a test can say what it must be. tiny.onnx takes 800 samples,
tiny-variable.onnx 100 to 2,000, and tiny-stream.onnx is a file for streams with windows of 750
samples and frames of 100, whose state is the last 750 samples. tone.flac is 9,000 samples of a
tone, three blocks of FLAC. Run it when the contract changes:

    python tests/cpp/make_models.py
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper

from aasist_deploy.contract import (
    STREAM_SCHEMA,
    ModelContract,
    StreamContract,
    output_meanings,
    read_contract,
)
from aasist_deploy.onnx_file import parse_onnx, with_metadata

DATA = Path(__file__).resolve().parents[2] / "cpp" / "tests" / "data"
GAIN = 8.0
N_SAMPLES = 800  # 50 ms
CALIBRATION = {"scale": 2.0, "offset": -1.0}
STREAM = StreamContract(
    window_samples=750,
    frame_samples=100,
    lead_samples=50,
    max_frames=5,
    n_frames=8,
    shared_frames=7,
    state_size=750,
)


def tiny(n_samples: int | None) -> bytes:
    """The bytes of a model whose logits are (-8 * mean, 8 * mean)."""
    samples = "samples" if n_samples is None else n_samples
    nodes = [
        helper.make_node("ReduceMean", ["wave", "axis"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "gains"], ["logits"]),
        helper.make_node("Gather", ["logits", "bona_fide"], ["score"], axis=1),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("gains", TensorProto.FLOAT, [1, 2], [-GAIN, GAIN]),
        helper.make_tensor("bona_fide", TensorProto.INT64, [], [1]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", samples])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    file = parse_onnx(model.SerializeToString(), Path("tiny.onnx"))
    meanings = output_meanings("logit of bona fide")
    contract = ModelContract(
        architecture="tiny",
        config={"gain": GAIN},
        sample_rate_hz=16_000,
        n_samples=n_samples,
        min_samples=n_samples or 100,
        max_samples=None if n_samples else 2_000,
        outputs={name: meanings[name] for name in ("score", "logits")},
        checkpoint_sha256=sha256(b"").hexdigest(),
        graph_sha256=file.graph_sha256,
        calibration=CALIBRATION if n_samples else None,
        thresholds={"eer": 0.25} if n_samples else {},
    )
    return with_metadata(file, contract.to_metadata())


def tiny_stream() -> bytes:
    """The bytes of a file for streams whose score is 8 * mean of the last 750 samples."""
    nodes = [
        helper.make_node("Concat", ["state", "samples"], ["heard"], axis=1),
        helper.make_node("Slice", ["heard", "from", "to", "axis"], ["next_state"]),
        helper.make_node("ReduceMean", ["next_state", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["score"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("from", TensorProto.INT64, [1], [-STREAM.window_samples]),
        helper.make_tensor("to", TensorProto.INT64, [1], [2**31 - 1]),
        helper.make_tensor("gain", TensorProto.FLOAT, [], [GAIN]),
    ]
    state: list[str | int | None] = ["batch", STREAM.state_size]
    graph = helper.make_graph(
        nodes,
        "tiny-stream",
        [
            helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, state),
        ],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, state),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    file = parse_onnx(model.SerializeToString(), Path("tiny-stream.onnx"))
    contract = ModelContract(
        schema=STREAM_SCHEMA,
        architecture="tiny",
        config={"gain": GAIN},
        sample_rate_hz=16_000,
        n_samples=STREAM.window_samples,
        min_samples=STREAM.window_samples,
        input_name="samples",
        outputs={"score": output_meanings("logit of bona fide")["score"]},
        checkpoint_sha256=sha256(b"").hexdigest(),
        graph_sha256=file.graph_sha256,
        calibration=CALIBRATION,
        stream=STREAM,
    )
    return with_metadata(file, contract.to_metadata())


def main() -> None:
    """Write the files and read them back."""
    models = {
        "tiny.onnx": tiny(N_SAMPLES),
        "tiny-variable.onnx": tiny(None),
        "tiny-stream.onnx": tiny_stream(),
    }
    for name, content in models.items():
        path = DATA / name
        path.write_bytes(content)
        read_contract(path, stream=None)
        sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")
    tone = 0.3 * np.sin(np.arange(9_000) / 20)
    soundfile.write(DATA / "tone.flac", tone, 16_000, subtype="PCM_16")


if __name__ == "__main__":
    main()
