"""A model repository for NVIDIA Triton Inference Server: models, config.pbtxt, labels, contract.

    REPO/NAME/config.pbtxt, labels.txt, contract.json, 1/model.onnx        ONNX Runtime
    REPO/NAME-trt/config.pbtxt, labels.txt, contract.json, 1/model.plan    TensorRT, of a plan

The layout and the fields are those of Triton's documentation of model repositories and model
configuration. Triton takes tensors; the client cuts and tiles audio by contract.json.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, OutputError, UsageError
from aasist_deploy.export.triton_config import MAX_INT, TritonModel, TritonOptions, config_text
from aasist_deploy.plan_file import PlanContract, json_path, read_plan, write_plan

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.onnx_file import OnnxFile

VERSION: Final = "1"  # of the model in the repository; Triton serves the highest number
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ON_GPU: Final = ("fp16", "bf16")  # a CPU runs them slower or not at all
# Numbers of one warm-up, for which a server takes memory when it starts: 1 GiB.
_MAX_WARM_UP: Final = 2**28


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
    if not _NAME.fullmatch(name):  # it is a folder and a line of config.pbtxt
        raise UsageError(
            f"{name!r} is no name for a model of Triton.",
            fix="take letters, digits, '.', '_' and '-', a letter or digit first",
        )
    contract, file = read_contract(model)
    shapes = _shapes(file, contract)
    models = [(_onnx_model(name, contract, options), contract)]
    described, plan_bytes = None, b""
    if plan is not None:
        described, plan_bytes = read_plan(plan)
        _check_same(contract, file, described, plan)
        models.append((_plan_model(f"{name}-trt", described, plan), described.contract))
    for one, its_contract in models:
        _check_acted_on(one, its_contract)
    written = []
    try:
        for one, its_contract in models:
            place = folder / one.name
            version = place / VERSION
            for part in (place, version):
                if part.is_symlink():
                    raise OutputError(
                        f"{part} is a link; what it leads to is not written to.",
                        fix="name another folder, or remove the link",
                    )
            version.mkdir(parents=True, exist_ok=True)
            # What was checked is what is written, whatever became of the files meanwhile.
            if described is not None and one.backend == "tensorrt":
                for part in (version / "model.plan", json_path(version / "model.plan")):
                    if part.is_symlink():
                        part.unlink()
                write_plan(plan_bytes, described, version / "model.plan")
            else:
                _put(version / "model.onnx", file.content)
            text = json.dumps(its_contract.to_dict(), indent=2, sort_keys=True) + "\n"
            _put(place / "contract.json", text.encode())
            _put(place / "labels.txt", ("\n".join(its_contract.class_order) + "\n").encode())
            written.append(place / "config.pbtxt")  # last: a server that looks finds all of it
            _put(written[-1], config_text(one, its_contract, shapes, options).encode())
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            fix="name a place that you may write to",
        ) from error
    return written


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; of a link in its place, not what it leads to."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _check_acted_on(model: TritonModel, contract: ModelContract) -> None:
    """Refuse what Triton would not load, or would take much memory for.

    Raises:
        ModelFileError: numbers beyond its schema, a window of gigabytes, or labels that are none.
    """
    samples = contract.n_samples or contract.min_samples
    if max(model.max_batch, *model.preferred) > MAX_INT:
        raise ModelFileError(f"{model.name} takes batches of {model.max_batch}, over 31 bits.")
    if samples * model.preferred[-1] > _MAX_WARM_UP:
        raise ModelFileError(
            f"{model.name} takes {model.preferred[-1]} windows of {samples} samples at once; at "
            f"most {_MAX_WARM_UP} numbers are asked of Triton.",
            fix="export the checkpoint again, with shorter windows",
        )
    labels: tuple[object, ...] = contract.class_order  # read from a file
    if not all(isinstance(one, str) and one and one.isprintable() for one in labels):
        raise ModelFileError(
            f"The contract's class_order is {list(labels)!r}; each must be one line of labels.txt.",
            fix="export the checkpoint again",
        )


def _onnx_model(name: str, contract: ModelContract, options: TritonOptions) -> TritonModel:
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
    return TritonModel(
        name, "onnxruntime", "onnxruntime_onnx", kind, max_batch, (min(8, max_batch),), profiles=0
    )


def _plan_model(name: str, described: PlanContract, plan: Path) -> TritonModel:
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
    return TritonModel(
        name, "tensorrt", "tensorrt_plan", "gpu", described.max_batch, optimal,
        profiles=len(described.profiles),
    )  # fmt: skip


def _shapes(file: OnnxFile, contract: ModelContract) -> dict[str, tuple[int, ...]]:
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
    try:
        graph = onnx.load_model_from_string(file.content).graph
    except Exception as error:  # of protobuf, whose classes differ between its implementations
        raise ModelFileError(
            f"{file.path} is damaged: its graph cannot be read.", fix="export it again"
        ) from error
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
    window = (contract.n_samples or -1,)
    if shapes[contract.input_name] != window:
        raise ModelFileError(
            f"{file.path} takes {list(shapes[contract.input_name])} samples, its contract says "
            f"{list(window)}.",
            fix="export the checkpoint again",
        )
    if any(size < 1 and size != -1 for shape in shapes.values() for size in shape):
        raise ModelFileError(
            f"{file.path} has outputs of shapes that cannot be: {shapes}.",
            fix="export the checkpoint again",
        )
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
