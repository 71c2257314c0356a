"""`aasist-deploy export --to`: what becomes of the .onnx file, for each destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aasist_deploy.cli.export_plan import build_and_print, must_be_lowered, require_plan_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.cli.export_onnx import OnnxRequest
    from aasist_deploy.cli.export_plan import PlanRequest
    from aasist_deploy.cli.export_triton import TritonRequest


class Destination(NamedTuple):
    """What becomes of the .onnx file.

    Attributes:
        target: Where the file is exported to.
        ready: The exported file that was given, where it goes on as it is; else None.
        write: Makes of an exported file what was asked for, and prints it; takes what is to be said
            of the file, too, when it was made just now. None where the file itself was asked for.
    """

    target: Path
    ready: Path | None = None
    write: Callable[[Path, dict[str, Any] | None], None] | None = None


def destination_of(
    to: str,
    source: OnnxRequest,
    output: Path,
    *,
    plan: PlanRequest,
    triton: TritonRequest,
    ort_web: Path | None,
    json_: bool,
) -> Destination:
    """Look at everything that the destination needs, before any work.

    Args:
        to: --to, one of those there are.
        source: What is exported.
        output: --output.
        plan: How a plan is built.
        triton: What a model repository holds.
        ort_web: --ort-web.
        json_: Print one JSON object.

    Raises:
        AasistDeployError: it does not take such a file, or something is missing here.
    """
    given, precision, onnx = source.exported, source.precision, output.with_suffix(".onnx")
    if to == "trt":
        require_plan_target(plan)
        return Destination(
            onnx,
            _unless_lowered(given, precision),
            lambda model, said: build_and_print(model, output, plan, json_=json_, exported=said),
        )
    if to == "triton":
        ready = _unless_lowered(given, precision)
        return Destination(
            triton.target(source.checkpoint, output) if ready is None else ready,
            ready,
            lambda model, said: triton.write_and_print(
                source.checkpoint, model, output, json_=json_, exported=said
            ),
        )
    if to == "cpp":
        from aasist_deploy.cli.export_cpp import bundle_and_print, bundle_target

        return Destination(
            bundle_target(output, precision),
            given,
            lambda model, said: bundle_and_print(model, output, json_=json_, exported=said),
        )
    if to == "ort":
        from aasist_deploy.cli.export_ort import check_ort_request, ort_and_print

        check_ort_request(given, precision, stream=source.stream)
        return Destination(
            onnx,
            given,
            lambda model, said: ort_and_print(model, output, json_=json_, exported=said),
        )
    if to == "web":
        from aasist_deploy.cli.export_web import page_and_print, prepare_page

        target, runtime = prepare_page(given, output, ort_web, precision, stream=source.stream)
        return Destination(
            target,
            given,
            lambda model, said: page_and_print(model, output, runtime, json_=json_, exported=said),
        )
    return Destination(onnx)


def _unless_lowered(given: Path | None, precision: str) -> Path | None:
    return None if given is None or must_be_lowered(given, precision) else given
