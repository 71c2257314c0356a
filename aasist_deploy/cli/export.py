"""`aasist-deploy export`: a checkpoint becomes a self-describing ONNX file, or a TensorRT plan."""

from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.engine_options import CodeOption
from aasist_deploy.cli.export_int8 import (
    ActivationsOption,
    CalibrateLabelsOption,
    CalibrateOption,
    EvaluationListOption,
    HeadroomOption,
    Int8Request,
    ScalesOption,
    quantize_checkpoint,
    quantize_onnx,
)
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
    must_be_lowered,
    require_plan_target,
)
from aasist_deploy.cli.export_precision import (
    Fp32NodesOption,
    GateAsvOption,
    GateAudioOption,
    GateLabelsOption,
    GateThresholdOption,
    MaxDifferenceOption,
    MaxEerChangeOption,
    MaxFlipsOption,
    MaxTdcfChangeOption,
    MinRankCorrelationOption,
    NoGateOption,
    NoSearchOption,
    PrecisionRequest,
    described,
    gate_lines,
    lower_onnx,
)
from aasist_deploy.cli.export_stream import StreamOption, check_stream, export_for_streams
from aasist_deploy.cli.export_triton import (
    InstancesOption,
    PlanOption,
    TritonDeviceOption,
    TritonRequest,
)
from aasist_deploy.cli.export_web import OrtWebOption
from aasist_deploy.cli.options import n_samples_of, names_of, number_or
from aasist_deploy.errors import UsageError
from aasist_deploy.extras import require_export_packages
from aasist_deploy.published import names, pull

