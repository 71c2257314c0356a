"""`quantize_file`: an exported fp32 file becomes an int8 one, if the gate holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import onnx

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import UsageError
from aasist_deploy.export.int8.calibration import calibrate, refuse_overlap
from aasist_deploy.export.int8.clip_scales import scaled_name
from aasist_deploy.export.int8.layers import PRODUCTS, quantizable_layers
from aasist_deploy.export.int8.quantizing import quantized
from aasist_deploy.export.int8.search import Int8Choice, choose_layers
from aasist_deploy.export.precision.gate import GateLimits
from aasist_deploy.export.precision.lowered_file import require_audio
from aasist_deploy.onnx_file import parse_onnx, write_onnx_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.export.int8.calibration import CalibrationAudio
    from aasist_deploy.export.int8.layers import Layer
    from aasist_deploy.export.precision import GateAudio

# Measured on AASIST: docs/int8.md.
DEFAULT_HEADROOM: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """How a graph is quantized.

    Attributes:
        fp32_nodes: Patterns (`encoder.0*`) of products that keep fp32 besides those of the rules.
        symmetric: With fixed scales: activations with the zero point 0, as TensorRT needs them.
            With scales per clip they always are.
        scales: "clip" divides what a layer reads by the largest value of each clip before it is
            rounded (`with_clip_scales`); "fixed" has one scale for all audio, which saves that
            work and moves scores several times as far.
        headroom: Fixed ranges are so much wider than those seen in calibration.
        limits: What the gate accepts; `GateLimits.of("int8")` by default.
        search: Leave layers in fp32 until the gate holds.
        gated: False: quantize every layer, and measure nothing; the contract says so.
        threads: Threads of the measurement.
    """

    fp32_nodes: tuple[str, ...] = ()
    symmetric: bool = False
    scales: Literal["clip", "fixed"] = "clip"
    headroom: float = DEFAULT_HEADROOM
    limits: GateLimits | None = None
    search: bool = True
    gated: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would clip what was seen, and unknown words."""
        if self.scales not in ("clip", "fixed"):
            raise UsageError(f"There are no scales '{self.scales}'; known are: clip, fixed.")
        if not 1.0 <= self.headroom <= 100.0:
            raise UsageError(f"The headroom of the ranges is {self.headroom}; it must be 1 to 100.")


@dataclass(frozen=True, slots=True)
class Int8Result:
    """What was written.

    Attributes:
        path: The file.
        contract: What it says of itself.
        n_nodes: Operators in the graph.
        choice: Its int8 layers, and what the gate found.
        kept: Product that stays in fp32 -> why.
    """

    path: Path
    contract: ModelContract
    n_nodes: int
    choice: Int8Choice
    kept: dict[str, str]


def quantize_file(
    source: Path | str,
    output: Path | str,
    calibration: CalibrationAudio,
    options: Int8Options | None = None,
    audio: GateAudio | None = None,
    *,
    on_step: Callable[[str], None] | None = None,
) -> Int8Result:
    """Write the int8 file; a file that was at `output` stays when the gate fails.

    Args:
        source: An exported fp32 `.onnx` file.
        output: The `.onnx` file to write.
        calibration: What ranges are taken from.
        options: How it is quantized.
        audio: What the gate measures on; needed unless `options.gated` is False.
        on_step: Called with a sentence before each measurement.

    Raises:
        UsageError: no audio for the gate, audio that is calibrated on too, a source that is not
            fp32, a pattern without a product, or a network in which no layer can be int8.
        ModelFileError: the source is no exported file.
        CheckFailed: the gate holds with no layer in int8.
        OutputError: the place cannot be written.
    """
    options = options or Int8Options()
    require_audio("int8", given=audio is not None or not options.gated)
    if audio is not None:
        refuse_overlap(calibration, audio)
    output = Path(output)
    contract, file = read_contract(source)
    if contract.precision != "fp32":
        raise UsageError(
            f"{source} computes in {contract.precision}; only an fp32 file can be quantized.",
            fix="give the fp32 file that it was made from, or the checkpoint",
        )
    model = onnx.load_model_from_string(file.content)
    layers, kept = quantizable_layers(model, calibration.waves.shape[1])
    layers = _without(model, layers, options.fp32_nodes, kept)
    if not layers:
        raise UsageError(
            f"No layer of {source} can be int8: {_counted(kept)}.", fix="use --precision fp32"
        )
    if on_step is not None:
        on_step(f"taking the ranges of {len(layers)} values on {len(calibration.waves)} clips")
    ranges, per_clip = _ranges(model, layers, calibration, options)
    symmetric = options.symmetric or per_clip is not None
    if audio is None or not options.gated:
        choice = Int8Choice(tuple(layers))
    else:
        choice = choose_layers(
            model,
            contract,
            layers,
            ranges,
            calibration,
            audio,
            limits=options.limits or GateLimits.of("int8"),
            symmetric=symmetric,
            per_clip=per_clip,
            search=options.search,
            threads=options.threads,
            on_step=on_step,
        )
    low = {name for layer in choice.layers for name in layer.nodes}
    kept |= {n: "gate" for layer in layers for n in layer.nodes if n not in low}
    kept = {node.name: kept[node.name] for node in model.graph.node if node.name in kept}
    graph = quantized(model, choice.layers, ranges, symmetric=symmetric, per_clip=per_clip)
    del graph.metadata_props[:]
    written = replace(
        contract,
        precision="int8",
        fp32_nodes=tuple(kept),
        gate=_gate_entry(choice, audio, calibration, options, ranges, kept),
        graph_sha256=parse_onnx(graph.SerializeToString(), output).graph_sha256,
    )
    onnx.helper.set_model_props(graph, {**file.metadata, **written.to_metadata()})
    write_onnx_file(output, graph.SerializeToString())
    return Int8Result(output, written, len(graph.graph.node), choice, kept)


