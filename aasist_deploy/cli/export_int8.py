"""`aasist-deploy export --precision int8`: what it is calibrated on, and what is said of it."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from aasist_deploy.audio import N_SAMPLES, SAMPLE_RATE_HZ, find_audio, fit_length, read_audio
from aasist_deploy.cli.common import stderr, tracked
from aasist_deploy.cli.export_precision import described, gate_lines, truth_of
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aasist_deploy.cli.export_precision import PrecisionRequest
    from aasist_deploy.export.int8 import CalibrationAudio, Int8Options, Int8Result

_PANEL = "8-bit integers, with --precision int8"
CalibrateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--calibrate",
        rich_help_panel=_PANEL,
        help="Folder or file of real audio from which the ranges of 8-bit values are taken: "
        "training or development clips, of both classes, never those of --gate-audio. May be "
        "repeated.",
    ),
]
CalibrateLabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--calibrate-labels",
        rich_help_panel=_PANEL,
        help="Protocol or CSV manifest with the truth of these clips, so that a folder of one "
        "class is refused. Default: --gate-labels, where that names them.",
    ),
]
EvaluationListOption = Annotated[
    Path | None,
    typer.Option(
        "--evaluation-list",
        rich_help_panel=_PANEL,
        help="Protocol or CSV manifest of clips that are kept for evaluation: calibrating on one "
        "of them is refused.",
    ),
]
HeadroomOption = Annotated[
    float | None,
    typer.Option(
        "--headroom",
        rich_help_panel=_PANEL,
        help="With --int8-scales fixed: ranges are so many times those seen in calibration, for "
        "louder clips; what is beyond is clipped. Default: 1.5.",
    ),
]
ActivationsOption = Annotated[
    Literal["uint8", "int8"] | None,
    typer.Option(
        "--int8-activations",
        rich_help_panel=_PANEL,
        help="With --int8-scales fixed: uint8 has a zero point and the finer steps; int8 has the "
        "zero point 0, which TensorRT needs. Default: uint8, and int8 with --to trt.",
    ),
]
ScalesOption = Annotated[
    Literal["clip", "fixed"] | None,
    typer.Option(
        "--int8-scales",
        rich_help_panel=_PANEL,
        help="clip divides what a layer reads by its largest value in each clip; fixed has one "
        "scale for all audio, which is faster and moves scores several times as far. Default: "
        "clip.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Request:
    """The options of int8 as they were typed; the names are those of the options."""

    calibrate: list[str] | None = None
    calibrate_labels: Path | None = None
    evaluation_list: Path | None = None
    headroom: float | None = None
    int8_activations: str | None = None
    int8_scales: Literal["clip", "fixed"] | None = None

    def check(self, gate: PrecisionRequest) -> None:
        """Refuse options that do not go together, before any work.

        Raises:
            UsageError: they do not, or there is nothing to calibrate on.
        """
        names = [n for n in self.__dataclass_fields__ if getattr(self, n) not in (None, [])]
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        if gate.precision != "int8":
            if names:
                raise UsageError(
                    f"{options} belongs to int8, and {gate.precision} was asked for.",
                    fix="add --precision int8, or leave it out",
                )
            return
        if not self.calibrate:
            raise UsageError(
                "A graph in int8 takes the ranges of its values from real audio, and none was "
                "given.",
                fix="--calibrate FOLDER with some hundreds of training or development clips, both "
                "genuine and spoofed",
            )
        self.options(gate)

    def options(self, gate: PrecisionRequest, *, for_tensorrt: bool = False) -> Int8Options:
        """The options of the quantization."""
        from aasist_deploy.cli.options import names_of
        from aasist_deploy.export.int8 import DEFAULT_HEADROOM, Int8Options

        scales = self.int8_scales or "clip"
        fixed = {"--headroom": self.headroom, "--int8-activations": self.int8_activations}
        if scales == "clip" and (given := [n for n, value in fixed.items() if value is not None]):
            raise UsageError(
                f"{', '.join(given)} belongs to fixed scales, and scales per clip were asked for.",
                fix="add --int8-scales fixed, or leave it out",
            )
        signed = self.int8_activations or ("int8" if for_tensorrt else "uint8")
        if for_tensorrt and signed != "int8":
            raise UsageError(
                "TensorRT takes 8-bit values with the zero point 0 alone, and --int8-activations "
                "uint8 was given.",
                fix="leave it out",
            )
        return Int8Options(
            fp32_nodes=names_of(gate.fp32_nodes or ""),
            symmetric=signed == "int8",
            scales=scales,
            headroom=DEFAULT_HEADROOM if self.headroom is None else self.headroom,
            limits=gate.limits(),
            search=not gate.no_search,
            gated=not gate.no_gate,
        )

    def audio(
        self, gate_labels: Path | None, n_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ
    ) -> CalibrationAudio:
        """The clips to calibrate on as windows of this length, with their truth where it is given.

        Raises:
            UsageError: there is no audio, it is of one class, or a clip is for evaluation or not
                named by the labels.
            AudioError: a clip cannot be read.
        """
        from aasist_deploy.export.int8 import CalibrationAudio

        paths = list(find_audio(self.calibrate or []))
        if self.evaluation_list is not None:
            _refuse_evaluation(paths, self.evaluation_list)
        truth = self._truth(gate_labels, paths)
        waves = [
            fit_length(
                read_audio(path, sample_rate_hz=sample_rate_hz, max_samples=n_samples).wave,
                n_samples,
            )
            for path in tracked(paths, "reading calibration clips", len(paths))
        ]
        return CalibrationAudio(
            waves=np.stack(waves),
            names=tuple(path.stem for path in paths),
            bona_fide=truth,
            source=f"{len(paths)} clips: {', '.join(Path(n).name for n in self.calibrate or [])}",
        )

    def _truth(self, gate_labels: Path | None, paths: Sequence[Path]) -> Any:  # noqa: ANN401  # (n,) bool
        """The truth; None where only the gate's labels were given and they do not name all."""
        if self.calibrate_labels is not None:
            return truth_of(self.calibrate_labels, paths)
        if gate_labels is not None:
            with suppress(UsageError):  # it need not name them
                return truth_of(gate_labels, paths)
        stderr.print(
            "Whether the clips of --calibrate are of both classes was not checked: no labels "
            "(--calibrate-labels)."
        )
        return None


