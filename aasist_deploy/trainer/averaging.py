"""Averages of weights over training: SWA and EMA, and the normalisation statistics they need."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.trainer.transfer import frozen_norms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COUNT = "n"  # key of the number of updates in a state
_WEIGHTS = "weights."  # prefix of the averaged tensors in a state


class WeightAverage(ABC):
    """An average of what a model held at each `update`, kept beside it on its device.

    Give it the network itself, not what `torch.compile` or DistributedDataParallel made of it: the
    names in the state are those of the network.

    Attributes:
        n: Updates so far.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean: dict[str, Tensor] = {}

    @abstractmethod
    def _share_of_newest(self) -> float:
        """Weight in the average of the snapshot that is the `n`-th; 1 for the first."""

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the present weights of `model` into the average."""
        now = self._followed(model)
        self.n += 1
        if self.n == 1:
            self._mean = {name: value.detach().clone() for name, value in now.items()}
            return
        mean = [self._mean[name] for name in now]
        # mean += share * (newest - mean), one kernel for all tensors on a GPU
        move = get_ema_multi_avg_fn(1.0 - self._share_of_newest())  # type: ignore[no-untyped-call]
        move(tuple(mean), tuple(value.detach() for value in now.values()), self.n)

    def averaged(self, model: nn.Module) -> nn.Module:
        """Copy `model`, with the average as its weights.

        Its running statistics are still those of `model`'s own weights where the average does not
        follow them: give the copy to `update_batch_norm` before it scores anything.

        Raises:
            UsageError: nothing was averaged yet.
        """
        if not self.n:
            raise UsageError("There is no average of the weights: no snapshot was taken yet.")
        made = copy.deepcopy(model)
        with torch.no_grad():
            for name, value in self._followed(made).items():
                value.copy_(self._mean[name])
        return made

    def state_dict(self) -> dict[str, Tensor]:
        """Everything to go on from, as plain tensors; they are copies."""
        state = {_WEIGHTS + name: value.clone() for name, value in self._mean.items()}
        return state | {_COUNT: torch.tensor(self.n)}

    def load_state_dict(
        self, state: Mapping[str, Tensor], device: torch.device | str | None = None
    ) -> None:
        """Go on from a `state_dict`.

        Args:
            state: What `state_dict` gave.
            device: Where the model is; None leaves the tensors where they are.

        Raises:
            CheckpointError: it is no such state.
        """
        unknown = [key for key in state if key != _COUNT and not key.startswith(_WEIGHTS)]
        if _COUNT not in state or unknown:
            raise CheckpointError(
                "This is no state of a weight average: "
                + (f"it holds {unknown[0]!r}." if unknown else "it does not say of how many."),
                fix="resume from a checkpoint that this trainer wrote",
            )
        self.n = int(state[_COUNT])
        self._mean = {
            key.removeprefix(_WEIGHTS): value.to(device).clone()
            for key, value in state.items()
            if key != _COUNT
        }

    def _followed(self, model: nn.Module) -> dict[str, Tensor]:
        """The tensors of a model that are averaged."""
        return dict(model.named_parameters())


class SwaAverage(WeightAverage):
    """The mean of the snapshots, each with the same weight.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
    UAI 2018. The published project takes a snapshot after each epoch that sets a new best dev EER.
    """

    def _share_of_newest(self) -> float:
        return 1.0 / self.n


class Ema(WeightAverage):
    """The exponential moving average of the weights, without a bias to the first ones.

    After n updates snapshot i has the weight decay^(n-i) (1 - decay) / (1 - decay^n): they add up
    to 1 from the first on, as in Kingma & Ba, "Adam", ICLR 2015, section 3. Started from the
    weights before training, as is common, it would keep a part decay^n of them.

    Running statistics are averaged alike, so that the average can be scored after each epoch
    without a pass over the training data.

    Args:
        model: The network to follow; it is not counted as a snapshot.
        decay: In [0, 1); 0.999 remembers about the last 1,000 updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise UsageError(
                f"The decay of the moving average is {decay}; it must be at least 0 and below 1.",
                fix="0.999 is usual",
            )
        self.decay = decay
        self._names = frozenset(self._followed(model))

    def _share_of_newest(self) -> float:
        return (1.0 - self.decay) / (1.0 - self.decay**self.n)

    def _followed(self, model: nn.Module) -> dict[str, Tensor]:
        state = model.state_dict(keep_vars=True)  # without what is fixed, e.g. the sinc filters
        return {name: value for name, value in state.items() if value.is_floating_point()}


@torch.no_grad()
def update_batch_norm(model: nn.Module, batches: Iterable[Tensor | Sequence[Tensor]]) -> None:
    """Estimate the running statistics of batch normalisation anew, for the weights as they are.

    Each becomes the mean over the batches of the batch's own statistics, as in
    `torch.optim.swa_utils.update_bn`; that function would also move the statistics of frozen parts
    and set every submodule to the mode of the whole. Here frozen normalisations (all of their
    parameters, see `transfer.freeze`) stay as they are, and modes and momenta come back even when
    a batch fails. The forward passes are those of training, with dropout: they draw from the
    random number generator.

    Args:
        model: The network; its parameters do not change. `bn1` of the residual blocks, which has no
            effect on the output, is estimated too.
        batches: Waves (B, N) or sequences that begin with them; moved to the model's device.

    Raises:
        UsageError: there is no batch; the statistics are then left as they were.
    """
    frozen = set(frozen_norms(model))
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module not in frozen
    ]
    if not norms:
        return
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    n_batches = 0
    try:
        model.train()
        for norm in frozen:
            norm.eval()
        for batch in batches:
            if not n_batches:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # the cumulative mean
            model((batch if isinstance(batch, Tensor) else batch[0]).to(device))
            n_batches += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    if not n_batches:
        raise UsageError("There is no batch to estimate the normalisation statistics from.")
