"""Eager PyTorch on a checkpoint: the reference that other engines are compared with.

Thread-safety: several threads may call `score` and `run` at once; what looks
into graph pooling (`pooling_orders`, `score_observed`, `score_in_order`) only one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aasist_deploy import models
from aasist_deploy.audio import SAMPLE_RATE_HZ
from aasist_deploy.contract import ModelContract, output_meanings
from aasist_deploy.engines.base import BaseEngine, Waves, check_threads
from aasist_deploy.errors import EnvironmentLacks, UsageError
from aasist_deploy.models.graph import GraphPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint


class TorchEngine(BaseEngine):
    """A checkpoint in eager PyTorch, float32 with TF32 off.

    Args:
        path: The checkpoint.
        config: Its model configuration, when the checkpoint does not carry it and is not published.
        code: "module:Class" or "path/to/file.py:Class" of a network of your own; it is run.
        device: "cpu", "cuda" or "cuda:N".
        any_length: Take waves of any length, where the network can, instead of the one that it was
            trained on.
        threads: Threads of PyTorch; this setting is global to the process, None leaves it alone.
        max_batch: Larger batches are run in pieces of this size.

    Raises:
        CheckpointError: the weights do not fit, nothing says how they are configured, or they need
            code that is not named.
        EnvironmentLacks: the device is not here.
    """

    backend = "torch"

    def __init__(
        self,
        path: Path,
        *,
        config: Mapping[str, Any] | None = None,
        code: str | None = None,
        device: str = "cpu",
        any_length: bool = False,
        threads: int | None = None,
        max_batch: int | None = None,
    ) -> None:
        check_threads(threads)
        self._device = _device(device)
        if self._device.type == "cpu":
            models.keep_freed_memory()
        checkpoint = models.load_checkpoint(path, config, code=code)
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model = checkpoint.model.to(self._device)
        variable = any_length and model.any_length
        contract = ModelContract(
            **contract_fields(checkpoint),
            n_samples=None if variable else model.n_samples,
            min_samples=model.min_samples if variable else model.n_samples,
            outputs=output_meanings(model.score),
            tools={"torch": torch.__version__},
        )
        where = f"{torch.get_num_threads()} threads" if self._device.type == "cpu" else "float32"
        super().__init__(contract, f"{self._device}, {where}", max_batch)

    @property
    def best_batch(self) -> int:
        """All that is run at once on a GPU; on a CPU as any engine."""
        return super().best_batch if self._device.type == "cpu" else self.max_batch

    def pooling_orders(self, waves: Waves) -> dict[str, NDArray[np.int64]]:
        """Which nodes each graph pooling kept, best first: pool name -> (B, k) indices."""
        return self.score_observed(waves)[1]

    def score_observed(
        self, waves: Waves
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
        """Scores, and which nodes each graph pooling kept for them; not in pieces."""
        waves = self._checked(waves)
        orders: dict[str, NDArray[np.int64]] = {}
        hooks = []
        for name, module in self._model.named_modules():
            if isinstance(module, GraphPool):

                def keep(_m: object, _i: object, taken: Tensor, name: str = name) -> None:
                    orders[name] = taken.cpu().numpy()

                hooks.append(module.order.register_forward_hook(keep))
        try:
            scores = self._run(waves)["score"]
        finally:
            for hook in hooks:
                hook.remove()
        return scores, orders

    def score_in_order(
        self, waves: Waves, orders: Mapping[str, NDArray[np.int64]]
    ) -> tuple[NDArray[np.float32], float]:
        """Score waves with the nodes that another engine kept; see `run_in_order`."""
        given = torch.tensor(self._checked(waves), device=self._device)
        with torch.backends.cudnn.flags(allow_tf32=False):
            output, contradiction = run_in_order(self._model, given, orders)
        return output[:, 1].cpu().numpy().copy(), contradiction

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        # TF32 is on by default in cuDNN's convolutions; a reference does not round to ten bits.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            embedding, output = self._model(torch.tensor(waves, device=self._device))
        return {
            "score": output[:, 1].cpu().numpy().copy(),
            "logits": output.cpu().numpy(),
            "embedding": embedding.cpu().numpy(),
        }

    def _close(self) -> None:
        del self._model


def run_in_order(
    model: models.Network, waves: Tensor, orders: Mapping[str, NDArray[np.int64]]
) -> tuple[Tensor, float]:
    """Run a network with the nodes that another engine kept, in that engine's order.

    Nodes whose scores are equal, or differ by less than rounding, may be kept in any order; what is
    computed from them then differs by more than rounding. Sigmoids saturate, so equal scores are
    no rarity: this tells another choice among equals from another network.

    Args:
        model: The network, in evaluation mode.
        waves: (B, N) samples.
        orders: Pool name -> (B, k) indices of the kept nodes, best first, of every pooling.

    Returns:
        (B, 2) output, and the largest part by which a node that was put behind another one, or left
        out, has the higher score here: 0 when the order is one that the scores allow, infinite when
        a node is kept twice.
    """
    contradiction = 0.0
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, GraphPool):
            taken = torch.from_numpy(orders[name]).to(waves.device)

            def take(
                _m: object, given: tuple[Tensor, int], _o: object, taken: Tensor = taken
            ) -> Tensor:
                nonlocal contradiction
                scores = given[0]
                kept = scores.gather(1, taken)  # (B, k)
                left = scores.scatter(1, taken, 0.0).amax(1, keepdim=True)  # scores are sigmoids
                behind = torch.cat([kept[:, 1:], left], dim=1)
                part = ((behind - kept) / behind.clamp_min(torch.finfo(kept.dtype).tiny)).max()
                twice = bool((taken.sort(dim=1).values.diff(dim=1) == 0).any())
                contradiction = max(contradiction, math.inf if twice else float(part))
                return taken

            hooks.append(module.order.register_forward_hook(take))
    try:
        with torch.inference_mode():
            output: Tensor = model(waves)[1]
    finally:
        for hook in hooks:
            hook.remove()
    return output, contradiction


def contract_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields of a contract that the checkpoint decides, whatever runs it.

    A network of one's own has its class as architecture and its own configuration as config: where
    its code lay is of no use to a reader of the contract.
    """
    architecture, config = checkpoint.architecture, checkpoint.config
    if isinstance(checkpoint.model, models.CustomNetwork):
        architecture = str(config["code"]).rpartition(":")[2]
        config = config["config"]
    return {
        "architecture": architecture,
        "config": config,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "score": checkpoint.model.score,
        "checkpoint_sha256": checkpoint.sha256,
    }


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"PyTorch knows no device '{name}'.", fix="cpu, cuda, cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"The device '{name}' is not supported.", fix="cpu, cuda, cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentLacks(
            f"The device '{name}' was asked for and PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count() or 'no'} GPU.",
            fix="use --device cpu, or install a CUDA build of torch and a driver",
        )
    return device


ENGINE = TorchEngine
