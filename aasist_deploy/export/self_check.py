"""The written file against the checkpoint, through the engine that users open it with."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from aasist_deploy.audio import SAMPLE_RATE_HZ
from aasist_deploy.engines import open_engine
from aasist_deploy.engines.base import ORDER_RTOL, ObservesPooling
from aasist_deploy.engines.torch import run_in_order
from aasist_deploy.errors import AasistDeployError, CheckFailed
from aasist_deploy.models.rawgat_st import RawGatSt

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine
    from aasist_deploy.models import Checkpoint, Network

# Largest difference of a logit between the written file and eager PyTorch. Measured on 412 real
# clips: 1.6e-5 (AASIST) and 1.3e-5 (AASIST-L), which is rounding in another order.
SELF_CHECK_ATOL: Final = 1e-4

# RawGAT-ST gives each place in the order of its nodes a weight of its own, and magnifies rounding:
# its file may be so many times as far from eager PyTorch as that is from the same network in
# float64. Measured with random weights: 1.6 times on real clips (3.4e-5), 15 times on quiet noise
# (1.3e-3). Every other network has SELF_CHECK_ATOL and nothing else.
ROUNDING_FACTOR: Final = 32
MAGNIFIES_ROUNDING: Final = (RawGatSt,)

# 197,100 samples make 90 temporal nodes: the first count at which float32 would be wrong.
_LENGTHS: Final = (16_000, 197_100)
_N_WAVES: Final = 3  # the trace is of 2: a batch that is baked in shows

_FIX: Final = (
    "try --topk rank, another --opset, or report the versions that `aasist-deploy doctor` prints"
)

log = logging.getLogger(__name__)


def self_check(checkpoint: Checkpoint, path: Path, contract: ModelContract) -> float:
    """Compare the file with the checkpoint through the ONNX Runtime engine.

    Nodes with equal scores may be kept in any order: where the file's order is one that the
    checkpoint's scores allow, the checkpoint is run in that order.

    Returns:
        The largest difference of a logit over fixed waves, batch sizes and (variable) lengths.

    Raises:
        CheckFailed: it is too large, or the file does not run at one of the sizes.
    """
    worst = 0.0
    n_waves = contract.batch[1] or _N_WAVES
    with open_engine(path, "onnx") as engine, torch.inference_mode():
        for n_samples in _check_lengths(contract):
            waves = _check_waves(n_waves, n_samples)
            expected = checkpoint.model(torch.from_numpy(waves))[1].numpy()
            limit, orders = SELF_CHECK_ATOL, None
            for batch in {contract.batch[1] or 1, n_waves}:
                outputs = _outputs(engine, waves, batch)
                gaps = _gaps(outputs, expected)
                if gaps.max() > limit and orders is None:
                    orders = _orders(engine, waves)
                    reordered = _in_order(checkpoint.model, waves, orders)
                    if reordered is not None:
                        expected = reordered
                        gaps = _gaps(outputs, expected)
                    magnifies = isinstance(checkpoint.model, MAGNIFIES_ROUNDING)
                    far = gaps > limit
                    if magnifies and reordered is not None and far.any():
                        chosen = {name: order[far] for name, order in orders.items()}
                        magnified = _magnified(checkpoint.model, waves[far], chosen, expected[far])
                        limit = max(limit, magnified)
                difference = float(gaps.max())
                worst = float(np.maximum(worst, difference))
                if not difference <= limit:  # also when it is NaN
                    raise CheckFailed(
                        f"The exported model is {difference:.2e} away from the checkpoint at batch "
                        f"{batch} and {n_samples} samples; at most {limit:.0e} is "
                        f"accepted. Nothing was written.",
                        fix=_FIX,
                    )
    return worst


def _outputs(
    engine: Engine, waves: NDArray[np.float32], batch: int
) -> dict[str, NDArray[np.float32]]:
    """What the file gives, waves given `batch` at a time."""
    try:
        pieces = [engine.run(waves[i : i + batch]) for i in range(0, len(waves), batch)]
        return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
    except AasistDeployError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckFailed(
            f"The exported model does not run at batch {batch} and {waves.shape[1]} samples: "
            f"{reason}. Nothing was written.",
            fix=_FIX,
        ) from error


def _gaps(
    outputs: dict[str, NDArray[np.float32]], expected: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The largest difference of a logit or score of each wave, (B,); NaN if one is."""
    gaps = np.zeros(len(expected), np.float32)
    for name, wanted in (("logits", expected), ("score", expected[:, 1:])):
        if name in outputs:
            given = outputs[name] if name == "logits" else outputs[name][..., None]
            if given.shape != wanted.shape:
                return np.full_like(gaps, np.nan)
            gaps = np.maximum(gaps, np.abs(given - wanted).max(axis=1))
    return gaps


def _orders(engine: Engine, waves: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """Which nodes the file kept, best first; empty where there is no graph pooling to see."""
    return engine.pooling_orders(waves) if isinstance(engine, ObservesPooling) else {}


def _in_order(
    network: Network, waves: NDArray[np.float32], orders: dict[str, NDArray[np.int64]]
) -> NDArray[np.float32] | None:
    """The network's output in the file's order; None if there is none, or its scores forbid it."""
    if not orders:
        return None
    output, contradiction = run_in_order(network, torch.from_numpy(waves), orders)
    log.info("the file's order of nodes contradicts the scores by %.1e", contradiction)
    return output.numpy() if contradiction <= ORDER_RTOL else None


def _magnified(
    network: Network,
    waves: NDArray[np.float32],
    orders: dict[str, NDArray[np.int64]],
    expected: NDArray[np.float32],
) -> float:
    """How far the file may be off where the network magnifies rounding."""
    precise = copy.deepcopy(network).double()
    exact, _ = run_in_order(precise, torch.from_numpy(waves).double(), orders)
    rounding = float(np.abs(exact.numpy() - expected).max())
    log.info("the network in float32 is %.1e away from itself in float64", rounding)
    return ROUNDING_FACTOR * rounding


def _check_lengths(contract: ModelContract) -> list[int]:
    if contract.n_samples is not None:
        return [contract.n_samples]
    return sorted({contract.min_samples, *(max(n, contract.min_samples) for n in _LENGTHS)})


def _check_waves(n_waves: int, n_samples: int) -> NDArray[np.float32]:
    """Fixed test waves: noise under a slow envelope, each wave at another level."""
    rng = np.random.default_rng(0)
    time_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time_s)
    levels = np.geomspace(0.5, 0.01, n_waves)[:, None]
    return (levels * envelope * rng.uniform(-1, 1, (n_waves, n_samples))).astype(np.float32)
