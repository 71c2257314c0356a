"""Several processes that share each batch: torchrun, DistributedDataParallel, batch statistics.

The batch of a recipe is the batch of all processes together, so a run on two processes takes the
same steps as one on a single process.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from aasist_deploy.models.network import Network

_LAUNCHER_VARIABLES: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes of one run.

    Attributes:
        rank: Number of this process, from 0; the process 0 alone writes files.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401  # whatever can be sent
        """The value of each process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def share_gradients(self, model: Network, device: torch.device) -> nn.Module:
        """The module to call for training: its backward pass averages gradients over processes."""
        if self.size == 1:
            return model
        # The branches of a custom network may depend on the batch.
        unused = model.architecture == "custom" or bool(unused_parameters(model, device))
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=unused,
        )


def unused_parameters(model: Network, device: torch.device) -> list[str]:
    """Names of the trained parameters that a backward pass does not reach.

    The published residual blocks own some that the output ignores (bn1). The model and the random
    state stay as they are; in a run of several processes all of them have to call this.
    """
    n_samples = model.min_samples if model.any_length else model.n_samples
    probe = deepcopy(model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        _, output = probe(torch.randn(2, n_samples, device=device))
        output.sum().backward()
    return [
        name for name, each in probe.named_parameters() if each.requires_grad and each.grad is None
    ]


def gradients_stay_here(model: nn.Module, *, when: bool) -> AbstractContextManager[None]:
    """Leave the averaging of gradients to a later backward pass (accumulation)."""
    if when and isinstance(model, DistributedDataParallel):
        return cast("AbstractContextManager[None]", model.no_sync())
    return nullcontext()


def choose_device(wanted: str) -> torch.device:
    """The device of a recipe: auto, cpu or cuda; under torchrun one GPU for each process.

    Raises:
        UsageError: A GPU is asked for, and there is none for this process.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and n_gpus == 0):
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= n_gpus:
        raise UsageError(
            f"Process {index} of this machine needs a GPU of its own, and PyTorch sees {n_gpus}.",
            fix="train with --set training.device=cpu, or start fewer processes",
        )
    return torch.device("cuda", index)


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started, or this one alone.

    A process group that the caller made is used and left as it is.

    Raises:
        UsageError: The variables of the launcher are there in part.
    """
    if dist.is_available() and dist.is_initialized():
        yield World(rank=dist.get_rank(), size=dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    missing = [name for name in _LAUNCHER_VARIABLES if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and {', '.join(missing)} is not set.",
            fix="start several processes with torchrun --nproc-per-node N",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size())
    finally:
        # Without a barrier: when one process fails, the others must not wait for it.
        dist.destroy_process_group()


def share_batch_statistics(model: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch normalisation see the batch of all processes.

    Names of parameters and buffers stay; the model is changed in place and returned.
    """
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        return cast("nn.Module", convert(model))
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, SharedBatchNorm.of(child))
        else:
            share_batch_statistics(child, device)
    return model


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes, on CPU.

    torch.nn.SyncBatchNorm does the same on GPUs and refuses the CPU.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SharedBatchNorm:
        """The same parameters and running statistics under the shared computation."""
        shared = cls(
            norm.num_features,
            eps=norm.eps,
            momentum=norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        for tensors in ("_parameters", "_buffers"):  # the optimiser may know them already
            setattr(shared, tensors, getattr(norm, tensors))
        shared.training = norm.training
        return shared

    def _check_input_dim(self, _input: Tensor) -> None:
        """Take every number of axes; the class that was replaced has had its say."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """(B, C, ...) normalised over all axes but the second, and over all processes."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        x = input.float()
        count = _summed(x.new_tensor(x.numel() / max(x.shape[1], 1)))
        mean = _summed(x.sum(axes)) / count  # (C,)
        shape = [1, -1, *[1] * (input.dim() - 2)]
        centred = x - mean.view(shape)
        # From the differences, as the plain layer does; E[x^2] - E[x]^2 loses digits.
        variance = _summed(centred.square().sum(axes)) / count
        self._follow(mean, variance, count)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics, with the unbiased variance as torch does."""
        if self.running_mean is None or self.running_var is None:
            return
        factor = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance * count / (count - 1), factor)


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes; each process's loss depends on the parts of all."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401  # torch's own
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401  # torch's own
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(values)  # type: ignore[no-untyped-call]
    return total
