"""What OpenVINO needs to run a graph for streams as fast as one for whole windows.

Both changes are to the model in memory, before it is compiled; the scores are the same in fp32.
docs/streaming.md has what they gain in bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.engines.openvino_graph import import_openvino

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract, StreamContract

_MAP_AXES = 4  # (batch, channels, bands, columns); fewer are samples, which stay as they are


def keep_tail_in_bf16(model: Any, layout: StreamContract) -> int:  # noqa: ANN401
    """Let the layers whose columns are carried in the state be computed in bf16.

    In bf16 OpenVINO 2026.4 leaves in fp32 whatever lies between the last convolution or product and
    an output. The state is an output, and columns of every level are part of it: so all sums and
    pools would be in fp32, with a conversion before and after each. A convolution by one, exact in
    any precision, ends that for the few columns that are carried.

    Args:
        model: As OpenVINO read it; it is changed.
        layout: Of the file.

    Returns:
        How many parts of the state were changed; 0 where the graph is built otherwise.
    """
    ops = import_openvino().opset13
    joined = model.output(layout.state_output).get_node().input_value(0).get_node()
    n_changed = 0
    for place in range(joined.get_input_size()):
        flat = joined.input_value(place).get_node()
        if flat.get_type_name() != "Reshape":
            continue
        part = flat.input_value(0)
        shape = part.get_partial_shape()
        n_axes = shape.rank.get_length()
        if n_axes < _MAP_AXES or shape[1].is_dynamic:
            continue
        n_channels, spatial = shape[1].get_length(), n_axes - 2
        eye = np.eye(n_channels, dtype=np.float32).reshape(n_channels, n_channels, *[1] * spatial)
        none, ones = [0] * spatial, [1] * spatial
        same = ops.convolution(part, ops.constant(eye), ones, none, none, ones)
        flat.input(0).replace_source_output(same.output(0))
        n_changed += 1
    model.validate_nodes_and_infer_types()
    return n_changed


def fix_shape(model: Any, contract: ModelContract, n_frames: int) -> None:  # noqa: ANN401
    """Make the model one of calls of one stream and so many frames.

    For known shapes OpenVINO plans memory and layouts ahead; with any shapes it does so in each
    call, which made a call of one frame in bf16 half as dear again.
    """
    layout = contract.stream
    assert layout is not None
    model.reshape(
        {
            contract.input_name: [1, n_frames * layout.frame_samples],
            layout.state_input: [1, layout.state_size],
        }
    )
