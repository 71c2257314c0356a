"""What TensorRT made of a model, for a person who tunes it: layers, types and shapes, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aasist_deploy.engines.tensorrt_runtime import primary_context
from aasist_deploy.export.tensorrt_network import counts
from aasist_deploy.onnx_file import write_onnx_file

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.engines.tensorrt_runtime import Gpu, Messages, TensorRt
    from aasist_deploy.plan_file import PlanContract


def write_report(
    place: Path,
    tensorrt: TensorRt,
    gpu: Gpu | None,
    plan: PlanContract,
    content: bytes,
    listed: list[dict[str, Any]],
    messages: Messages,
) -> None:
    """Write the network's layers as parsed, and the plan's as built where a GPU can load it.

    Args:
        place: The JSON file.
        tensorrt: The TensorRT that built the plan.
        gpu: The GPU that it was built on, or None.
        plan: What the plan says of itself.
        content: Its bytes.
        listed: The layers, from `tensorrt_network.layers`.
        messages: TensorRT's logger.

    Raises:
        OutputError: the place cannot be written.
    """
    inspected, why_not = _inspected(tensorrt, gpu, content, messages)
    text = {
        "built_by": plan.built_for(),
        "onnx_sha256": plan.onnx_sha256,
        "plan_sha256": plan.plan_sha256,
        "precision": plan.contract.precision,
        "n_layers": len(listed),
        **counts(listed),
        "network": listed,
        "plan": inspected,
        "plan_not_listed_because": why_not,
    }
    write_onnx_file(place, (json.dumps(text, indent=1) + "\n").encode())


def deserialized(tensorrt: TensorRt, content: bytes, messages: Messages) -> Any | None:  # noqa: ANN401
    """The engine of a plan that was built here, on the current GPU; None when it does not load.

    Args:
        tensorrt: The TensorRT that built it.
        content: The plan's bytes.
        messages: TensorRT's logger, which then knows why.
    """
    try:
        runtime = tensorrt.module.Runtime(messages.logger)
    except (TypeError, RuntimeError):  # pybind11 says TypeError for a null pointer
        return None
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # the plan was made here, a moment ago
    return runtime.deserialize_cuda_engine(content)


def _inspected(
    tensorrt: TensorRt, gpu: Gpu | None, content: bytes, messages: Messages
) -> tuple[dict[str, Any] | None, str | None]:
    """What TensorRT's inspector says of the plan, or why it says nothing."""
    if gpu is None:
        return None, "the plan is for other machines, and no GPU loaded it"
    module = tensorrt.module
    with primary_context(gpu):
        engine = deserialized(tensorrt, content, messages)
        if engine is None:
            return None, messages.said()
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(module.LayerInformationFormat.JSON)
        del inspector, engine
    try:
        return dict(json.loads(text)), None
    except (ValueError, TypeError):
        return None, f"{tensorrt.title} gave no JSON"
