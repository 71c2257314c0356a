"""`aasist-deploy export`: a checkpoint becomes one self-describing ONNX file."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.options import CodeOption, n_samples_of, names_of, number_or
from aasist_deploy.errors import UsageError
from aasist_deploy.extras import require_export_packages
from aasist_deploy.published import PUBLISHED, pull


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(help=f"Weights (.pth, .safetensors), or one of: {', '.join(PUBLISHED)}."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration like AASIST.conf; published weights, and weights that were trained "
            "here, need none."
        ),
    ] = None,
    code: CodeOption = None,
    topk: Annotated[
        str,
        typer.Option(help="Form of graph pooling: topk or rank. Both are exact; rank has no TopK."),
    ] = "topk",
    samples: Annotated[
        str,
        typer.Option(
            help="Window in samples, 'variable' for any length where the network can, or "
            "'trained': the window it was trained on (64600 for the published ones)."
        ),
    ] = "trained",
    batch: Annotated[str, typer.Option(help="A fixed batch size, or 'dynamic'.")] = "dynamic",
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 23.")] = 18,
    outputs: Annotated[
        str, typer.Option(help="Outputs of the file, of: score, logits, embedding.")
    ] = "score,logits",
    precision: Annotated[str, typer.Option(help="Arithmetic of the graph.")] = "fp32",
    json_: JsonOption = False,
) -> None:
    """Export a checkpoint to ONNX, compare the file with it, and keep it only when they agree.

    A network that would be exported wrongly, such as one that holds a size of the example as a
    constant, is refused with the line of its code that causes it.

    \b
    Example:
      aasist-deploy export aasist -o aasist.onnx
      aasist-deploy export my.pth --config my.conf --topk rank --samples variable -o my.onnx
      aasist-deploy export run/best.safetensors --code nets.py:MyNet -o mine.onnx
    """  # noqa: D301  # \b keeps the lines of the example
    require_export_packages("Exporting needs")
    if output.suffix != ".onnx":
        raise UsageError(f"The output {output} does not end in .onnx.", fix="-o model.onnx")
    from aasist_deploy.export import ExportOptions, export_onnx
    from aasist_deploy.models import load_checkpoint, read_config

    options = ExportOptions(
        topk=topk,  # type: ignore[arg-type]  # checked by ExportOptions
        n_samples=n_samples_of(samples),
        batch=number_or(batch, "dynamic", "--batch"),
        opset=opset,
        outputs=names_of(outputs),
        precision=precision,
    )
    path = pull(checkpoint) if checkpoint in PUBLISHED else Path(checkpoint)
    loaded = load_checkpoint(path, None if config is None else read_config(config), code=code)
    with stderr.status("exporting and checking against the checkpoint"):
        result = export_onnx(loaded, output, options)
    if json_:
        print_json(
            {
                "path": str(result.path),
                "n_nodes": result.n_nodes,
                "max_difference": result.max_difference,
                "contract": result.contract.to_dict(),
            }
        )
        return
    size_mb = output.stat().st_size / 1e6
    stdout.print(
        f"{output}: {result.contract.architecture}, {result.n_nodes} nodes, {size_mb:.1f} MB; "
        f"largest difference from the checkpoint {result.max_difference:.1e}",
        markup=False,
    )
