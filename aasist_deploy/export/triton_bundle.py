"""A model repository for NVIDIA Triton Inference Server: models, config.pbtxt, labels, contract.

    REPO/NAME/config.pbtxt, labels.txt, contract.json, 1/model.onnx        ONNX Runtime
    REPO/NAME-trt/config.pbtxt, labels.txt, contract.json, 1/model.plan    TensorRT, of a plan

The layout and the fields are those of Triton's documentation of model repositories and model
configuration. Triton takes tensors; the client cuts and tiles audio by contract.json.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, OutputError, UsageError
from aasist_deploy.plan_file import PlanContract, json_path, read_plan

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.onnx_file import OnnxFile

Kind = Literal["cpu", "gpu"]

VERSION: Final = "1"  # of the model in the repository; Triton serves the highest number
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ON_GPU: Final = ("fp16", "bf16")  # a CPU runs them slower or not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonOptions:
    """How Triton runs the models.

    Attributes:
        kind: Where the ONNX variant runs; None for the CPU, and the GPU for fp16 and bf16. The
            TensorRT variant runs on a GPU.
        instances: Copies of each model, for each GPU or all CPUs; each has its own memory.
        max_batch: Most windows of one call of the ONNX variant.
        max_delay_us: How long a window waits for others, in microseconds.
        max_queue: Requests that wait; more are rejected.
        timeout_s: A request that waits longer is rejected.
    """

    kind: Kind | None = None
    instances: int = 1
    max_batch: int = 16
    max_delay_us: int = 5_000
    max_queue: int = 256
    timeout_s: int = 30

    def __post_init__(self) -> None:
        """Refuse what Triton could not act on."""
        for name in ("instances", "max_batch", "max_queue", "timeout_s"):
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"{name} is {value}; it must be 1 or more.")


@dataclass(frozen=True, slots=True)
class _Model:
    """One model of the repository, as its config.pbtxt describes it."""

    name: str
    backend: str
    platform: str
    kind: Kind
    max_batch: int
    preferred: tuple[int, ...]
    profiles: int  # of a plan


def triton_name(model: str) -> str:
    """The name in the repository of a model file or a published model.

    Raises:
        UsageError: nothing of it can be a name.
    """
    stem = Path(model).name.removesuffix(Path(model).suffix) if "." in model else Path(model).name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")[:100]
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{model} gives no name for a model of Triton.", fix="rename the file, e.g. aasist.onnx"
        )
    return name


def write_triton_repository(
    model: Path,
    folder: Path,
    *,
    name: str,
    plan: Path | None = None,
    options: TritonOptions | None = None,
) -> list[Path]:
    """Fill a folder with a model repository.

    Args:
        model: Exported .onnx file, which may lie in its place already.
        folder: The repository; is made when it is missing.
        name: Of the model; that of the plan has `-trt` behind it.
        plan: A TensorRT plan with its description, of the same checkpoint.
        options: How Triton runs the models.

    Returns:
        The config.pbtxt of every model.

    Raises:
        ModelFileError: a file that is no model, or a plan of another one.
        UsageError: a model that Triton cannot batch, or a plan that it cannot run.
        OutputError: the folder cannot be written.
        EnvironmentLacks: the package onnx is missing.
    """
    options = options or TritonOptions()
    contract, file = read_contract(model)
    shapes = _output_shapes(file, contract)
    models = [(_onnx_model(name, contract, options), contract, model, "model.onnx")]
    described: PlanContract | None = None
    if plan is not None:
        described, _ = read_plan(plan)
        _check_same(contract, file, described, plan)
        models.append(
            (_plan_model(f"{name}-trt", described, plan), described.contract, plan, "model.plan")
        )
    written = []
    try:
        for one, its_contract, source, file_name in models:
            place = folder / one.name
            target = place / VERSION / file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.resolve() != target.resolve():
                shutil.copyfile(source, target)
            _write_json(place / "contract.json", its_contract.to_dict())
            if described is not None and source == plan:
                shutil.copyfile(json_path(source), json_path(target))
            labels = "\n".join(its_contract.class_order) + "\n"
            (place / "labels.txt").write_text(labels, encoding="utf-8")
            written.append(place / "config.pbtxt")
            written[-1].write_text(_config(one, its_contract, shapes, options), encoding="utf-8")
    except (OSError, shutil.Error) as error:
        raise OutputError(
            f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}.",
            fix="name a place that you may write to",
        ) from error
    return written


def _onnx_model(name: str, contract: ModelContract, options: TritonOptions) -> _Model:
    smallest, largest = contract.batch
    if smallest > 1:
        raise UsageError(
            f"The model has a fixed batch of {smallest}, which Triton does not fill up.",
            fix="export it with --batch dynamic",
        )
    if options.kind == "cpu" and contract.precision in _ON_GPU:
        raise UsageError(
            f"The model computes in {contract.precision}, which CPUs do not run well.",
            fix="leave --triton-device out, or export the model in fp32",
        )
    max_batch = min(options.max_batch, largest or options.max_batch)
    kind = options.kind or ("gpu" if contract.precision in _ON_GPU else "cpu")
    return _Model(
        name, "onnxruntime", "onnxruntime_onnx", kind, max_batch, (min(8, max_batch),), profiles=0
    )


def _plan_model(name: str, described: PlanContract, plan: Path) -> _Model:
    if described.runtime != "tensorrt":
        raise UsageError(
            f"{plan} was built by {described.built_for()}; Triton runs plans of TensorRT.",
            fix="build it with TensorRT: pip install 'aasist-deploy[trt]'",
        )
    if min(profile[0] for profile in described.profiles) > 1:
        raise UsageError(
            f"The profiles of {plan} begin at a batch of "
            f"{min(profile[0] for profile in described.profiles)}; Triton calls with 1 too.",
            fix="build it with --profile 1,8,32",
        )
    optimal = tuple(sorted({profile[1] for profile in described.profiles}))
    return _Model(
        name, "tensorrt", "tensorrt_plan", "gpu", described.max_batch, optimal,
        profiles=len(described.profiles),
    )  # fmt: skip


def _output_shapes(file: OnnxFile, contract: ModelContract) -> dict[str, tuple[int, ...]]:
    """Shape of each output behind the batch, -1 where it is not fixed; Triton wants the file's.

    Raises:
        ModelFileError: the file's inputs and outputs are not float32, or not those of its contract.
        EnvironmentLacks: the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise EnvironmentLacks(
            "A model repository needs the package onnx, which is not installed.",
            fix="pip install 'aasist-deploy[export]'",
        ) from error
    graph = onnx.load_model_from_string(file.content).graph
    values = {value.name: value for value in (*graph.input, *graph.output)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in (contract.input_name, *contract.outputs):
        kind = values[name].type.tensor_type if name in values else None
        if kind is None or kind.elem_type != onnx.TensorProto.FLOAT:
            raise ModelFileError(
                f"{file.path} has no float32 input or output {name!r}, which its contract names.",
                fix="export the checkpoint again",
            )
        sizes = [one.dim_value if one.HasField("dim_value") else -1 for one in kind.shape.dim]
        shapes[name] = tuple(sizes[1:])
    return shapes


def _check_same(
    contract: ModelContract, file: OnnxFile, described: PlanContract, plan: Path
) -> None:
    """Refuse a plan whose model is another one than the ONNX file's."""
    other = described.contract
    for what, ours, theirs in (
        ("checkpoint", contract.checkpoint_sha256[:12], other.checkpoint_sha256[:12]),
        ("window", contract.n_samples, other.n_samples),
        ("sample rate", contract.sample_rate_hz, other.sample_rate_hz),
        ("set of outputs", sorted(contract.outputs), sorted(other.outputs)),
    ):
        if ours != theirs:
            raise ModelFileError(
                f"{plan} is of another model than {file.path}: its {what} is {theirs}, not {ours}.",
                fix="build the plan from this file: aasist-deploy export MODEL.onnx --to trt",
            )


def _write_json(path: Path, values: object) -> None:
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _config(
    model: _Model,
    contract: ModelContract,
    shapes: dict[str, tuple[int, ...]],
    options: TritonOptions,
) -> str:
    """config.pbtxt, in the text format of protocol buffers."""
    window = -1 if contract.n_samples is None else contract.n_samples
    outputs = ",\n".join(_output(name, shapes[name]) for name in contract.outputs)
    sizes = sorted({1, model.preferred[-1]})
    samples = contract.n_samples or contract.min_samples
    warm_ups = ",\n".join(_warm_up(size, contract.input_name, samples) for size in sizes)
    profiles = ", ".join(f'"{index}"' for index in range(model.profiles))
    profile = f"\n    profile: [ {profiles} ]" if model.profiles > 1 else ""
    preferred = ", ".join(map(str, model.preferred))
    return f"""\
# {contract.architecture}: waves of {contract.sample_rate_hz} Hz in, scores out.
# contract.json says how audio becomes a wave.
name: "{model.name}"
backend: "{model.backend}"
platform: "{model.platform}"
max_batch_size: {model.max_batch}
input [
  {{
    name: {_quoted(contract.input_name)}
    data_type: TYPE_FP32
    dims: [ {window} ]
  }}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {options.max_delay_us}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {options.timeout_s * 1_000_000}
    allow_timeout_override: true
    max_queue_size: {options.max_queue}
  }}
}}
instance_group [
  {{
    count: {options.instances}
    kind: KIND_{model.kind.upper()}{profile}
  }}
]
model_warmup [
{warm_ups}
]
"""


def _output(name: str, shape: tuple[int, ...]) -> str:
    """One output; of one number for each wave, Triton's shape is 1, and the model's nothing."""
    lines = [f"    name: {_quoted(name)}", "    data_type: TYPE_FP32"]
    if shape:
        lines.append(f"    dims: [ {', '.join(map(str, shape))} ]")
    else:
        lines += ["    dims: [ 1 ]", "    reshape { shape: [ ] }"]
    if name == "logits":
        lines.append('    label_filename: "labels.txt"')
    return "\n".join(["  {", *lines, "  }"])


def _warm_up(batch: int, input_name: str, n_samples: int) -> str:
    return f"""\
  {{
    name: "batch of {batch}"
    batch_size: {batch}
    inputs {{
      key: {_quoted(input_name)}
      value {{ data_type: TYPE_FP32 dims: [ {n_samples} ] zero_data: true }}
    }}
  }}"""


def _quoted(text: str) -> str:
    """A string of the text format; names come out of files, and may hold anything."""
    shown = "".join(
        c if c.isprintable() and c.isascii() and c not in '"\\' else
        "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in text
    )  # fmt: skip
    return f'"{shown}"'
