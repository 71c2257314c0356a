"""Which backends work on this machine, and what the others need."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Final

from aasist_deploy.engines import BACKENDS, missing_packages
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.engines.cpu_features import cpu_name, lacks_bf16, lacks_int8
from aasist_deploy.engines.cuda_memory import PACKAGES
from aasist_deploy.engines.onnx import import_onnxruntime
from aasist_deploy.engines.openvino_graph import openvino_version
from aasist_deploy.engines.tensorrt_runtime import INSTALL, load_tensorrt, probe_gpus
from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.extras import export_install_command, missing_for_export


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that works or does not.

    Attributes:
        name: Backend, provider or verb.
        works: Whether it can be used here.
        detail: Version and device, or what is missing and how to get it.
    """

    name: str
    works: bool
    detail: str


# Providers of ONNX Runtime: what each needs besides a build that lists it.
_GPU_PROVIDERS: Final = {
    "onnx, cuda": ("CUDAExecutionProvider", "an NVIDIA driver, CUDA and cuDNN"),
    "onnx, tensorrt": ("TensorrtExecutionProvider", "TensorRT in the version ONNX Runtime links"),
}


def examine() -> list[Finding]:
    """Look at the backends, the providers of ONNX Runtime, and what exporting needs."""
    findings = []
    for name, backend in BACKENDS.items():
        if name == "trt":  # either of two packages, and a GPU
            continue
        missing = missing_packages(name)
        findings.append(
            Finding(
                name=name,
                works=False,
                detail=f"needs {', '.join(missing)}: pip install 'aasist-deploy[{backend.extra}]'",
            )
            if missing
            else _backend_finding(name)
        )
    if not missing_packages("onnx"):
        findings += _providers()
    findings.append(_tensorrt_finding())
    findings.append(_export_finding())
    if mixed := _mixed_onnxruntime():
        findings.append(mixed)
    return findings


def _backend_finding(name: str) -> Finding:
    try:
        if name == "onnx":
            ort = import_onnxruntime()
            detail = f"ONNX Runtime {ort.__version__}, {usable_cores()} cores"
        elif name == "openvino":
            detail = _openvino_detail()
        else:
            import torch

            gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
            detail = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {gpu}"
    except EnvironmentLacks as error:
        return Finding(name=name, works=False, detail=f"{error} {error.fix}")
    except (ImportError, OSError) as error:  # OSError: a library that torch loads itself
        return Finding(name=name, works=False, detail=f"installed, but cannot be imported: {error}")
    return Finding(name=name, works=True, detail=detail)


def _openvino_detail() -> str:
    """Version, CPU, and in which precisions OpenVINO gains something on it."""
    precisions = ["fp32"]
    lacks = []
    for precision, reason in (("bf16", lacks_bf16()), ("int8", lacks_int8())):
        if reason is None:
            precisions.append(precision)
        else:
            lacks.append(f"; {precision} would be emulated: {reason}")
    return (
        f"OpenVINO {openvino_version()} on {cpu_name()}, "
        f"{usable_cores()} cores, {', '.join(precisions)}{''.join(lacks)}"
    )


def _tensorrt_finding() -> Finding:
    """Which TensorRT there is and on which GPUs it can run; nothing of it is started."""
    try:
        tensorrt = load_tensorrt()
    except EnvironmentLacks as error:
        return Finding(name="trt", works=False, detail=f"{error} {error.fix}")
    detail = f"{tensorrt.title} (module {tensorrt.name})"
    try:
        gpus = probe_gpus()
        lacks = _lacks_cuda_package()
    except EnvironmentLacks as error:
        return Finding(name="trt", works=False, detail=f"{detail}, but: {error} {error.fix}")
    listed = ", ".join(
        f"{gpu.index}: {gpu.name}, sm {gpu.sm_text}, {gpu.memory_bytes / 2**30:.0f} GiB"
        for gpu in gpus
    )
    detail = f"{detail}; GPU {listed}; driver for CUDA {gpus[0].driver_cuda}"
    return Finding(name="trt", works=not lacks, detail=f"{detail}{lacks}")


def _lacks_cuda_package() -> str:
    """What to say when no package can hold memory of the GPU; nothing when one can."""
    if any(_is_installed(package) for package in PACKAGES.values()):
        return ""
    return f"; running plans needs {' or '.join(PACKAGES)}: {INSTALL}"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _providers() -> list[Finding]:
    try:
        ort = import_onnxruntime()
    except EnvironmentLacks:  # said by the finding of the backend
        return []
    listed = ort.get_available_providers()
    findings = []
    for name, (provider, needs) in _GPU_PROVIDERS.items():
        if provider not in listed:
            detail = (
                f"this build of ONNX Runtime has no {provider}: uninstall onnxruntime, then "
                f"pip install 'aasist-deploy[onnx-gpu]'"
            )
        else:
            detail = _try_provider(provider) or ""
            if not detail:
                findings.append(Finding(name=name, works=True, detail=f"{provider} can be taken"))
                continue
            detail = f"listed but not usable, needs {needs}: {detail}"
        findings.append(Finding(name=name, works=False, detail=detail))
    return findings


def _try_provider(provider: str) -> str | None:
    """Why a session cannot take the provider, or None when it can: listing it proves nothing."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: the reason is in what is returned
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(_PROBE_MODEL, options, providers=[provider])
    except Exception as error:  # noqa: BLE001  # its exceptions share no base but Exception
        return str(error).splitlines()[0]
    taken = session.get_providers()
    return None if provider in taken else f"a session took {', '.join(taken)} instead"


def _export_finding() -> Finding:
    if missing := missing_for_export():
        detail = f"needs {', '.join(missing)}: {export_install_command(missing)}"
        return Finding(name="export", works=False, detail=detail)
    return Finding(name="export", works=True, detail="checkpoints can be exported here")


def _mixed_onnxruntime() -> Finding | None:
    """Onnxruntime and onnxruntime-gpu own the same folder; the one installed last wins silently."""
    names = {(d.metadata["Name"] or "").lower() for d in distributions()}
    both = sorted(names & {"onnxruntime", "onnxruntime-gpu"})
    if len(both) < 2:
        return None
    return Finding(
        name="onnx packages",
        works=False,
        detail="onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
        "uninstall both, then install one",
    )


# A whole ONNX model, y = Abs(x) on one float (opset 17): enough to see what a session takes.
_PROBE_MODEL: Final = bytes.fromhex(
    "08083a360a0b0a01781201792203416273120570726f62655a0f0a0178120a0a08080112040a020801620f0a"
    "0179120a0a08080112040a02080142040a001011"
)