if TYPE_CHECKING:
    from aasist_deploy.export import ExportOptions
    from aasist_deploy.models import Checkpoint


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help=f"Weights (.pth, .safetensors), or one of: {', '.join(names())}; with --to trt "
            "or a lower --precision also an exported .onnx file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .onnx, .plan, .ort or folder to write.")
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
    precision: Annotated[
        str,
        typer.Option(
            help="Arithmetic of the graph: fp32, fp16, bf16 or int8. Lower precision is kept only "
            "when the scores hold on real audio. fp16 and bf16 are for GPUs: a CPU runs them "
            "slower or not at all. int8 is for CPUs with OpenVINO, and for TensorRT."
        ),
    ] = "fp32",
    stream: StreamOption = False,
    gate_audio: GateAudioOption = None,
    gate_labels: GateLabelsOption = None,
    gate_asv: GateAsvOption = None,
    gate_threshold: GateThresholdOption = None,
    max_difference: MaxDifferenceOption = None,
    max_flips: MaxFlipsOption = None,
    min_rank_correlation: MinRankCorrelationOption = None,
    max_eer_change: MaxEerChangeOption = None,
    max_tdcf_change: MaxTdcfChangeOption = None,
    fp32_nodes: Fp32NodesOption = None,
    no_search: NoSearchOption = False,
    no_gate: NoGateOption = False,
    calibrate: CalibrateOption = None,
    calibrate_labels: CalibrateLabelsOption = None,
    evaluation_list: EvaluationListOption = None,
    headroom: HeadroomOption = None,
    int8_activations: ActivationsOption = None,
    int8_scales: ScalesOption = None,
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
    plan: PlanOption = None,
    triton_device: TritonDeviceOption = None,
    instances: InstancesOption = None,
    ort_web: OrtWebOption = None,
    json_: JsonOption = False,
) -> None:
    """Export a checkpoint to ONNX, compare the file with it, and keep it only when they agree.

    A network that would be exported wrongly, such as one that holds a size of the example as a
    constant, is refused with the line of its code that causes it. With --to trt, TensorRT then
    builds a plan from the file, which stays beside it. With --precision fp16, layers in which half
    precision changes scores too much are kept in fp32.

    \b
    Example:
      aasist-deploy export aasist -o aasist.onnx
      aasist-deploy export my.pth --config my.conf --topk rank --samples variable -o my.onnx
      aasist-deploy export run/best.safetensors --code nets.py:MyNet -o mine.onnx
      aasist-deploy export aasist --stream -o aasist.stream.onnx
      aasist-deploy export aasist --precision fp16 --gate-audio clips/ -o aasist.fp16.onnx
      aasist-deploy export aasist --precision int8 --calibrate train/ --gate-audio dev/ \
        --gate-labels dev.txt -o aasist.int8.onnx
      aasist-deploy export aasist --to trt --profile 1,8,32 -o aasist.plan
      aasist-deploy export aasist.onnx --to trt -o aasist.plan
      aasist-deploy export aasist --to cpp -o my-program/
      aasist-deploy export aasist.onnx --to triton -o models/
      aasist-deploy export aasist --to web -o my-page/
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
    triton = TritonRequest(plan=plan, device=triton_device, instances=instances)
    triton.check(to)
    if ort_web is not None and to != "web":
        raise UsageError("--ort-web is given without --to web.", fix="add --to web")
    if stream:
        check_stream(checkpoint, to)
    lowering = PrecisionRequest(
        precision=precision,
        gate_audio=gate_audio,
        gate_labels=gate_labels,
        gate_asv=gate_asv,
        gate_threshold=gate_threshold,
        max_difference=max_difference,
        max_flips=max_flips,
        fp32_nodes=fp32_nodes,
        no_search=no_search,
        no_gate=no_gate,
        min_rank_correlation=min_rank_correlation,
        max_eer_change=max_eer_change,
        max_tdcf_change=max_tdcf_change,
    )
    int8 = Int8Request(
        calibrate=calibrate,
        calibrate_labels=calibrate_labels,
        evaluation_list=evaluation_list,
        headroom=headroom,
        int8_activations=int8_activations,
        int8_scales=int8_scales,
    )
    if to == "trt":
        require_plan_target(request)
    from_onnx = checkpoint.endswith(".onnx")
    if from_onnx and to == "trt" and not must_be_lowered(Path(checkpoint), precision):
        build_and_print(Path(checkpoint), output, request, json_=json_, exported=None)
        return
    target = output.with_suffix(".onnx")
    if to == "triton":
        if from_onnx and not must_be_lowered(Path(checkpoint), precision):
            triton.write_and_print(checkpoint, Path(checkpoint), output, json_=json_, exported=None)
            return
        target = triton.target(checkpoint, output)
    if to == "cpp":
        from aasist_deploy.cli.export_cpp import bundle_and_print, bundle_target

        target = bundle_target(output, precision)
        if from_onnx:
            bundle_and_print(Path(checkpoint), output, json_=json_, exported=None)
            return
    if to == "ort":
        from aasist_deploy.cli.export_ort import check_ort_request, ort_and_print

        check_ort_request(Path(checkpoint) if from_onnx else None, precision, stream=stream)
        if from_onnx:
            ort_and_print(Path(checkpoint), output, json_=json_, exported=None)
            return
    if to == "web":
        from aasist_deploy.cli.export_web import page_and_print, prepare_page

        given = Path(checkpoint) if from_onnx else None
        target, runtime = prepare_page(given, output, ort_web, precision, stream=stream)
        if from_onnx:
            page_and_print(Path(checkpoint), output, runtime, json_=json_, exported=None)
            return
    require_export_packages("Exporting needs")
    lowering.check()
    int8.check(lowering)
    if from_onnx and precision == "int8":
        said, line = quantize_onnx(
            Path(checkpoint), target, int8, lowering, for_tensorrt=to == "trt"
        )
    elif from_onnx:
        said, line = lower_onnx(Path(checkpoint), target, lowering)
    else:
        from aasist_deploy.export import ExportOptions, export_onnx

        options = ExportOptions(
            topk=topk or ("rank" if to == "trt" else "topk"),  # type: ignore[arg-type]  # checked there
            n_samples=n_samples_of(samples),
            batch=number_or(batch, "dynamic", "--batch"),
            opset=opset,
            outputs=names_of(outputs),
            precision="fp32" if precision == "int8" else precision,
        )
        if precision == "int8":
            if stream:
                raise UsageError(
                    "A file for streams is written in fp32, and int8 was asked for.",
                    fix="leave out --stream or --precision int8",
                )

            def export_fp32(path: Path) -> float:
                return export_onnx(_loaded(checkpoint, config, code), path, options).max_difference

            said, line = quantize_checkpoint(
                export_fp32, target, int8, lowering, for_tensorrt=to == "trt"
            )
        elif stream:
            said, line = export_for_streams(checkpoint, config, code, target, options)
        else:
            said, line = _export(checkpoint, config, code, target, options, lowering)
    if json_ and to == "onnx":
        print_json(said)
        return
    (stderr if json_ else stdout).print(line, markup=False)  # one JSON object alone on stdout
    if to == "trt":
        build_and_print(target, output, request, json_=json_, exported=said)
    if to == "triton":
        triton.write_and_print(checkpoint, target, output, json_=json_, exported=said)
    if to == "cpp":
        bundle_and_print(target, output, json_=json_, exported=said)
    if to == "ort":
        ort_and_print(target, output, json_=json_, exported=said)
    if to == "web":
        page_and_print(target, output, runtime, json_=json_, exported=said)


def _loaded(checkpoint: str, config: Path | None, code: str | None) -> "Checkpoint":
    from aasist_deploy.models import load_checkpoint, read_config

    path = pull(checkpoint) if checkpoint in names() else Path(checkpoint)
    return load_checkpoint(path, None if config is None else read_config(config), code=code)


def _export(
    checkpoint: str,
    config: Path | None,
    code: str | None,
    target: Path,
    options: "ExportOptions",
    lowering: PrecisionRequest,
) -> tuple[dict[str, Any], str]:
    """Write the .onnx file of a checkpoint; what is said of it, as JSON and as lines."""
    from aasist_deploy.export import export_onnx

    loaded = _loaded(checkpoint, config, code)
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
