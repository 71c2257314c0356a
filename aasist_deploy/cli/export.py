"""`aasist-deploy export`: a checkpoint becomes a self-describing ONNX file, or a TensorRT plan."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.export_plan import (
    ForSmOption,
    GpuOption,
    HardwareCompatibleOption,
    LevelOption,
    NoCacheOption,
    PlanRequest,
    ProfileOption,
    RefittableOption,
    ReportOption,
    Tf32Option,
    TimingCacheOption,
    ToOption,
    VersionCompatibleOption,
    WorkspaceOption,
    build_and_print,
    check_destination,
    check_onnx_input,
    require_plan_target,
)
from aasist_deploy.cli.options import CodeOption, n_samples_of, names_of, number_or
from aasist_deploy.extras import require_export_packages
from aasist_deploy.published import names, pull


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help=f"Weights (.pth, .safetensors), or one of: {', '.join(names())}; with --to trt "
            "also an exported .onnx file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .onnx file to write, or the .plan.")
    ],
    to: ToOption = "onnx",
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration like AASIST.conf; published weights, and weights that were trained "
            "here, need none."
        ),
    ] = None,
    code: CodeOption = None,
    topk: Annotated[
        str | None,
        typer.Option(
            help="Form of graph pooling: topk or rank. Both are exact; rank has no TopK. Default: "
            "topk, and rank for TensorRT."
        ),
    ] = None,
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
    profile: ProfileOption = None,
    tf32: Tf32Option = False,
    builder_level: LevelOption = None,
    workspace_mib: WorkspaceOption = None,
    timing_cache: TimingCacheOption = None,
    version_compatible: VersionCompatibleOption = False,
    hardware_compatible: HardwareCompatibleOption = False,
    refittable: RefittableOption = False,
    device: GpuOption = None,
    for_sm: ForSmOption = None,
    report: ReportOption = None,
    no_cache: NoCacheOption = False,
    json_: JsonOption = False,
) -> None:
    """Export a checkpoint to ONNX, compare the file with it, and keep it only when they agree.

    A network that would be exported wrongly, such as one that holds a size of the example as a
    constant, is refused with the line of its code that causes it. With --to trt, TensorRT then
    builds a plan from the file, which stays beside it.

    \b
    Example:
      aasist-deploy export aasist -o aasist.onnx
      aasist-deploy export my.pth --config my.conf --topk rank --samples variable -o my.onnx
      aasist-deploy export run/best.safetensors --code nets.py:MyNet -o mine.onnx
      aasist-deploy export aasist --to trt --profile 1,8,32 -o aasist.plan
      aasist-deploy export aasist.onnx --to trt -o aasist.plan
    """  # noqa: D301  # \b keeps the lines of the example
    request = PlanRequest(
        profile=profile,
        tf32=tf32,
        builder_level=builder_level,
        workspace_mib=workspace_mib,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        refittable=refittable,
        device=device,
        for_sm=for_sm,
        report=report,
        no_cache=no_cache,
    )
    check_destination(to, output, request)
    if to == "trt":
        require_plan_target(request)
        if checkpoint.endswith(".onnx"):
            check_onnx_input(Path(checkpoint), precision)
            build_and_print(Path(checkpoint), output, request, json_=json_, exported=None)
            return
    require_export_packages("Exporting needs")
    from aasist_deploy.export import ExportOptions, export_onnx
    from aasist_deploy.models import load_checkpoint, read_config

    options = ExportOptions(
        topk=topk or ("rank" if to == "trt" else "topk"),  # type: ignore[arg-type]  # checked there
        n_samples=n_samples_of(samples),
        batch=number_or(batch, "dynamic", "--batch"),
        opset=opset,
        outputs=names_of(outputs),
        precision=precision,
    )
    path = pull(checkpoint) if checkpoint in names() else Path(checkpoint)
    loaded = load_checkpoint(path, None if config is None else read_config(config), code=code)
    with stderr.status("exporting and checking against the checkpoint"):
        result = export_onnx(loaded, output.with_suffix(".onnx"), options)
    said = {
        "path": str(result.path),
        "n_nodes": result.n_nodes,
        "max_difference": result.max_difference,
        "contract": result.contract.to_dict(),
    }
    if json_ and to == "onnx":
        print_json(said)
        return
    size_mb = result.path.stat().st_size / 1e6
    console = stderr if json_ else stdout  # one JSON object alone on stdout
    console.print(
        f"{result.path}: {result.contract.architecture}, {result.n_nodes} nodes, {size_mb:.1f} MB; "
        f"largest difference from the checkpoint {result.max_difference:.1e}",
        markup=False,
    )
    if to == "trt":
        build_and_print(result.path, output, request, json_=json_, exported=said)