def _ranges(
    model: onnx.ModelProto,
    layers: list[Layer],
    calibration: CalibrationAudio,
    options: Int8Options,
) -> tuple[dict[str, tuple[float, float]], dict[str, float] | None]:
    """The ranges of what is rounded; with scales per clip, the largest magnitudes before them."""
    seen = calibrate(model, [layer.value for layer in layers], calibration.waves)
    if options.scales == "fixed":
        wider = options.headroom
        return {value: (low * wider, high * wider) for value, (low, high) in seen.items()}, None
    largest = {value: max(-low, high) for value, (low, high) in seen.items()}
    return {scaled_name(value): (-1.0, 1.0) for value in seen}, largest


def _without(
    model: onnx.ModelProto, layers: list[Layer], patterns: tuple[str, ...], kept: dict[str, str]
) -> list[Layer]:
    """The layers without a product that was asked to stay in fp32; `kept` learns of those."""
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in products):
            raise UsageError(
                f"No convolution or matrix product of the graph is called '{pattern}'.",
                fix=f"they are named by their layer, e.g. {products[0]}, {products[-1]}",
            )
    left = []
    for layer in layers:
        if any(fnmatchcase(name, p) for name in layer.nodes for p in patterns):
            kept |= dict.fromkeys(layer.nodes, "asked for")
        else:
            left.append(layer)
    return left


def _gate_entry(
    choice: Int8Choice,
    audio: GateAudio | None,
    calibration: CalibrationAudio,
    options: Int8Options,
    ranges: dict[str, tuple[float, float]],
    kept: dict[str, str],
) -> dict[str, Any] | None:
    """What the contract says of the gate; None when there was none."""
    if choice.report is None or audio is None:
        return None
    tried = [
        {
            "nodes": list(one.layer.nodes),
            "int8": one.int8,
            "share_of_multiplications": round(one.layer.share, 4),
            "alone_rms_difference": round(one.mean_square**0.5, 4),
            "alone_max_difference": round(one.largest, 4),
        }
        for one in choice.damages
    ]
    return {
        "on": audio.source,
        "calibrated_on": calibration.source,
        "scales": options.scales,
        "headroom": options.headroom if options.scales == "fixed" else None,
        "activations": "uint8" if options.scales == "fixed" and not options.symmetric else "int8",
        "ranges": {value: [round(bound, 3) for bound in pair] for value, pair in ranges.items()},
        "int8_share_of_multiplications": round(sum(one.share for one in choice.layers), 4),
        "fp32_because": kept,
        "layers": tried,
        **choice.report.to_dict(),
    }


def _counted(kept: dict[str, str]) -> str:
    reasons = list(kept.values())
    return (
        ", ".join(f"{reasons.count(one)} {one}" for one in dict.fromkeys(reasons)) or "no product"
    )
