"""`aasist-deploy export --stream`: a file for sliding windows, with a state beside its samples."""

from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aasist_deploy.cli.common import stderr
from aasist_deploy.cli.export_precision import described
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from aasist_deploy.export import ExportOptions
    from aasist_deploy.models import Checkpoint

StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Write a file for streams: sliding windows that compute what they share once, with "
        "exactly the scores of each window alone. For stream and scan.",
    ),
]


def check_stream(checkpoint: str, to: str) -> None:
    """Refuse what a file for streams cannot be made from, or made into.

    Raises:
        UsageError: an exported file as the source, or a plan as the destination.
    """
    if checkpoint.endswith(".onnx"):
        raise UsageError(
            f"{checkpoint} is exported already; a file for streams is made from the checkpoint.",
            fix="give the weights, or a published name",
        )
    if to not in ("onnx", "cpp"):
        raise UsageError(
            f"--stream writes an .onnx file, and --to {to} was given.",
            fix="leave --to out; TensorRT reads the .onnx file",
        )


def export_for_streams(
    checkpoint: "Checkpoint", target: Path, options: "ExportOptions"
) -> tuple[dict[str, Any], str]:
    """Write the file for streams of a checkpoint; what is said of it, as JSON and as a line."""
    from aasist_deploy.export.stream_export import export_stream

    with stderr.status("exporting and checking against windows alone"):
        result = export_stream(checkpoint, target, options)
    said = {
        "path": str(result.path),
        "n_nodes": result.n_nodes,
        "max_difference": result.max_difference,
        "contract": result.contract.to_dict(),
    }
    stream = result.contract.stream
    assert stream is not None
    lines = [
        f"windows of {stream.window_samples} samples at multiples of {stream.frame_samples}",
        f"largest difference from windows alone {result.max_difference:.1e}",
    ]
    return said, described(result.path, result.contract, result.n_nodes, lines)
