"""`aasist-deploy export`: a checkpoint becomes a self-describing ONNX file, or a TensorRT plan."""

from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.engine_options import CodeOption
from aasist_deploy.cli.export_destination import destination_of
from aasist_deploy.cli.export_int8 import (
    ActivationsOption,
    CalibrateLabelsOption,
    CalibrateOption,
    EvaluationListOption,
    HeadroomOption,
    Int8Request,
    ScalesOption,
)
from aasist_deploy.cli.export_onnx import OnnxRequest
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
    check_destination,
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
)
from aasist_deploy.cli.export_stream import StreamOption, check_stream
from aasist_deploy.cli.export_triton import (
    InstancesOption,
    PlanOption,
    TritonDeviceOption,
    TritonRequest,
)
from aasist_deploy.cli.export_web import OrtWebOption
from aasist_deploy.errors import UsageError
from aasist_deploy.extras import require_export_packages
from aasist_deploy.published import names


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
    building = PlanRequest(
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
    check_destination(to, output, building)
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
    source = OnnxRequest(
        checkpoint=checkpoint,
        config=config,
        code=code,
        topk=topk,
        samples=samples,
        batch=batch,
        opset=opset,
        outputs=outputs,
        precision=precision,
        stream=stream,
    )
    place = destination_of(
        to, source, output, plan=building, triton=triton, ort_web=ort_web, json_=json_
    )
    if place.ready is not None and place.write is not None:
        place.write(place.ready, None)
        return
    require_export_packages("Exporting needs")
    lowering.check()
    int8.check(lowering)
    said, line = source.write(place.target, lowering, int8, for_tensorrt=to == "trt")
    if json_ and place.write is None:
        print_json(said)
        return
    (stderr if json_ else stdout).print(line, markup=False)  # one JSON object alone on stdout
    if place.write is not None:
        place.write(place.target, said)
