"""Plans of TensorRT 8.5, whose networks are weakly typed: each layer is held to its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.engines.tensorrt_runtime import Messages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aasist_deploy.engines.tensorrt_runtime import TensorRt

# At 128 the largest map has just fewer than 2^31 values; larger batches run in pieces.
PROFILES: Final = ((1, 64, 128),)


def build(
    here: TensorRt, path: Path, *, mixed: bool, profiles: Sequence[tuple[int, int, int]] = PROFILES
) -> tuple[bytes, dict[str, Any]]:
    """A plan of a graph; a mixed one has each layer held to the graph's own types.

    Args:
        here: TensorRT 8.5.
        path: The graph.
        mixed: Whether it has layers in fp16.
        profiles: Smallest, optimal and largest batch of each.

    Returns:
        The plan, the number of its layers, and how many were held to which type.

    Raises:
        RuntimeError: the parser or the builder refuses; it says so in their words.
    """
    trt_, messages = here.module, Messages(here)
    builder = trt_.Builder(messages.logger)
    network = builder.create_network(1 << int(trt_.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt_.OnnxParser(network, messages.logger)
    if not parser.parse(path.read_bytes()):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise RuntimeError("; ".join(errors))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt_.MemoryPoolType.WORKSPACE, 16 << 30)
    config.clear_flag(trt_.BuilderFlag.TF32)
    config.min_timing_iterations = config.avg_timing_iterations = 1
    config.profiling_verbosity = trt_.ProfilingVerbosity.DETAILED
    held = {}
    if mixed:
        config.set_flag(trt_.BuilderFlag.FP16)
        config.set_flag(trt_.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        held = hold_types(trt_, network)
    source = network.get_input(0)
    for low, best, high in profiles:
        profile = builder.create_optimization_profile()
        rest = tuple(source.shape)[1:]
        profile.set_shape(source.name, (low, *rest), (best, *rest), (high, *rest))
        config.add_optimization_profile(profile)
    # cuBLAS 11 and cuDNN 8 are not on the machine; TensorRT's own kernels are.
    sources = (
        trt_.TacticSource.EDGE_MASK_CONVOLUTIONS,
        trt_.TacticSource.JIT_CONVOLUTIONS,
    )
    config.set_tactic_sources(sum(1 << int(s) for s in sources))
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise RuntimeError(f"build_serialized_network gave None: {messages.said()}")
    return bytes(made), {"layers": network.num_layers, **held}


def hold_types(trt_: Any, network: Any) -> dict[str, int]:  # noqa: ANN401
    """Hold each floating-point layer to the type that the graph gives its output; how many."""
    counts = {"layers_fp16": 0, "layers_fp32": 0}
    fixed = (trt_.LayerType.CONSTANT, trt_.LayerType.SHAPE)
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        outputs = [layer.get_output(j) for j in range(layer.num_outputs)]
        types = {t.dtype for t in outputs}
        if layer.type in fixed or len(types) != 1 or not types <= {trt_.float16, trt_.float32}:
            continue
        (dtype,) = types
        try:
            layer.precision = dtype
            for j in range(layer.num_outputs):
                layer.set_output_type(j, dtype)
        except Exception:  # noqa: BLE001  # a layer that takes no constraint needs none
            continue
        counts["layers_fp16" if dtype == trt_.float16 else "layers_fp32"] += 1
    return counts
