"""`export_stream`: a loaded checkpoint becomes an ONNX file for streams that carries its contract.

One file and one graph, with a state beside the samples and the next state beside the score. The
other way, an encoder, the edges and the head as files of their own, was weighed against it:
docs/streaming.md has the measurement.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch

from aasist_deploy.contract import (
    STREAM_SCHEMA,
    ModelContract,
    StreamContract,
    output_meanings,
)
from aasist_deploy.engines.parts import OnnxStep
from aasist_deploy.engines.torch import contract_fields
from aasist_deploy.errors import CheckFailed, EnvironmentLacks, OutputError, UsageError
from aasist_deploy.export import graph_passes
from aasist_deploy.export.onnx_from_torch import quiet_tracer, topk_said
from aasist_deploy.export.options import OUTPUTS, ExportOptions
from aasist_deploy.export.self_check import SELF_CHECK_ATOL
from aasist_deploy.export.stream_form import StreamNetwork
from aasist_deploy.onnx_file import parse_onnx, write_onnx_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# Frames of one call; more than two windows of the published networks at once gain nothing.
MAX_FRAMES: Final = 64
SAMPLES, STATE, NEXT_STATE = "samples", "state", "next_state"

_EXAMPLE_BATCH, _EXAMPLE_FRAMES = 2, 3  # neither is 1, which tracers take for a constant
_CHECK_CALLS: Final = (1, 2, 5)  # frames of the calls after the first window
_BIAS: Final = 2  # place of a Conv's bias among its inputs
_FIX: Final = "try --topk rank, or report the versions that `aasist-deploy doctor` prints"


@dataclass(frozen=True, slots=True)
class StreamExportResult:
    """What was written, and how far it is from the checkpoint.

    Attributes:
        path: The file.
        contract: What it says of itself.
        n_nodes: Operators in the graph.
        max_difference: Largest difference of a score from the window alone in eager PyTorch.
    """

    path: Path
    contract: ModelContract
    n_nodes: int
    max_difference: float


def export_stream(
    checkpoint: Checkpoint, path: Path | str, options: ExportOptions | None = None
) -> StreamExportResult:
    """Write one self-describing ONNX file for streams and check it against the checkpoint.

    The file appears at `path` only when the check holds; a file that was there stays otherwise.

    Args:
        checkpoint: The trained network.
        path: The `.onnx` file to write.
        options: How it is written; its `n_samples` is the window.

    Raises:
        UsageError: a network that cannot be scored as a stream, or options that a file for streams
            does not have.
        OutputError: the place cannot be written.
        CheckFailed: its scores are not those of the windows alone.
    """
    path, options = Path(path), options or ExportOptions()
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="name a file with -o")
    network = _network(checkpoint, options)
    model = _traced(network, checkpoint, options)
    contract = _contract(network, checkpoint, options)
    digest = parse_onnx(model.SerializeToString(), path).graph_sha256
    contract = replace(contract, graph_sha256=digest)
    onnx.helper.set_model_props(model, contract.to_metadata())
    content: bytes = model.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "model.onnx")
        written.write_bytes(content)
        with OnnxStep(written) as step:
            worst = largest_difference(checkpoint, step)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", fix="choose another place with -o"
        ) from error
    write_onnx_file(path, content)
    return StreamExportResult(path, contract, len(model.graph.node), worst)


def stream_contract(network: StreamNetwork) -> StreamContract:
    """How a network for streams is called."""
    geometry = network.geometry
    return StreamContract(
        window_samples=geometry.window_samples,
        frame_samples=geometry.frame_samples,
        lead_samples=geometry.lead_samples,
        max_frames=MAX_FRAMES,
        n_frames=geometry.n_frames,
        shared_frames=geometry.n_inner,
        state_size=network.state_size,
        state_input=STATE,
        state_output=NEXT_STATE,
    )


def _network(checkpoint: Checkpoint, options: ExportOptions) -> StreamNetwork:
    if options.n_samples is None:
        raise UsageError(
            "A file for streams has windows of one length, and any length was asked for.",
            fix="leave --samples out, or give the window: --samples 64600",
        )
    if options.batch is not None or options.precision != "fp32":
        raise UsageError(
            "A file for streams takes any number of streams and is written in fp32; asked was "
            f"{'any number' if options.batch is None else f'a batch of {options.batch}'} in "
            f"{options.precision}.",
            fix="leave --batch and --precision out; OpenVINO computes the file in bf16 when it is "
            "opened so",
        )
    window = checkpoint.model.n_samples if options.n_samples == "trained" else options.n_samples
    return StreamNetwork(checkpoint.model, options.topk, int(window)).eval()


def _traced(
    network: StreamNetwork, checkpoint: Checkpoint, options: ExportOptions
) -> onnx.ModelProto:
    step = network.geometry.frame_samples
    batch = torch.export.Dim("batch", min=1)
    frames = torch.export.Dim("frames", min=1, max=MAX_FRAMES)
    example = (
        torch.zeros(_EXAMPLE_BATCH, _EXAMPLE_FRAMES * step),
        torch.zeros(_EXAMPLE_BATCH, network.state_size),
    )
    with quiet_tracer():
        traced = torch.export.export(
            network,
            example,
            dynamic_shapes=({0: batch, 1: step * frames}, {0: batch}),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = torch.onnx.export(
            traced,
            (),
            dynamo=True,
            opset_version=options.opset,
            input_names=[SAMPLES, STATE],
            output_names=[*OUTPUTS, NEXT_STATE, *(f"order.{n}" for n in network.pool_names)],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EnvironmentLacks(f"PyTorch {torch.__version__} traced no ONNX program.")
    model: onnx.ModelProto = program.model_proto
    graph_passes.keep_outputs(model, [*options.outputs, NEXT_STATE])
    graph_passes.name_by_layer(model)
    give_each_its_bias(model)
    graph_passes.name_dimensions(
        model,
        {
            SAMPLES: ("batch", "samples"),
            STATE: ("batch", network.state_size),
            "score": ("batch",),
            "logits": ("batch", 2),
            "embedding": ("batch", checkpoint.model.n_features),
            NEXT_STATE: ("batch", network.state_size),
        },
    )
    model.producer_name = "aasist-deploy"
    onnx.checker.check_model(model, full_check=True)
    return model


def give_each_its_bias(model: onnx.ModelProto) -> None:
    """Copy every bias that several convolutions share, so that each has its own.

    A block is in the graph three times, for what windows share and for both of their edges.
    OpenVINO 2026.4 makes a bias part of a convolution only where nothing else reads it, and what
    follows (ELU, the sum, their conversions from bf16) is then left outside, too: half of the time
    of a call in bf16 went there.
    """
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type != "Conv" or len(node.input) <= _BIAS or node.input[_BIAS] not in held:
            continue
        name = node.input[_BIAS]
        if name in taken:
            own = onnx.TensorProto()
            own.CopyFrom(held[name])
            own.name = f"{node.name}.bias"
            graph.initializer.append(own)
            node.input[_BIAS] = own.name
        taken.add(name)


def _contract(
    network: StreamNetwork, checkpoint: Checkpoint, options: ExportOptions
) -> ModelContract:
    from aasist_deploy import __version__

    meanings = output_meanings(checkpoint.model.score)
    layout = stream_contract(network)
    return ModelContract(
        **contract_fields(checkpoint),
        schema=STREAM_SCHEMA,
        n_samples=layout.window_samples,
        min_samples=layout.window_samples,
        input_name=SAMPLES,
        outputs={name: meanings[name] for name in options.outputs},
        topk=topk_said(network.form, options),
        tools={"aasist-deploy": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
        stream=layout,
    )


def largest_difference(checkpoint: Checkpoint, step: OnnxStep) -> float:
    """Compare a file for streams with the checkpoint on every window alone.

    Returns:
        The largest difference of a score, over fixed waves and calls.

    Raises:
        CheckFailed: it is too large.
    """
    layout = step.layout
    first = (layout.window_samples + layout.lead_samples) // layout.frame_samples
    calls = [*[MAX_FRAMES] * (first // MAX_FRAMES), first % MAX_FRAMES, *_CHECK_CALLS]
    n_samples = layout.window_samples + sum(_CHECK_CALLS) * layout.frame_samples
    waves = _check_waves(2, n_samples)
    padded = np.pad(waves, ((0, 0), (layout.lead_samples, 0)))
    states = np.zeros((len(waves), layout.state_size), np.float32)
    worst, end = 0.0, 0
    for n_frames in filter(None, calls):
        start, end = end, end + n_frames * layout.frame_samples
        scores, states = step.step(padded[:, start:end], states)
        if end < layout.lead_samples + layout.window_samples:
            continue
        window = padded[:, end - layout.window_samples : end]
        with torch.inference_mode():
            expected = checkpoint.model(torch.tensor(window))[1][:, 1].numpy()
        worst = float(np.maximum(worst, np.abs(scores - expected).max()))
    if not worst <= SELF_CHECK_ATOL:  # also when it is NaN
        raise CheckFailed(
            f"Scores of the exported stream are {worst:.2e} away from those of the windows alone; "
            f"at most {SELF_CHECK_ATOL:.0e} is accepted. Nothing was written.",
            fix=_FIX,
        )
    return worst


def _check_waves(n_waves: int, n_samples: int) -> NDArray[np.float32]:
    """Fixed noise whose level differs from wave to wave and within each."""
    rng = np.random.default_rng(0)
    envelope = 0.55 + 0.45 * np.sin(np.arange(n_samples) / 821.0)
    levels = np.geomspace(0.5, 0.02, n_waves)[:, None]
    return (levels * envelope * rng.uniform(-1, 1, (n_waves, n_samples))).astype(np.float32)
