"""An ONNX file as TensorRT's network: parsed, checked against its contract, listed layer by layer.

The parser takes what it knows and may give an output another type than ONNX says; in a strongly
typed network that is what would run. So inputs, outputs and their types are checked after parsing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines.tensorrt_runtime import Messages, TensorRt

FLOAT: Final = "FLOAT"  # TensorRT's name of fp32


@dataclass(frozen=True, slots=True)
class Network:
    """A parsed network and everything that must live as long as it does.

    Attributes:
        builder: Makes configurations, profiles and the plan.
        definition: TensorRT's `INetworkDefinition`.
        parser: Owns the weights that the definition refers to.
        messages: The logger of all three.
    """

    builder: Any
    definition: Any
    parser: Any
    messages: Messages


def new_builder(tensorrt: TensorRt, messages: Messages) -> Any:  # noqa: ANN401  # no types
    """A builder.

    Raises:
        EnvironmentLacks: TensorRT cannot make one, e.g. because a library or the driver is missing.
    """
    try:
        builder = tensorrt.module.Builder(messages.logger)
    except (TypeError, RuntimeError) as error:  # pybind11 says TypeError for a null pointer
        raise EnvironmentLacks(
            f"{tensorrt.title} cannot make a builder here: {messages.said()} ({error}).",
            fix="`aasist-deploy doctor` says what is missing",
        ) from error
    return builder


def parse_network(
    tensorrt: TensorRt, messages: Messages, content: bytes, contract: ModelContract, path: Path
) -> Network:
    """Parse an ONNX model into a strongly typed network and check it against its contract.

    Args:
        tensorrt: The TensorRT to use.
        messages: Its logger.
        content: The bytes of the ONNX file.
        contract: What the file says of itself.
        path: The file, for messages.

    Raises:
        ModelFileError: TensorRT does not support a node, or the network is not what the contract
            says, e.g. an output is not float32.
        UsageError: the model takes waves of any length.
    """
    if contract.n_samples is None:
        raise UsageError(
            f"{path} takes waves of any length; a TensorRT plan is built for one window.",
            fix="export the checkpoint with a window: --samples 64600",
        )
    builder = new_builder(tensorrt, messages)
    flags = getattr(tensorrt.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    definition = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = tensorrt.module.OnnxParser(definition, messages.logger)
    if not parser.parse(content):
        raise ModelFileError(
            f"{tensorrt.title} cannot read {path}: {_parser_errors(parser) or messages.said()}.",
            fix="export the checkpoint again with the installed version; `--topk rank` needs the "
            "fewest kinds of operators",
        )
    _check_inputs(definition, contract, path, tensorrt)
    _check_outputs(definition, contract, path, tensorrt)
    return Network(builder, definition, parser, messages)


def unsupported_nodes(
    tensorrt: TensorRt, messages: Messages, content: bytes
) -> list[tuple[str, str]]:
    """Nodes of an ONNX model that TensorRT does not support, as (name, operator).

    `supports_model_v2` parses into the network that it is given, so this takes one of its own.

    Args:
        tensorrt: The TensorRT to use.
        messages: Its logger.
        content: The bytes of the ONNX file.
    """
    builder = new_builder(tensorrt, messages)
    flags = getattr(tensorrt.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    definition = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = tensorrt.module.OnnxParser(definition, messages.logger)
    if parser.supports_model_v2(content):
        return []
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return [(str(e.node_name()), str(e.node_operator())) for e in errors]


def _parser_errors(parser: Any) -> str:  # noqa: ANN401  # TensorRT has no types
    """What the parser says of its errors, in one line."""
    texts = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        code = str(getattr(error.code(), "name", error.code()))
        # Without a driver, every error is followed by a line that only says so.
        lines = [x.strip() for x in str(error.desc()).splitlines() if "catchCudaError" not in x]
        text = " ".join(line for line in lines if line and line != "false")
        where = ""
        if hasattr(error, "node_name") and error.node_operator():
            where = f"node {error.node_name() or error.node()} ({error.node_operator()}): "
        texts.append(f"{where}{code}{f', {text}' if text else ''}".rstrip("."))
    return "; ".join(dict.fromkeys(texts))


def _check_inputs(
    definition: Any,  # noqa: ANN401
    contract: ModelContract,
    path: Path,
    tensorrt: TensorRt,
) -> None:
    found = [definition.get_input(i) for i in range(definition.num_inputs)]
    names = [tensor.name for tensor in found]
    if names != [contract.input_name]:
        raise ModelFileError(
            f"The contract in {path} says the input {contract.input_name}; {tensorrt.title} "
            f"sees {', '.join(names)}.",
            fix="export the checkpoint again",
        )
    (wave,) = found
    shape, dtype = tuple(wave.shape), wave.dtype.name
    batch = contract.batch[0] if contract.batch[0] == contract.batch[1] else -1
    if dtype != FLOAT or shape != (batch, contract.n_samples):
        raise ModelFileError(
            f"The contract in {path} says waves of float32, ({batch}, {contract.n_samples}); "
            f"{tensorrt.title} sees {dtype}, {shape} (-1 is any number).",
            fix="export the checkpoint again",
        )


def _check_outputs(
    definition: Any,  # noqa: ANN401
    contract: ModelContract,
    path: Path,
    tensorrt: TensorRt,
) -> None:
    outputs = (definition.get_output(i) for i in range(definition.num_outputs))
    types = {tensor.name: tensor.dtype.name for tensor in outputs}
    if missing := sorted(set(contract.outputs) - set(types)):
        raise ModelFileError(
            f"The contract in {path} says the output {', '.join(missing)}; {tensorrt.title} sees "
            f"{', '.join(types)}.",
            fix="export the checkpoint again",
        )
    other = {name: types[name] for name in contract.outputs if types[name] != FLOAT}
    if other:
        said = ", ".join(f"{name} {dtype}" for name, dtype in other.items())
        raise ModelFileError(
            f"{path} says that its outputs are float32; {tensorrt.title} would give {said}.",
            fix="cast the outputs to float in the graph, or export the checkpoint again",
        )


def layers(definition: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # TensorRT has no types
    """Every layer of a network: name, type, and name, type and shape of its inputs and outputs.

    Returns:
        In the network's order; a dimension of -1 is any number.
    """
    return [_layer(definition.get_layer(i)) for i in range(definition.num_layers)]


def counts(listed: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many layers there are of each kind, and how many give each type of number."""
    kinds = Counter(str(layer["type"]) for layer in listed)
    types = Counter(str(out["type"]) for layer in listed for out in layer["outputs"])
    return {"layers": dict(kinds.most_common()), "output_types": dict(types.most_common())}


def _layer(layer: Any) -> dict[str, Any]:  # noqa: ANN401  # TensorRT has no types
    tensors = {
        "inputs": [layer.get_input(i) for i in range(layer.num_inputs)],
        "outputs": [layer.get_output(i) for i in range(layer.num_outputs)],
    }
    sides = {
        side: [_tensor(tensor) for tensor in found if tensor is not None]
        for side, found in tensors.items()
    }
    return {"name": layer.name, "type": layer.type.name, **sides}


def _tensor(tensor: Any) -> dict[str, Any]:  # noqa: ANN401  # TensorRT has no types
    return {"name": tensor.name, "type": tensor.dtype.name, "shape": _shape(tensor)}


def _shape(tensor: Any) -> list[int] | None:  # noqa: ANN401  # TensorRT has no types
    """The shape, or None where TensorRT does not know how many dimensions there are."""
    try:
        return [int(size) for size in tensor.shape]
    except ValueError:
        return None
