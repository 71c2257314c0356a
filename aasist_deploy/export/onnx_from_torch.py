"""`onnx_from_torch`: a loaded checkpoint becomes an ONNX model that carries its contract.

`export_onnx` is the whole job: trace, passes, contract, write, open again through the engine that
users will open it with, compare with the checkpoint, and only then put it in place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx
import torch

from aasist_deploy.audio import SAMPLE_RATE_HZ
from aasist_deploy.contract import ModelContract, output_meanings
from aasist_deploy.engines.torch import contract_fields
from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError
from aasist_deploy.export import graph_passes
from aasist_deploy.export.deployed import AsItIs, deployed_form
from aasist_deploy.export.inference_graph import GraphPoolInference
from aasist_deploy.export.options import OUTPUTS, ExportOptions
from aasist_deploy.export.precision import GateReport, PrecisionOptions, lower_file, require_gate
from aasist_deploy.export.self_check import self_check
from aasist_deploy.export.shape_lint import Sizes, trace
from aasist_deploy.models import Aasist, keep_freed_memory
from aasist_deploy.models.aasist import samples_of_nodes
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aasist_deploy.export.inference_layers import InferenceNetwork
    from aasist_deploy.export.precision import GateAudio
    from aasist_deploy.models import Checkpoint, Network

log = logging.getLogger(__name__)

# One graph node per 2,187 samples on the time axis. Attention compares all pairs of nodes, so
# memory grows with the square: a wave of 1,024 nodes (140 s) already takes about 1 GB.
MAX_NODES: Final = 1_024

# Nothing limits the length of a network without such attention; a trace of variable length is
# checked up to this one.
CHECKED_SAMPLES: Final = 60 * SAMPLE_RATE_HZ  # one minute


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and how far it is from the checkpoint.

    Attributes:
        path: The file.
        contract: What it says of itself.
        n_nodes: Operators in the graph.
        max_difference: Largest difference of a logit from eager PyTorch in the self-check, in fp32.
        gate: What lower precision changes on real audio; None for fp32, and where it was not
            measured.
        moved: Layers that were moved back to fp32 because the gate did not hold.
    """

    path: Path
    contract: ModelContract
    n_nodes: int
    max_difference: float
    gate: GateReport | None = None
    moved: tuple[str, ...] = ()


def export_onnx(
    checkpoint: Checkpoint,
    path: Path | str,
    options: ExportOptions | None = None,
    *,
    lowering: PrecisionOptions | None = None,
    audio: GateAudio | None = None,
    on_step: Callable[[str], None] | None = None,
) -> ExportResult:
    """Write one self-describing ONNX file and check it against the checkpoint.

    The file appears at `path` only when the check holds; a file that was there stays otherwise.

    Args:
        checkpoint: The trained network.
        path: The `.onnx` file to write.
        options: How it is written.
        lowering: How precision is lowered, when `options.precision` is not fp32.
        audio: Real audio on which lower precision is measured; needed unless `lowering.gated` is
            False.
        on_step: Called with a sentence before each measurement of lower precision.

    Raises:
        UsageError: options that cannot be exported, or a network that would be exported wrongly.
        OutputError: the place cannot be written.
        CheckFailed: the written file does not give the checkpoint's logits, or lower precision
            changes the scores too much.
    """
    path, options = Path(path), options or ExportOptions()
    if options.precision != "fp32":
        lowering = lowering or PrecisionOptions(precision=options.precision)
        if lowering.precision != options.precision:
            raise UsageError(
                f"The options say {options.precision} and those of the lowering "
                f"{lowering.precision}."
            )
        require_gate(lowering, audio)
        with _temporary_beside(path) as fp32:
            exact = export_onnx(checkpoint, fp32, replace(options, precision="fp32"))
            lowered = lower_file(fp32, path, lowering, audio, on_step=on_step)
        moved = tuple(name for name, _ in lowered.choice.moved)
        return ExportResult(
            path,
            lowered.contract,
            lowered.n_nodes,
            exact.max_difference,
            lowered.choice.report,
            moved,
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="name a file with -o")
    if options.n_samples == "trained":
        options = replace(options, n_samples=checkpoint.model.n_samples)
    _check_length(checkpoint.model, options)
    keep_freed_memory()
    with _temporary_beside(path) as temporary:
        model = onnx_from_torch(checkpoint, options)
        contract = _write(model, checkpoint, options, temporary)
        worst = self_check(checkpoint, temporary, contract)
        temporary.replace(path)
    return ExportResult(path, contract, len(model.graph.node), worst)


