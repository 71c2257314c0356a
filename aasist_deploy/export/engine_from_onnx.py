"""`engine_from_onnx`: an exported ONNX file becomes a TensorRT plan for one GPU.

`build_plan` is the whole job: look for TensorRT and the GPU before anything else, read the file
with its contract, take the plan from the cache or build it, and put it in place with its
description. The precision is what the ONNX graph says; the builder has no choice.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.tensorrt_runtime import (
    Gpu,
    Messages,
    TensorRt,
    load_tensorrt,
    primary_context,
    require_gpu,
)
from aasist_deploy.errors import (
    AasistDeployError,
    EnvironmentLacks,
    ModelFileError,
    OutputError,
    UsageError,
)
from aasist_deploy.export.builder_config import builder_config, keep_timing_cache
from aasist_deploy.export.plan_cache import find_plan, keep_plan
from aasist_deploy.export.plan_options import BuildOptions
from aasist_deploy.export.plan_report import deserialized, write_report
from aasist_deploy.export.tensorrt_network import Network, layers, parse_network
from aasist_deploy.export.watched_build import Watch, run_watched
from aasist_deploy.plan_file import PlanContract, write_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.onnx_file import OnnxFile

__all__ = ["BuildOptions", "BuildResult", "Target", "build_plan", "require_target"]

log = logging.getLogger(__name__)

_PORTABLE_SM: Final = "8.0+"  # Ampere and later: what a hardware-compatible plan runs on
_NOT_KNOWN_YET: Final = "0" * 64  # the hash of a plan that is not built

# What TensorRT's messages say when the GPU, and not the model, is why there is no plan.
_NO_MEMORY: Final = re.compile(r"out[ _]?of[ _]?memory|MemoryAllocation", re.IGNORECASE)
_WORKSPACE: Final = re.compile(r"workspace", re.IGNORECASE)
_CUDA: Final = re.compile(r"cudaError|Cuda Runtime|CUDA_|CUDA error|compute capability|SM version")


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan is built by and for.

    Attributes:
        tensorrt: The TensorRT of this environment.
        gpu: The GPU it is built on; None when it is for other machines.
        sm: Compute capabilities that it will be for, separated by blanks.
    """

    tensorrt: TensorRt
    gpu: Gpu | None
    sm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What was built.

    Attributes:
        path: The plan.
        contract: What it says of itself.
        from_cache: It was built before and taken from the cache.
        seconds: How long it took, parsing included.
        warnings: What TensorRT warned of while it built.
    """

    path: Path
    contract: PlanContract
    from_cache: bool
    seconds: float
    warnings: tuple[str, ...]


def require_target(options: BuildOptions) -> Target:
    """Look for TensorRT and the GPU; nothing of TensorRT is started.

    Raises:
        EnvironmentLacks: there is no TensorRT, no driver or no such GPU.
        UsageError: an option that this TensorRT does not have.
    """
    tensorrt = load_tensorrt()
    if options.for_sm:
        if not hasattr(tensorrt.module, "ComputeCapability"):
            raise UsageError(
                f"{tensorrt.title} builds for the GPU that it runs on alone, and for_sm asks for "
                f"{', '.join(options.for_sm)}.",
                fix="build on a machine with such a GPU, or with TensorRT-RTX",
            )
        return Target(tensorrt, None, " ".join(options.for_sm))
    gpu = require_gpu(options.device)
    return Target(tensorrt, gpu, _PORTABLE_SM if options.hardware_compatible else gpu.sm_text)


def build_plan(
    onnx_path: Path | str,
    plan_path: Path | str,
    options: BuildOptions | None = None,
    *,
    progress: Callable[[str, float], None] | None = None,
    cache: bool = True,
    report: Path | None = None,
) -> BuildResult:
    """Build a plan with its description beside it.

    Both appear only when they are complete; what was there stays otherwise.

    Args:
        onnx_path: An exported file with its contract.
        plan_path: Where the plan goes; `plan_path.json` is written beside it.
        options: How it is built.
        progress: Called with the name of the builder's phase and the finished part, 0 to 1.
        cache: Take the plan from the cache, and keep it there.
        report: JSON file that lists the layers of the network and, on a GPU, of the plan.

    Raises:
        EnvironmentLacks: no TensorRT, driver, GPU, or memory of it; raised before any work where
            that can be known.
        ModelFileError: not an exported file, or TensorRT cannot take it.
        UsageError: options that do not fit the model or this TensorRT.
        OutputError: a place cannot be written.
    """
    onnx_path, plan_path, options = Path(onnx_path), Path(plan_path), options or BuildOptions()
    if report is not None:
        options = replace(options, detailed=True)
    target = require_target(options)
    contract, file = read_contract(onnx_path)
    _make_folder(plan_path)
    start = time.perf_counter()
    wanted = _wanted(target, contract, file, options)
    messages = Messages(target.tensorrt)
    found = find_plan(wanted) if cache else None
    if found is not None:
        log.info("%s was built before and is taken from the cache", plan_path)
    listed: list[dict[str, Any]] = []
    watch = Watch(progress)

    def work() -> tuple[PlanContract, bytes]:
        with nullcontext() if target.gpu is None else primary_context(target.gpu):
            return _work(target, wanted, file, options, messages, watch, listed, found)

    built = found if found is not None and report is None else run_watched(work, watch)
    plan, content = built
    write_plan(content, plan, plan_path)
    if cache and found is None:
        keep_plan(content, plan)
    if report is not None:
        write_report(report, target.tensorrt, target.gpu, plan, content, listed, messages)
    return BuildResult(
        path=plan_path,
        contract=plan,
        from_cache=found is not None,
        seconds=time.perf_counter() - start,
        warnings=tuple(dict.fromkeys(text for _, text in messages.lines)),
    )


def _work(
    target: Target,
    wanted: PlanContract,
    file: OnnxFile,
    options: BuildOptions,
    messages: Messages,
    watch: Watch,
    listed: list[dict[str, Any]],
    found: tuple[PlanContract, bytes] | None,
) -> tuple[PlanContract, bytes]:
    """Parse, list the layers, and build unless there is a plan; TensorRT's objects end with it."""
    tensorrt = target.tensorrt
    network = parse_network(tensorrt, messages, file.content, wanted.contract, file.path)
    if options.detailed:
        listed.extend(layers(network.definition))
    if found is not None:
        return found
    content = _build(network, wanted, options, target, watch, file.path)
    return (
        replace(wanted, plan_sha256=sha256(content).hexdigest(), plan_bytes=len(content)),
        content,
    )


