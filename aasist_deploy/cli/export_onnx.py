"""`aasist-deploy export`: the .onnx file, of a checkpoint or of an exported file in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasist_deploy.cli.common import stderr
from aasist_deploy.cli.export_int8 import Int8Request, quantize_checkpoint, quantize_onnx
from aasist_deploy.cli.export_precision import PrecisionRequest, described, gate_lines, lower_onnx
from aasist_deploy.cli.export_stream import export_for_streams
from aasist_deploy.cli.options import n_samples_of, names_of, number_or
from aasist_deploy.errors import UsageError
from aasist_deploy.published import names, pull

if TYPE_CHECKING:
    from aasist_deploy.export import ExportOptions
    from aasist_deploy.models import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRequest:
    """What the command line says of the .onnx file.

    Attributes:
        checkpoint: Weights, a published name, or an exported file.
        config: --config.
        code: --code.
        topk: --topk, or None.
        samples: --samples.
        batch: --batch.
        opset: --opset.
        outputs: --outputs.
        precision: --precision.
        stream: --stream.
    """

    checkpoint: str
    config: Path | None
    code: str | None
    topk: str | None
    samples: str
    batch: str
    opset: int
    outputs: str
    precision: str
    stream: bool

    @property
    def exported(self) -> Path | None:
        """The exported file that was given, or None for a checkpoint."""
        return Path(self.checkpoint) if self.checkpoint.endswith(".onnx") else None

    def write(
        self, target: Path, lowering: PrecisionRequest, int8: Int8Request, *, for_tensorrt: bool
    ) -> tuple[dict[str, Any], str]:
        """Write the file; what is said of it, as JSON and as lines.

        Args:
            target: The file.
            lowering: How scores are held in a lower precision.
            int8: How 8-bit values are chosen.
            for_tensorrt: Write what TensorRT reads.

        Raises:
            AasistDeployError: options that do not go together, or whatever the export finds wrong.
        """
        if self.exported is not None and self.precision == "int8":
            return quantize_onnx(self.exported, target, int8, lowering, for_tensorrt=for_tensorrt)
        if self.exported is not None:
            return lower_onnx(self.exported, target, lowering)
        options = self._options(for_tensorrt=for_tensorrt)
        if self.precision == "int8":
            return self._quantized(target, options, lowering, int8, for_tensorrt=for_tensorrt)
        if self.stream:
            return export_for_streams(self._loaded(), target, options)
        return self._checked(target, options, lowering)

    def _options(self, *, for_tensorrt: bool) -> ExportOptions:
        from aasist_deploy.export import ExportOptions

        return ExportOptions(
            topk=self.topk or ("rank" if for_tensorrt else "topk"),  # type: ignore[arg-type]  # checked there
            n_samples=n_samples_of(self.samples),
            batch=number_or(self.batch, "dynamic", "--batch"),
            opset=self.opset,
            outputs=names_of(self.outputs),
            precision="fp32" if self.precision == "int8" else self.precision,
        )

    def _loaded(self) -> Checkpoint:
        from aasist_deploy.models import load_checkpoint, read_config

        path = pull(self.checkpoint) if self.checkpoint in names() else Path(self.checkpoint)
        config = None if self.config is None else read_config(self.config)
        return load_checkpoint(path, config, code=self.code)

    def _quantized(
        self,
        target: Path,
        options: ExportOptions,
        lowering: PrecisionRequest,
        int8: Int8Request,
        *,
        for_tensorrt: bool,
    ) -> tuple[dict[str, Any], str]:
        from aasist_deploy.export import export_onnx

        if self.stream:
            raise UsageError(
                "A file for streams is written in fp32, and int8 was asked for.",
                fix="leave out --stream or --precision int8",
            )

        def export_fp32(path: Path) -> float:
            return export_onnx(self._loaded(), path, options).max_difference

        return quantize_checkpoint(export_fp32, target, int8, lowering, for_tensorrt=for_tensorrt)

    def _checked(
        self, target: Path, options: ExportOptions, lowering: PrecisionRequest
    ) -> tuple[dict[str, Any], str]:
        from aasist_deploy.export import export_onnx

        loaded = self._loaded()
        lower = options.precision != "fp32"
        n_samples = loaded.model.n_samples if options.n_samples == "trained" else options.n_samples
        with stderr.status("exporting and checking against the checkpoint") as status:
            result = export_onnx(
                loaded,
                target,
                options,
                lowering=lowering.options() if lower else None,
                audio=lowering.audio(n_samples) if lower else None,
                on_step=status.update,
            )
        said = {
            "path": str(result.path),
            "n_nodes": result.n_nodes,
            "max_difference": result.max_difference,
            "contract": result.contract.to_dict(),
        }
        about = f"largest difference from the checkpoint {result.max_difference:.1e}"
        lines = [about + (" in fp32" if lower else "")]
        if lower:
            lines += gate_lines(result.gate, result.moved)
        return said, described(result.path, result.contract, result.n_nodes, lines)
