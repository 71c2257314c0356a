"""`aasist-deploy export --precision fp16`: the options of lower precision, and what it changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from aasist_deploy.audio import N_SAMPLES, SAMPLE_RATE_HZ, find_audio, fit_length, read_audio
from aasist_deploy.cli.common import stderr
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.export.precision import GateAudio, GateLimits, GateReport, PrecisionOptions

_PANEL = "Lower precision, with --precision fp16, bf16 or int8"
GateAudioOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gate-audio",
        rich_help_panel=_PANEL,
        help="Folder or file of real audio on which the scores must hold; may be repeated. Some "
        "dozens of clips, both genuine and spoofed.",
    ),
]
GateLabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--gate-labels",
        rich_help_panel=_PANEL,
        help="Protocol or CSV manifest with the truth of these clips: error rates are compared, "
        "and decisions at the equal error threshold.",
    ),
]
GateAsvOption = Annotated[
    Path | None,
    typer.Option(
        "--gate-asv",
        rich_help_panel=_PANEL,
        help="ASV scores of ASVspoof 2019, with --gate-labels: the min t-DCF is compared too.",
    ),
]
GateThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--gate-threshold",
        rich_help_panel=_PANEL,
        help="Threshold of the decisions that must not flip. Default: the equal error threshold "
        "with --gate-labels, 0 without.",
    ),
]
MaxDifferenceOption = Annotated[
    float | None,
    typer.Option(
        "--max-difference",
        rich_help_panel=_PANEL,
        help="Largest difference of a score. Default: 0.05 for fp16, 0.25 for bf16, 0.5 for int8.",
    ),
]
MaxFlipsOption = Annotated[
    int | None,
    typer.Option(
        "--max-flips", min=0, rich_help_panel=_PANEL, help="Decisions that may flip. Default: 0."
    ),
]
MinRankCorrelationOption = Annotated[
    float | None,
    typer.Option(
        "--min-rank-correlation",
        min=-1.0,
        max=1.0,
        rich_help_panel=_PANEL,
        help="Smallest rank correlation of the scores. Default: 0.999.",
    ),
]
MaxEerChangeOption = Annotated[
    float | None,
    typer.Option(
        "--max-eer-change",
        min=0.0,
        rich_help_panel=_PANEL,
        help="Largest change of the EER, in [0, 1], with --gate-labels. Default: 0 for int8, any "
        "for the others.",
    ),
]
MaxTdcfChangeOption = Annotated[
    float | None,
    typer.Option(
        "--max-tdcf-change",
        min=0.0,
        rich_help_panel=_PANEL,
        help="Largest change of the min t-DCF, with --gate-asv. Default: 0 for int8, any for the "
        "others.",
    ),
]
Fp32NodesOption = Annotated[
    str | None,
    typer.Option(
        "--fp32-nodes",
        rich_help_panel=_PANEL,
        help="Further nodes that keep fp32, as patterns: 'front_end/*,encoder.0*'.",
    ),
]
NoSearchOption = Annotated[
    bool,
    typer.Option(
        "--no-search",
        rich_help_panel=_PANEL,
        help="Fail when the scores do not hold, in place of moving layers back to fp32.",
    ),
]
NoGateOption = Annotated[
    bool,
    typer.Option(
        "--no-gate",
        rich_help_panel=_PANEL,
        help="Write the file without measuring its scores; its contract says so.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRequest:
    """The options of lower precision as they were typed; the names are those of the options."""

    precision: str
    gate_audio: list[str] | None
    gate_labels: Path | None
    gate_asv: Path | None
    gate_threshold: float | None
    max_difference: float | None
    max_flips: int | None
    fp32_nodes: str | None
    no_search: bool
    no_gate: bool
    min_rank_correlation: float | None = None
    max_eer_change: float | None = None
    max_tdcf_change: float | None = None

    def check(self) -> None:
        """Refuse options that do not go together, before any work.

        Raises:
            UsageError: they do not, or there is no audio for the gate.
        """
        names = [n for n in self.__dataclass_fields__ if n != "precision"]
        given = [n for n in names if getattr(self, n) not in (None, False, [])]
        measured = [n for n in given if n not in ("no_gate", "fp32_nodes")]
        options = ", ".join(f"--{name.replace('_', '-')}" for name in measured or given)
        if self.precision == "fp32" and given:
            raise UsageError(
                f"{options} belongs to lower precision, and fp32 was asked for.",
                fix="add --precision fp16, or leave it out",
            )
        if self.precision == "fp32":
            return
        if self.no_gate and measured:
            raise UsageError(
                f"--no-gate measures nothing, and {options} was given.",
                fix="leave out --no-gate, or the others",
            )
        if self.gate_labels is None and self.gate_asv is not None:
            raise UsageError(
                "--gate-asv needs the truth of the clips.", fix="add --gate-labels PROTOCOL"
            )
        from aasist_deploy.export.precision import require_audio, require_gate

        if self.precision == "int8":
            require_audio("int8", given=bool(self.gate_audio) or self.no_gate)
        elif not self.gate_audio:
            require_gate(self.options(), None)

    def options(self) -> PrecisionOptions:
        """The options of the lowering; those of the gate are read by `audio`."""
        from aasist_deploy.cli.options import names_of
        from aasist_deploy.export.precision import PrecisionOptions, low_format

        low_format(self.precision)
        return PrecisionOptions(
            precision=self.precision,
            fp32_nodes=names_of(self.fp32_nodes or ""),
            limits=self.limits(),
            search=not self.no_search,
            gated=not self.no_gate,
        )

    def limits(self) -> GateLimits:
        """What the gate accepts: the default of the precision, but for what was given."""
        from aasist_deploy.export.precision import GateLimits

        given: dict[str, Any] = {
            "difference": self.max_difference,
            "flips": self.max_flips,
            "rank_correlation": self.min_rank_correlation,
            "eer_change": self.max_eer_change,
            "min_tdcf_change": self.max_tdcf_change,
        }
        limits = GateLimits.of(self.precision)
        return replace(limits, **{n: v for n, v in given.items() if v is not None})

    def audio(
        self, n_samples: int | None, sample_rate_hz: int = SAMPLE_RATE_HZ
    ) -> GateAudio | None:
        """The clips of the gate as windows of this length, with their truth where it is given.

        Args:
            n_samples: Of the model; None for any length, then the published window is taken.
            sample_rate_hz: Of the model.

        Raises:
            UsageError: there is no audio, or a clip that the labels do not name.
        """
        if not self.gate_audio:
            return None
        from aasist_deploy.export.precision import GateAudio
        from aasist_deploy.metrics import asv_error_rates
        from aasist_deploy.scores import read_asv_scores

        length = n_samples or N_SAMPLES
        paths = list(find_audio(self.gate_audio))
        waves = [
            fit_length(
                read_audio(path, sample_rate_hz=sample_rate_hz, max_samples=length).wave, length
            )
            for path in paths
        ]
        truth = None if self.gate_labels is None else truth_of(self.gate_labels, paths)
        source = ", ".join(Path(name).name for name in self.gate_audio)
        return GateAudio(
            waves=np.stack(waves) if waves else np.zeros((0, length), np.float32),
            bona_fide=truth,
            threshold=self.gate_threshold,
            asv=None if self.gate_asv is None else asv_error_rates(read_asv_scores(self.gate_asv)),
            source=f"{len(paths)} clips: {source}",
            names=tuple(path.stem for path in paths),
        )


def gate_lines(report: GateReport | None, moved: Sequence[str]) -> list[str]:
    """What is printed of the gate."""
    if report is None:
        return ["its scores were not measured (--no-gate)"]
    said = (
        f"on {report.n_clips} clips scores differ by at most {report.max_difference:.2g} "
        f"(mean {report.mean_difference:.2g}), {report.flips} decisions at {report.threshold:.3g} "
        f"flip"
    )
    for name, pair in (("EER", report.eer), ("min t-DCF", report.min_tdcf)):
        if pair is not None:
            said += f", {name} {pair[0]:.4f} to {pair[1]:.4f}"
    back = [f"moved back to fp32 because of their scores: {', '.join(moved)}"] if moved else []
    return [said, *back]


def lower_onnx(source: Path, target: Path, request: PrecisionRequest) -> tuple[dict[str, Any], str]:
    """Lower an exported file; what is said of the new one, as JSON and as lines.

    Raises:
        UsageError: fp32 was asked for, which it is already, or it would replace its source.
    """
    from aasist_deploy.cli.options import refuse_overwriting
    from aasist_deploy.contract import read_contract
    from aasist_deploy.export.precision import lower_file

    if request.precision == "fp32":
        raise UsageError(
            f"{source} is exported already.",
            fix="add --precision fp16 to lower it, or --to trt to build a plan from it",
        )
    refuse_overwriting(target, [source])
    contract, _ = read_contract(source)
    audio = request.audio(contract.n_samples, contract.sample_rate_hz)
    with stderr.status("lowering the precision") as status:
        result = lower_file(source, target, request.options(), audio, on_step=status.update)
    said = {
        "path": str(result.path),
        "n_nodes": result.n_nodes,
        "max_difference": None,
        "contract": result.contract.to_dict(),
    }
    lines = gate_lines(result.choice.report, [name for name, _ in result.choice.moved])
    return said, described(result.path, result.contract, result.n_nodes, lines)


def described(path: Path, contract: ModelContract, n_nodes: int, lines: Sequence[str]) -> str:
    """What is printed of a written file."""
    size_mb = path.stat().st_size / 1e6
    precision = "" if contract.precision == "fp32" else f" in {contract.precision}"
    return (
        f"{path}: {contract.architecture}{precision}, {n_nodes} nodes, {size_mb:.1f} MB; "
        f"{'; '.join(lines)}"
    )


def truth_of(labels: Path, paths: Sequence[Path]) -> Any:  # noqa: ANN401  # (n,) bool
    """Whether each clip is bona fide.

    Raises:
        UsageError: a clip that the labels do not name.
    """
    from aasist_deploy.trials import read_key

    key = {Path(entry.utterance).stem: entry.label for entry in read_key(labels)}
    unknown = [path.name for path in paths if path.stem not in key]
    if unknown:
        raise UsageError(
            f"{labels} does not name {len(unknown)} of {len(paths)} clips, e.g. {unknown[0]}.",
            fix="give the protocol of these clips, or leave that option out",
        )
    return np.array([key[path.stem] == "bonafide" for path in paths])