def _build(
    network: Network,
    wanted: PlanContract,
    options: BuildOptions,
    target: Target,
    watch: Watch,
    path: Path,
) -> bytes:
    tensorrt, messages = target.tensorrt, network.messages
    config = builder_config(network, tensorrt, wanted.profiles, options)
    monitor = watch.monitor(tensorrt)  # must outlive the build
    if monitor is not None:
        config.progress_monitor = monitor
    try:
        serialized = network.builder.build_serialized_network(network.definition, config)
        content = None if serialized is None else bytes(serialized)
    except (RuntimeError, MemoryError) as error:
        raise _refused(tensorrt, f"{messages.said()} ({error})", path, options) from error
    if content is None:
        raise _refused(tensorrt, messages.said(), path, options)
    keep_timing_cache(config, options, tensorrt)
    if target.gpu is not None:
        _check_loads(content, target, messages, path)
    return content


def _check_loads(content: bytes, target: Target, messages: Messages, path: Path) -> None:
    """Refuse a plan that this GPU does not take: being built does not mean that it can run.

    Measured: TensorRT-RTX 1.7.1 builds for the GPU of an H200, and then refuses to load the plan.
    """
    messages.forget()
    if deserialized(target.tensorrt, content, messages) is None:
        assert target.gpu is not None
        raise EnvironmentLacks(
            f"{target.tensorrt.title} built a plan from {path} that it cannot load on "
            f"{target.gpu.name} (sm {target.gpu.sm_text}): {messages.said()}.",
            fix="use TensorRT on this GPU: pip install 'aasist-deploy[trt]'"
            if target.tensorrt.name == "tensorrt_rtx"
            else "`aasist-deploy doctor` says what works here",
        )


def _refused(tensorrt: TensorRt, said: str, path: Path, options: BuildOptions) -> AasistDeployError:
    """Why there is no plan, by what TensorRT said."""
    message = f"{tensorrt.title} built no plan from {path}: {said}."
    if _NO_MEMORY.search(said):
        return EnvironmentLacks(
            message,
            fix="free memory of the GPU, or give a smaller profile, or one that begins at 1: "
            "--profile 1,8,32",
        )
    if _WORKSPACE.search(said) and options.workspace_mib is not None:
        return UsageError(
            message, fix=f"allow more scratch memory than --workspace-mib {options.workspace_mib}"
        )
    if options.version_compatible and "lean" in said:
        return EnvironmentLacks(
            message, fix="install TensorRT's lean runtime, or leave out --version-compatible"
        )
    if options.refittable and options.for_sm:
        return UsageError(message, fix="build a refittable plan on the GPU, without --for-sm")
    if _CUDA.search(said):
        return EnvironmentLacks(message, fix="`aasist-deploy doctor` says what works here")
    return ModelFileError(
        message, fix="export the checkpoint again; -vv shows all that TensorRT says"
    )


def _wanted(
    target: Target, contract: ModelContract, file: OnnxFile, options: BuildOptions
) -> PlanContract:
    """What the plan will say of itself, but for the bytes that are not there yet."""
    return PlanContract(
        contract=contract,
        plan_sha256=_NOT_KNOWN_YET,
        plan_bytes=0,
        onnx_sha256=sha256(file.content).hexdigest(),
        runtime=target.tensorrt.name,
        tensorrt_version=target.tensorrt.version,
        cuda_version=None if target.gpu is None else target.gpu.driver_cuda,
        gpu_name=None if target.gpu is None else target.gpu.name,
        sm=target.sm,
        profiles=options.profiles_for(contract),
        tf32=options.tf32,
        build=options.to_build(),
    )


def _make_folder(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="name a file with -o")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", fix="choose another place with -o"
        ) from error
