"""What runs on the GPU machine: one stage after another, each with what it needs and its limit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HOME: Final = Path.home()
OUT: Final = HOME / "out"
SOURCE: Final = HOME / "src"


@dataclass(frozen=True)
class Stage:
    """A command of bash, run in the copy of the repository.

    Attributes:
        name: Also of its log, OUT/NAME.log.
        command: Writes its reports into OUT.
        limit_s: It is ended after this long; reports are written row by row.
        needs: Archives that must have been unpacked.
        after: Stages that must have ended.
        background: Beside other stages; it takes its turn (`benchmarks.common.turn`) to time.
        wanted: Whether what earlier stages found asks for it.
    """

    name: str
    command: str
    limit_s: float
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    background: bool = False
    wanted: Callable[[], bool] = lambda: True


def rtx_runs() -> bool:
    """Whether the probe ran a plan of TensorRT-RTX on this GPU."""
    try:
        report = json.loads((OUT / "rtx-probe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return any(row.get("ran") for row in report["rows"])


_PYTHON: Final = "python3 -m benchmarks.gpu."
_RTX: Final = "PYTHONPATH=$PYTHONPATH:$HOME/rtx "

STAGES: Final = (
    Stage(
        "clips",
        "python3 -m benchmarks.gpu.unpack_clips ~/bench ~/audio/LA_mini",
        60,
        needs=("bench", "audio"),
    ),
    Stage(
        "compile",
        f"{_PYTHON}torch_bench ~/bench -o ~/out/torch-compile.json --parts compile --limit-s 240",
        300,
        needs=("bench",),
        after=("clips",),
        background=True,
    ),
    Stage(
        "torch",
        f"{_PYTHON}torch_bench ~/bench -o ~/out/torch.json --limit-s 85",
        110,
        after=("clips",),
    ),
    Stage(
        "rtx-probe",
        f"{_RTX}{_PYTHON}trt_rtx_probe ~/bench -o ~/out/rtx-probe.json",
        100,
        needs=("rtx",),
        after=("clips",),
    ),
    Stage(
        "cuda-tests",  # device memory, streams and graphs through pycuda and cuda-python
        "AASIST_REQUIRE_GPU=1 python3 -m pytest -q -p no:cacheprovider tests/gpu "
        "-k 'cuda' --junitxml ~/out/cuda-tests.xml",
        60,
        after=("clips",),
    ),
    Stage(
        "rtx-tests",
        f"{_RTX}AASIST_REQUIRE_GPU=1 AASIST_GPU_CLIPS=~/bench python3 -m pytest -q "
        "-p no:cacheprovider tests/gpu --junitxml ~/out/rtx-tests.xml",
        150,
        after=("rtx-probe",),
        wanted=rtx_runs,
    ),
    Stage(
        "rtx",
        f"{_RTX}{_PYTHON}trt_bench ~/bench -o ~/out/rtx.json --limit-s 150",
        170,
        after=("rtx-tests",),
        wanted=rtx_runs,
    ),
    Stage(
        "train",
        "bash benchmarks/gpu/train_mini.sh",
        170,
        needs=("train", "audio"),
        after=("rtx-probe",),
    ),
    Stage(
        "train-speed",
        "python3 -m benchmarks.train_speed --device cuda --rounds 15 --limit-s 30 "
        "-o ~/out/train-speed.json; "
        "python3 -m benchmarks.train_curves --device cuda --root ~/audio/LA_mini --limit-s 35 "
        "-o ~/out/train-curves.json",
        85,
        after=("train",),
    ),
    Stage(
        "trt85",
        "bash benchmarks/gpu/run_trt85.sh -o ~/out/trt85.json --limit-s 230",
        280,
        needs=("trt85",),
        after=("clips", "rtx-probe"),
        wanted=lambda: not rtx_runs(),
    ),
    Stage(
        "ort",
        # ONNX Runtime looks for CUDA and cuDNN beside itself; PyTorch's packages have them.
        "nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])'); "
        'ln -sfn "$nvidia" ~/ort/nvidia; '
        f"PYTHONPATH=$HOME/ort:$PYTHONPATH {_PYTHON}ort_cuda_bench ~/bench "
        "-o ~/out/ort.json --limit-s 70",
        90,
        needs=("ort",),
        after=("clips",),
    ),
)