def onnx_from_torch(checkpoint: Checkpoint, options: ExportOptions) -> onnx.ModelProto:
    """Trace the deployed form of the network; the result has no contract yet."""
    network = checkpoint.model
    form = deployed_form(network, options.topk)
    names = [name for name in OUTPUTS if name != "embedding" or form.has_embedding]
    missing = set(options.outputs) - set(names)
    if missing:
        raise UsageError(
            f"The network gives no {', '.join(missing)}: its forward returns logits alone.",
            fix="leave it out of --outputs, or return (embedding, logits)",
        )
    n_samples = network.n_samples if options.n_samples is None else int(options.n_samples)
    lengths = (network.min_samples, _longest_wave(network) or CHECKED_SAMPLES)
    sizes = Sizes(
        batch=options.batch,
        n_samples=n_samples,
        lengths=lengths if options.n_samples is None else None,
    )
    with quiet_tracer():
        traced = trace(form, sizes, as_it_is=isinstance(form, AsItIs))
        program = torch.onnx.export(
            traced,
            (),
            dynamo=True,
            opset_version=options.opset,
            input_names=["wave"],
            output_names=[*names, *(f"order.{name}" for name in form.pool_names)],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EnvironmentLacks(f"PyTorch {torch.__version__} traced no ONNX program.")
    model: onnx.ModelProto = program.model_proto
    written = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if written != options.opset:
        raise EnvironmentLacks(
            f"Opset {options.opset} was asked for and PyTorch {torch.__version__} wrote {written}."
        )
    ratios = [pool.ratio for pool in _pools(form).values()]
    if ratios:
        counted = graph_passes.count_kept_nodes_exactly(model, ratios, MAX_NODES)
        log.info("%d node counts are looked up in tables of whole numbers", counted)
    graph_passes.keep_outputs(model, options.outputs)
    graph_passes.name_by_layer(model)
    batch: str | int = options.batch or "batch"
    graph_passes.name_dimensions(
        model,
        {
            "wave": (batch, n_samples if options.n_samples is not None else "samples"),
            "score": (batch,),
            "logits": (batch, 2),
            "embedding": (batch, network.n_features),
        },
    )
    model.producer_name = "aasist-deploy"
    onnx.checker.check_model(model, full_check=True)
    return model


def _write(
    model: onnx.ModelProto, checkpoint: Checkpoint, options: ExportOptions, path: Path
) -> ModelContract:
    """Put the contract into the model and the model into the file."""
    from aasist_deploy import __version__

    network = checkpoint.model
    n_samples = None if options.n_samples is None else int(options.n_samples)
    meanings = output_meanings(network.score)
    contract = ModelContract(
        **contract_fields(checkpoint),
        n_samples=n_samples,
        min_samples=n_samples or network.min_samples,
        max_samples=_longest_wave(network) if n_samples is None else None,
        outputs={name: meanings[name] for name in options.outputs},
        precision=options.precision,
        batch=(options.batch or 1, options.batch),
        topk=topk_said(deployed_form(network, options.topk), options),
        tools={"aasist-deploy": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    )
    graph_sha256 = parse_onnx(model.SerializeToString(), path).graph_sha256
    contract = replace(contract, graph_sha256=graph_sha256)
    onnx.helper.set_model_props(model, contract.to_metadata())
    try:
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise _not_writable(path, error) from error
    return contract


def _check_length(network: Network, options: ExportOptions) -> None:
    """Refuse a window that the network cannot be run on."""
    n_samples, trained = options.n_samples, network.n_samples
    if not network.any_length and n_samples != trained:
        asked = "any length was" if n_samples is None else f"{n_samples} samples were"
        raise UsageError(
            f"{network.architecture} takes waves of {trained} samples alone, and {asked} asked "
            f"for: it has weights for each step of that length.",
            fix=f"leave --samples out, or --samples {trained}",
        )
    if n_samples is not None and int(n_samples) < network.min_samples:
        raise UsageError(
            f"A window of {n_samples} samples is too short; the network needs "
            f"{network.min_samples}."
        )


def _pools(form: InferenceNetwork) -> dict[str, GraphPoolInference]:
    pools = {name: form.get_submodule(name) for name in form.pool_names}
    return {name: pool for name, pool in pools.items() if isinstance(pool, GraphPoolInference)}


def topk_said(form: InferenceNetwork, options: ExportOptions) -> dict[str, Any]:
    """What the contract says of graph pooling; nothing where there is none that it can show."""
    pools = _pools(form)
    if not pools:
        return {}
    said: dict[str, Any] = {
        "method": options.topk,
        "ratios": {name: pool.ratio for name, pool in pools.items()},
        "values": {name: f"order.{name}" for name in pools},
    }
    at_least = max(pool.at_least for pool in pools.values())
    return {**said, "at_least": at_least} if at_least > 1 else said


def _longest_wave(network: Network) -> int | None:
    if not isinstance(network, Aasist):
        return None
    return samples_of_nodes(MAX_NODES, network.sinc.filters.shape[-1])


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """A name in the same folder, so that moving it into place is atomic; removed if left over."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".onnx")
    except OSError as error:
        raise _not_writable(path, error) from error
    os.close(handle)
    Path(name).chmod(0o644)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror}.", fix="choose another place with -o"
    )


@contextlib.contextmanager
def quiet_tracer() -> Iterator[None]:
    """The tracer reports on things we do not use (torchvision, its own deprecations)."""
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.setLevel(level)
