"""`aasist-deploy export --to trt`: the options of TensorRT, the progress, and what was built."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from aasist_deploy.cli.common import print_json, stderr, stdout
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aasist_deploy.export.engine_from_onnx import BuildOptions, BuildResult

TARGETS = ("onnx", "trt", "ort", "cpp", "web", "triton")

_PANEL = "TensorRT, with --to trt"
ToOption = Annotated[
    str,
    typer.Option(
        "--to",
        help="What to write: onnx, trt for a TensorRT plan beside its .onnx, ort for small builds "
        "of ONNX Runtime, cpp for a folder with a C and C++ project around it, web for a folder "
        "with a page that scores in a browser, or triton for a model repository.",
    ),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        rich_help_panel=_PANEL,
        help="Smallest, optimal and largest batch, e.g. 1,8,32 (the default); may be repeated.",
    ),
]
Tf32Option = Annotated[
    bool,
    typer.Option(
        "--tf32",
        rich_help_panel=_PANEL,
        help="Let fp32 products round their factors to TF32. Off, so that fp32 means fp32.",
    ),
]
LevelOption = Annotated[
    int | None,
    typer.Option(
        "--builder-level",
        rich_help_panel=_PANEL,
        help="How long to look for fast kernels, 0 to 5. Default: TensorRT's own, 3.",
    ),
]
WorkspaceOption = Annotated[
    int | None,
    typer.Option(
        "--workspace-mib",
        rich_help_panel=_PANEL,
        help="Limit of scratch memory on the GPU in MiB. Default: all of it.",
    ),
]
TimingCacheOption = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache",
        rich_help_panel=_PANEL,
        help="File that keeps measured kernel times, so that the next build is quicker.",
    ),
]
VersionCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--version-compatible",
        rich_help_panel=_PANEL,
        help="The plan also runs on later TensorRT of the same major version.",
    ),
]
HardwareCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--hardware-compatible",
        rich_help_panel=_PANEL,
        help="The plan runs on Ampere and every later GPU, at some cost in speed.",
    ),
]
RefittableOption = Annotated[
    bool,
    typer.Option(
        "--refittable",
        rich_help_panel=_PANEL,
        help="Weights of the plan can be replaced without building it again.",
    ),
]
GpuOption = Annotated[
    int | None,
    typer.Option(
        "--device",
        min=0,
        rich_help_panel=_PANEL,
        help="Number of the GPU to build on and for. Default: 0.",
    ),
]
ForSmOption = Annotated[
    str | None,
    typer.Option(
        "--for-sm",
        rich_help_panel=_PANEL,
        help="Compute capabilities of other machines, e.g. 80,86,89,120: one plan for all of them, "
        "built without a GPU. TensorRT-RTX alone.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        rich_help_panel=_PANEL,
        help="JSON file to write the layers, their types and shapes to.",
    ),
]
NoCacheOption = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        rich_help_panel=_PANEL,
        help="Build although the same plan was built before, and do not keep it.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """The options of a plan as they were typed; the names are those of the options."""

    profile: list[str] | None
    tf32: bool
    builder_level: int | None
    workspace_mib: int | None
    timing_cache: Path | None
    version_compatible: bool
    hardware_compatible: bool
    refittable: bool
    device: int | None
    for_sm: str | None
    report: Path | None
    no_cache: bool

    def given(self) -> list[str]:
        """Names of the options that are not at their default."""
        return [
            f"--{name.replace('_', '-')}"
            for name in self.__dataclass_fields__
            if getattr(self, name) not in (None, False, [])
        ]

    def options(self) -> BuildOptions:
        """The options, read and checked.

        Raises:
            UsageError: one cannot be read, or they do not go together.
        """
        from aasist_deploy.export.plan_options import BuildOptions, profile_of, sm_of

        if self.for_sm is not None and self.device is not None:
            raise UsageError(
                "--for-sm builds for other machines and --device for a GPU of this one.",
                fix="leave out one of the two",
            )
        return BuildOptions(
            profiles=tuple(profile_of(text) for text in self.profile or ()),
            tf32=self.tf32,
            optimization_level=self.builder_level,
            workspace_mib=self.workspace_mib,
            timing_cache=self.timing_cache,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            refittable=self.refittable,
            device=self.device or 0,
            for_sm=tuple(sm_of(text) for text in (self.for_sm or "").split(",") if text.strip()),
            detailed=self.report is not None,
        )


def check_destination(to: str, output: Path, request: PlanRequest) -> None:
    """Refuse a destination that is none, a name that does not fit it, and options of the other one.

    Raises:
        UsageError: one of these.
    """
    if to not in TARGETS:
        raise UsageError(f"There is no destination '{to}'; known are: {', '.join(TARGETS)}.")
    suffix = {"trt": ".plan", "ort": ".ort"}.get(to, ".onnx")
    if to in ("cpp", "web", "triton"):
        from aasist_deploy.export.cpp_bundle import check_bundle_folder

        check_bundle_folder(output)
    elif output.suffix != suffix:
        raise UsageError(f"The output {output} does not end in {suffix}.", fix=f"-o model{suffix}")
    if to != "trt" and (given := request.given()):
        raise UsageError(
            f"{', '.join(given)} belongs to TensorRT plans, and --to {to} was asked for.",
            fix="add --to trt",
        )


def require_plan_target(request: PlanRequest) -> None:
    """Look for TensorRT and the GPU before any work.

    Raises:
        EnvironmentLacks: one of them is not here.
        UsageError: an option that this TensorRT does not have.
    """
    from aasist_deploy.export.engine_from_onnx import require_target

    require_target(request.options())


def must_be_lowered(model: Path, precision: str) -> bool:
    """Whether an exported file must be lowered to the precision before it is built.

    Raises:
        UsageError: the file has a lower precision already, and another one was asked for.
        ModelFileError: not an exported file.
    """
    from aasist_deploy.contract import read_contract

    contract, _ = read_contract(model)
    if precision in ("fp32", contract.precision):
        return False  # a plan computes as its graph does
    if contract.precision != "fp32":
        raise UsageError(
            f"{model} is {contract.precision}, and --precision {precision} was asked for.",
            fix="give the fp32 file that it was made from, or the checkpoint",
        )
    return True


def build_and_print(
    onnx: Path, output: Path, request: PlanRequest, *, json_: bool, exported: dict[str, Any] | None
) -> None:
    """Build the plan, show progress, print what was built.

    Args:
        onnx: The exported file.
        output: The plan.
        request: How it is built.
        json_: Print one JSON object in place of lines.
        exported: What is to be said of the .onnx file in that object, when it was made just now.
    """
    from aasist_deploy.export.engine_from_onnx import build_plan

    with _builder_progress() as progress:
        result = build_plan(
            onnx,
            output,
            request.options(),
            progress=progress,
            cache=not request.no_cache,
            report=request.report,
        )
    for warning in result.warnings:
        stderr.print(f"TensorRT: {warning}", style="yellow", markup=False)
    if json_:
        print_json(
            {
                "path": str(result.path),
                "from_cache": result.from_cache,
                "seconds": round(result.seconds, 3),
                "plan": result.contract.to_dict(),
                "onnx": {"path": str(onnx), **(exported or {})},
            }
        )
        return
    stdout.print(_line(result), markup=False)


def _line(result: BuildResult) -> str:
    plan = result.contract
    profiles = " and ".join(
        f"{low} to {high} (best at {best})" for low, best, high in plan.profiles
    )
    how = "from the cache" if result.from_cache else f"built in {result.seconds:.1f} s"
    return (
        f"{result.path}: {plan.contract.architecture}, {plan.contract.precision}, "
        f"{plan.plan_bytes / 1e6:.1f} MB, {how} by {plan.built_for()}; batches of {profiles}"
    )


@contextmanager
def _builder_progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr with the builder's phase, which disappears when stderr is no terminal."""
    columns = (
        TextColumn("[progress.description]{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=stderr, transient=True, disable=not stderr.is_terminal
    ) as progress:
        task = progress.add_task("TensorRT", total=1.0)

        def update(phase: str, part: float) -> None:
            progress.update(task, description=phase, completed=part)

        yield update
