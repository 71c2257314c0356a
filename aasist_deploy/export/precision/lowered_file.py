"""`lower_file`: an exported fp32 file becomes one of lower precision, if the gate holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import UsageError
from aasist_deploy.export.precision.formats import low_format
from aasist_deploy.export.precision.lowering import lower_precision
from aasist_deploy.export.precision.search import Choice, choose_islands, given_islands
from aasist_deploy.onnx_file import parse_onnx, write_onnx_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.export.precision.gate import GateAudio, GateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionOptions:
    """How precision is lowered.

    Attributes:
        precision: "fp16" or "bf16".
        fp32_nodes: Patterns (`pool_*`, `encoder.0*`) of nodes that keep fp32 besides those of the
            rule.
        limits: What the gate accepts; `GateLimits.of(precision)` by default.
        search: Move more nodes to fp32 while the gate does not hold.
        gated: False: write the file without measuring anything; its contract says so.
        threads: Threads of the measurement.
    """

    precision: str
    fp32_nodes: tuple[str, ...] = ()
    limits: GateLimits | None = None
    search: bool = True
    gated: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown precision."""
        low_format(self.precision)


@dataclass(frozen=True, slots=True)
class LoweredResult:
    """What was written.

    Attributes:
        path: The file.
        contract: What it says of itself.
        n_nodes: Operators in the graph.
        choice: Its islands, and what the gate found.
    """

    path: Path
    contract: ModelContract
    n_nodes: int
    choice: Choice


def lower_file(
    source: Path | str,
    output: Path | str,
    options: PrecisionOptions,
    audio: GateAudio | None = None,
    *,
    on_step: Callable[[str], None] | None = None,
) -> LoweredResult:
    """Write the file of lower precision; a file that was at `output` stays when the gate fails.

    Args:
        source: An exported fp32 `.onnx` file.
        output: The `.onnx` file to write.
        options: How precision is lowered.
        audio: What the gate measures on.
        on_step: Called with a sentence before each measurement.

    Raises:
        UsageError: no audio for the gate, a source that is not fp32, or a pattern without a node.
        ModelFileError: the source is no exported file, or cannot be lowered.
        CheckFailed: the gate does not hold.
        OutputError: the place cannot be written.
    """
    require_gate(options, audio)
    output = Path(output)
    contract, file = read_contract(source)
    if contract.precision != "fp32":
        raise UsageError(
            f"{source} computes in {contract.precision}; only an fp32 file can be lowered.",
            fix="give the fp32 file that it was made from, or the checkpoint",
        )
    model = onnx.load_model_from_string(file.content)
    extra = _matching(model, options.fp32_nodes)
    if audio is None or not options.gated:
        choice = Choice(given_islands(model, options.precision, extra))
    else:
        choice = choose_islands(
            model,
            contract,
            options.precision,
            audio,
            limits=options.limits,
            extra=extra,
            search=options.search,
            threads=options.threads,
            on_step=on_step,
        )
    lowered = lower_precision(model, options.precision, choice.islands)
    written = replace(
        contract,
        precision=options.precision,
        fp32_nodes=tuple(choice.islands),
        gate=_gate_entry(choice, audio),
        graph_sha256=parse_onnx(lowered.SerializeToString(), output).graph_sha256,
    )
    metadata = {**file.metadata, **written.to_metadata()}
    onnx.helper.set_model_props(lowered, metadata)
    write_onnx_file(output, lowered.SerializeToString())
    return LoweredResult(output, written, len(lowered.graph.node), choice)


def require_gate(options: PrecisionOptions, audio: GateAudio | None) -> None:
    """Refuse to lower precision unmeasured unless that was asked for, before any work is done.

    Raises:
        UsageError: there is no audio, and the gate was not given up.
    """
    require_audio(options.precision, given=audio is not None or not options.gated)


def require_audio(precision: str, *, given: bool) -> None:
    """Refuse a gate without audio.

    Raises:
        UsageError: there is none.
    """
    if not given:
        raise UsageError(
            f"A graph in {precision} is accepted for its scores on real audio, and no audio was "
            f"given.",
            fix="--gate-audio FOLDER with some dozens of clips, both genuine and spoofed; or "
            "--no-gate to write it unmeasured",
        )


def _matching(model: onnx.ModelProto, patterns: tuple[str, ...]) -> list[str]:
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"No node of the graph is called '{pattern}'.",
                fix=f"nodes are named by their layer, e.g. {names[0]}, {names[-1]}",
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def _gate_entry(choice: Choice, audio: GateAudio | None) -> dict[str, Any] | None:
    """What the contract says of the gate; None when there was none."""
    if choice.report is None or audio is None:
        return None
    return {
        "on": audio.source,
        "moved_to_fp32": [name for name, _ in choice.moved],
        **choice.report.to_dict(),
    }