def quantize_onnx(
    source: Path,
    target: Path,
    request: Int8Request,
    gate: PrecisionRequest,
    *,
    for_tensorrt: bool = False,
    max_difference: float | None = None,
) -> tuple[dict[str, Any], str]:
    """Quantize an exported file; what is said of the new one, as JSON and as lines.

    Args:
        source: The fp32 file.
        target: The int8 file to write.
        request: How.
        gate: What it is accepted on.
        for_tensorrt: Write what TensorRT reads.
        max_difference: Of the fp32 file from its checkpoint, to be told.
    """
    from aasist_deploy.cli.options import refuse_overwriting
    from aasist_deploy.contract import read_contract
    from aasist_deploy.export.int8 import quantize_file

    refuse_overwriting(target, [source])
    contract, _ = read_contract(source)
    options = request.options(gate, for_tensorrt=for_tensorrt)
    n_samples, rate = contract.n_samples or N_SAMPLES, contract.sample_rate_hz
    calibration = request.audio(gate.gate_labels, n_samples, rate)
    audio = gate.audio(contract.n_samples, rate)
    with stderr.status("quantizing") as status:
        result = quantize_file(source, target, calibration, options, audio, on_step=status.update)
    said = {
        "path": str(result.path),
        "n_nodes": result.n_nodes,
        "max_difference": max_difference,
        "contract": result.contract.to_dict(),
    }
    about = [] if max_difference is None else [_exact(max_difference)]
    lines = [*about, *gate_lines(result.choice.report, []), *_layer_lines(result)]
    return said, described(result.path, result.contract, result.n_nodes, lines)


def quantize_checkpoint(
    export_fp32: Callable[[Path], float],
    target: Path,
    request: Int8Request,
    gate: PrecisionRequest,
    *,
    for_tensorrt: bool = False,
) -> tuple[dict[str, Any], str]:
    """Export in fp32 to a place of its own, then as `quantize_onnx`.

    Args:
        export_fp32: Writes the file and gives its largest difference from the checkpoint.
        target: The int8 file to write.
        request: How.
        gate: What it is accepted on.
        for_tensorrt: Write what TensorRT reads.
    """
    with tempfile.TemporaryDirectory(prefix="aasist-deploy-") as folder:
        fp32 = Path(folder) / f"{target.stem}.fp32.onnx"
        with stderr.status("exporting and checking against the checkpoint"):
            worst = export_fp32(fp32)
        return quantize_onnx(
            fp32, target, request, gate, for_tensorrt=for_tensorrt, max_difference=worst
        )


def _exact(max_difference: float) -> str:
    return f"largest difference from the checkpoint {max_difference:.1e} in fp32"


def _layer_lines(result: Int8Result) -> list[str]:
    """What is int8, and what is not because of the scores."""
    share = sum(layer.share for layer in result.choice.layers)
    names = ", ".join(name for layer in result.choice.layers for name in layer.nodes)
    lines = [f"int8 are {names}: {share:.0%} of all multiplications"]
    left = [name for name, why in result.kept.items() if why == "gate"]
    if left:
        lines.append(f"in fp32 because of the scores: {', '.join(left)}")
    return lines


def _refuse_evaluation(paths: Sequence[Path], labels: Path) -> None:
    from aasist_deploy.trials import read_key

    kept = {Path(entry.utterance).stem for entry in read_key(labels)}
    shared = [path.name for path in paths if path.stem in kept]
    if shared:
        raise UsageError(
            f"{len(shared)} of {len(paths)} clips to calibrate on are in {labels}, which is for "
            f"evaluation: e.g. {shared[0]}.",
            fix="calibrate on training or development clips that nothing is evaluated on",
        )
