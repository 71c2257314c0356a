"""Eager PyTorch on a checkpoint: the reference that other engines are compared with.

Thread-safety: several threads may call `score` and `run` at once; `pooling_orders` only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aasist_deploy import models
from aasist_deploy.audio import SAMPLE_RATE_HZ
from aasist_deploy.contract import LOGIT_SCORE, ModelContract
from aasist_deploy.engines.base import BaseEngine, Waves, check_threads
from aasist_deploy.errors import EnvironmentLacks, UsageError
from aasist_deploy.models.graph import GraphPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TorchEngine(BaseEngine):
    """A checkpoint in eager PyTorch, float32 with TF32 off.

    Args:
        path: The checkpoint.
        config: Its model configuration, when the checkpoint is not a published one.
        device: "cpu", "cuda" or "cuda:N".
        any_length: Take waves of any length instead of the configuration's `nb_samp`.
        threads: Threads of PyTorch; this setting is global to the process, None leaves it alone.
        max_batch: Larger batches are run in pieces of this size.

    Raises:
        CheckpointError: the weights do not fit, or nothing says how they are configured.
        EnvironmentLacks: the device is not here.
    """

    backend = "torch"

    def __init__(
        self,
        path: Path,
        *,
        config: Mapping[str, Any] | None = None,
        device: str = "cpu",
        any_length: bool = False,
        threads: int | None = None,
        max_batch: int | None = None,
    ) -> None:
        check_threads(threads)
        self._device = _device(device)
        checkpoint = models.load_checkpoint(path, config)
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model = checkpoint.model.to(self._device)
        contract = ModelContract(
            architecture=checkpoint.architecture,
            config=checkpoint.config,
            sample_rate_hz=SAMPLE_RATE_HZ,
            n_samples=None if any_length else model.config.nb_samp,
            min_samples=model.min_samples if any_length else model.config.nb_samp,
            outputs={
                "score": "logit of bona fide, (batch,)",
                "logits": "logits of spoof and bona fide, (batch, 2)",
                "embedding": "input of the last layer, (batch, features)",
            },
            checkpoint_sha256=checkpoint.sha256,
            score=LOGIT_SCORE,
            tools={"torch": torch.__version__},
        )
        where = f"{torch.get_num_threads()} threads" if self._device.type == "cpu" else "float32"
        super().__init__(contract, f"{self._device}, {where}", max_batch)

    def pooling_orders(self, waves: Waves) -> dict[str, NDArray[np.int64]]:
        """Which nodes each graph pooling kept, best first: pool name -> (B, k) indices."""
        waves = self._checked(waves)
        orders: dict[str, NDArray[np.int64]] = {}
        hooks = []
        for name, module in self._model.named_modules():
            if isinstance(module, GraphPool):

                def keep(_m: object, _i: object, taken: Tensor, name: str = name) -> None:
                    orders[name] = taken.cpu().numpy()

                hooks.append(module.order.register_forward_hook(keep))
        try:
            self._run(waves)
        finally:
            for hook in hooks:
                hook.remove()
        return orders

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        # TF32 is on by default in cuDNN's convolutions; a reference does not round to ten bits.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            embedding, logits = self._model(torch.tensor(waves, device=self._device))
        return {
            "score": logits[:, 1].cpu().numpy().copy(),
            "logits": logits.cpu().numpy(),
            "embedding": embedding.cpu().numpy(),
        }

    def _close(self) -> None:
        del self._model


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
