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

import numpy as np
import onnx
import torch

from aasist_deploy.audio import SAMPLE_RATE_HZ
from aasist_deploy.contract import ModelContract
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import CheckFailed, EnvironmentLacks, OutputError, UsageError
from aasist_deploy.export import graph_passes
from aasist_deploy.export.inference_graph import GraphPoolInference, InferenceAasist, TopK
from aasist_deploy.models.aasist import samples_of_nodes
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

log = logging.getLogger(__name__)

OUTPUTS: Final = {
    "score": "logit of bona fide, (batch,)",
    "logits": "logits of spoof and bona fide, (batch, 2)",
    "embedding": "input of the last layer, (batch, features)",
}
OPSETS: Final = range(18, 24)
PRECISIONS: Final = ("fp32",)

# One graph node per 2,187 samples on the time axis. Attention compares all pairs of nodes, so
# memory grows with the square: a wave of 1,024 nodes (140 s) already takes about 1 GB.
MAX_NODES: Final = 1_024

# Largest difference of a logit between the written file and eager PyTorch. Measured on 412 real
# clips: 1.6e-5 (AASIST) and 1.3e-5 (AASIST-L), which is rounding in another order.
SELF_CHECK_ATOL: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an ONNX file is written.

    Attributes:
        topk: The form of graph pooling: "topk" (TopK and gather) or "rank" (comparisons and a
            matrix product; no operator whose ties a runtime could break its own way).
        n_samples: Length of a wave, or None for any length.
        batch: A fixed batch size, or None for any.
        opset: ONNX operator set.
        outputs: Which of score, logits and embedding the file gives.
        precision: Arithmetic of the graph.
    """

    topk: TopK = "topk"
    n_samples: int | None = 64_600
    batch: int | None = None
    opset: int = 18
    outputs: tuple[str, ...] = ("score", "logits")
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse what cannot be exported, before anything is loaded."""
        if self.topk not in ("topk", "rank"):
            raise UsageError(f"There is no top-k form '{self.topk}'; known are: topk, rank.")
        if self.opset not in OPSETS:
            raise UsageError(
                f"Opset {self.opset} is not supported; {OPSETS[0]} to {OPSETS[-1]} are.",
                fix=f"leave --opset out: {OPSETS[0]} is read by every current runtime",
            )
        unknown = [name for name in self.outputs if name not in OUTPUTS]
        if unknown or not self.outputs:
            raise UsageError(
                f"Unknown outputs {', '.join(unknown) or '(none given)'}; known are: "
                f"{', '.join(OUTPUTS)}."
            )
        if not {"score", "logits"} & set(self.outputs):
            raise UsageError(
                "A model without score or logits cannot be scored with.",
                fix="add score: --outputs score,embedding",
            )
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"The precision '{self.precision}' cannot be exported yet: a graph of reduced "
                f"precision is accepted only when its scores on real audio are checked, and that "
                f"check is not part of this version.",
                fix="use --precision fp32",
            )
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"The batch size is {self.batch}; it must be 1 or more.")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and how far it is from the checkpoint.

    Attributes:
        path: The file.
        contract: What it says of itself.
        n_nodes: Operators in the graph.
        max_difference: Largest difference of a logit from eager PyTorch in the self-check.
    """

    path: Path
    contract: ModelContract
    n_nodes: int
    max_difference: float


def export_onnx(
    checkpoint: Checkpoint, path: Path | str, options: ExportOptions | None = None
) -> ExportResult:
    """Write one self-describing ONNX file and check it against the checkpoint.

    The file appears at `path` only when the check holds; a file that was there stays otherwise.

    Raises:
        UsageError: options that cannot be exported.
        OutputError: the place cannot be written.
        CheckFailed: the written file does not give the checkpoint's logits.
    """
    path, options = Path(path), options or ExportOptions()
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="name a file with -o")
    shortest = checkpoint.model.min_samples
    if options.n_samples is not None and options.n_samples < shortest:
        raise UsageError(
            f"A window of {options.n_samples} samples is too short; the network needs {shortest}."
        )
    with _temporary_beside(path) as temporary:
        model = onnx_from_torch(checkpoint, options)
        contract = _write(model, checkpoint, options, temporary)
        worst = self_check(checkpoint, temporary, contract)
        temporary.replace(path)
    return ExportResult(path, contract, len(model.graph.node), worst)


def onnx_from_torch(checkpoint: Checkpoint, options: ExportOptions) -> onnx.ModelProto:
    """Trace the deployed form of the network; the result has no contract yet."""
    network = InferenceAasist(checkpoint.model, options.topk).eval()
    orders = [f"order.{name}" for name in network.pool_names]
    example = torch.zeros(options.batch or 2, options.n_samples or 64_600)
    dynamic: dict[int, Any] = {}
    if options.batch is None:
        dynamic[0] = torch.export.Dim("batch", min=1)
    if options.n_samples is None:
        shortest, longest = checkpoint.model.min_samples, _longest_wave(checkpoint)
        dynamic[1] = torch.export.Dim("samples", min=shortest, max=longest)
    with _quiet_tracer():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,) if dynamic else None,
            opset_version=options.opset,
            input_names=["wave"],
            output_names=[*OUTPUTS, *orders],
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
    ratios = _ratios(network)
    counted = graph_passes.count_kept_nodes_exactly(model, list(ratios.values()), MAX_NODES)
    log.info("%d node counts are looked up in tables of whole numbers", counted)
    graph_passes.keep_outputs(model, options.outputs)
    graph_passes.name_by_layer(model)
    batch: str | int = options.batch or "batch"
    features = checkpoint.model.out_layer.in_features
    graph_passes.name_dimensions(
        model,
        {
            "wave": (batch, options.n_samples or "samples"),
            "score": (batch,),
            "logits": (batch, 2),
            "embedding": (batch, features),
        },
    )
    model.producer_name = "aasist-deploy"
    onnx.checker.check_model(model, full_check=True)
    return model


def self_check(checkpoint: Checkpoint, path: Path, contract: ModelContract) -> float:
    """Compare the file with the checkpoint through the ONNX Runtime engine.

    Returns:
        The largest difference of a logit over fixed waves, batch sizes and (variable) lengths.

    Raises:
        CheckFailed: it is above SELF_CHECK_ATOL.
    """
    worst = 0.0
    n_waves = contract.batch[1] or 2
    with open_engine(path, "onnx") as engine, torch.inference_mode():
        for n_samples in _check_lengths(contract):
            waves = _check_waves(n_waves, n_samples)
            expected = checkpoint.model(torch.from_numpy(waves))[1].numpy()
            for batch in {contract.batch[1] or 1, n_waves}:
                pieces = [engine.run(waves[i : i + batch]) for i in range(0, n_waves, batch)]
                if "logits" in contract.outputs:
                    got = np.concatenate([piece["logits"] for piece in pieces])
                    worst = float(np.maximum(worst, np.abs(got - expected).max()))
                if "score" in contract.outputs:
                    score = np.concatenate([piece["score"] for piece in pieces])
                    worst = float(np.maximum(worst, np.abs(score - expected[:, 1]).max()))
                if not worst <= SELF_CHECK_ATOL:  # also when it is NaN, which np.maximum keeps
                    raise CheckFailed(
                        f"The exported model is {worst:.2e} away from the checkpoint at batch "
                        f"{batch} and {n_samples} samples; at most {SELF_CHECK_ATOL:.0e} is "
                        f"accepted. Nothing was written.",
                        fix="try --topk rank, another --opset, or report the versions that "
                        "`aasist-deploy doctor` prints",
                    )
    return worst


def _write(
    model: onnx.ModelProto, checkpoint: Checkpoint, options: ExportOptions, path: Path
) -> ModelContract:
    """Put the contract into the model and the model into the file."""
    ratios = _ratios(InferenceAasist(checkpoint.model, options.topk))
    from aasist_deploy import __version__

    contract = ModelContract(
        architecture=checkpoint.architecture,
        config=checkpoint.config,
        sample_rate_hz=SAMPLE_RATE_HZ,
        n_samples=options.n_samples,
        min_samples=options.n_samples or checkpoint.model.min_samples,
        max_samples=_longest_wave(checkpoint) if options.n_samples is None else None,
        outputs={name: OUTPUTS[name] for name in options.outputs},
        checkpoint_sha256=checkpoint.sha256,
        precision=options.precision,
        batch=(options.batch or 1, options.batch),
        topk={
            "method": options.topk,
            "ratios": ratios,
            "values": {name: f"order.{name}" for name in ratios},
        },
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


def _ratios(network: InferenceAasist) -> dict[str, float]:
    pools = {name: network.get_submodule(name) for name in network.pool_names}
    return {n: p.ratio for n, p in pools.items() if isinstance(p, GraphPoolInference)}


def _longest_wave(checkpoint: Checkpoint) -> int:
    return samples_of_nodes(MAX_NODES, checkpoint.model.sinc.filters.shape[-1])


def _check_lengths(contract: ModelContract) -> list[int]:
    if contract.n_samples is not None:
        return [contract.n_samples]
    # 197,100 samples make 90 temporal nodes: the first count at which float32 would be wrong.
    return [contract.min_samples, 16_000, 197_100]


def _check_waves(n_waves: int, n_samples: int) -> NDArray[np.float32]:
    """Fixed test waves: noise under a slow envelope, each wave at another level."""
    rng = np.random.default_rng(0)
    time_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time_s)
    levels = np.geomspace(0.5, 0.01, n_waves)[:, None]
    return (levels * envelope * rng.uniform(-1, 1, (n_waves, n_samples))).astype(np.float32)


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
def _quiet_tracer() -> Iterator[None]:
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
