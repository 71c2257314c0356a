from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models import build_model
from aasist_deploy.trainer.averaging import Ema, SwaAverage, update_batch_norm
from aasist_deploy.trainer.transfer import freeze

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.trainer.averaging import WeightAverage

FLOAT32_ATOL = 1e-6  # rounding of means of a dozen numbers of size 1


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))


def shake(model: nn.Module) -> dict[str, Tensor]:
    """Move every weight and statistic of a model; return copies of all of them."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn_like(value))
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_swa_is_the_plain_mean_of_the_snapshots() -> None:
    model, average = small_net(), SwaAverage()
    snapshots = []
    for _ in range(7):
        snapshots.append(shake(model))
        average.update(model)
    assert average.n == 7
    for name, value in average.averaged(model).named_parameters():
        expected = torch.stack([snapshot[name] for snapshot in snapshots]).double().mean(0)
        assert torch.allclose(value.double(), expected, atol=FLOAT32_ATOL, rtol=0)


def test_swa_of_one_snapshot_is_that_snapshot_even_when_the_model_moves_on() -> None:
    model, average = small_net(), SwaAverage()
    snapshot = shake(model)
    average.update(model)
    shake(model)
    for name, value in average.averaged(model).named_parameters():
        assert torch.equal(value, snapshot[name])


def test_ema_weighs_snapshots_by_powers_of_the_decay_that_add_up_to_one() -> None:
    model, decay, n = small_net(), 0.8, 12
    average = Ema(model, decay)
    snapshots = []
    for _ in range(n):
        snapshots.append(shake(model))
        average.update(model)
    weights = torch.tensor([decay ** (n - i) for i in range(1, n + 1)], dtype=torch.double)
    weights /= weights.sum()
    made = average.averaged(model).state_dict()
    for name, value in made.items():
        if not value.is_floating_point():
            continue
        values = torch.stack([snapshot[name] for snapshot in snapshots]).double()
        expected = torch.tensordot(weights, values, dims=1)
        assert torch.allclose(value.double(), expected, atol=FLOAT32_ATOL, rtol=0), name
    assert not torch.equal(made["1.running_mean"], model.state_dict()["1.running_mean"])


def test_ema_keeps_nothing_of_the_weights_before_its_first_update() -> None:
    model = small_net()
    shake(model)
    average = Ema(model, 0.999)
    snapshot = shake(model)
    average.update(model)
    for name, value in average.averaged(model).named_parameters():
        assert torch.equal(value, snapshot[name])


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_ema_refuses_a_decay_outside_its_range(decay: float) -> None:
    with pytest.raises(UsageError, match="at least 0 and below 1"):
        Ema(small_net(), decay)


@pytest.mark.parametrize("make", [SwaAverage, lambda: Ema(small_net(), 0.9)])
def test_average_saved_and_loaded_goes_on_bit_by_bit(
    make: Callable[[], WeightAverage], tmp_path: Any
) -> None:
    model, whole, part = small_net(), make(), make()
    for index in range(6):
        if index == 3:
            torch.save(part.state_dict(), tmp_path / "average.pt")
            part = make()
            part.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
        shake(model)
        whole.update(model)
        part.update(model)
    assert part.n == whole.n == 6
    expected = whole.averaged(model).state_dict()
    for name, value in part.averaged(model).state_dict().items():
        assert torch.equal(value, expected[name])


def test_saved_state_does_not_follow_later_updates() -> None:
    model, average = small_net(), SwaAverage()
    average.update(model)
    state = average.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    shake(model)
    average.update(model)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_averaging_changes_neither_the_model_nor_what_is_frozen() -> None:
    model, average = small_net(), SwaAverage()
    freeze(model, ["0.*"])
    before = copy.deepcopy(model.state_dict())
    average.update(model)
    made = average.averaged(model)
    shake(made)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [name for name, p in made.named_parameters() if not p.requires_grad] == [
        "0.weight",
        "0.bias",
    ]


def test_average_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no snapshot was taken"):
        SwaAverage().averaged(small_net())


@pytest.mark.parametrize("state", [{}, {"n": torch.tensor(1), "other": torch.zeros(2)}])
def test_state_of_something_else_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="no state of a weight average"):
        SwaAverage().load_state_dict(state)


def batches_of(n: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(size, 4, generator=generator) * (1 + i), torch.zeros(size)) for i in range(n)
    ]


def test_statistics_become_the_mean_over_batches_of_their_own() -> None:
    model = small_net()
    shake(model)
    norm: Any = model[1]
    norm.num_batches_tracked.fill_(40)  # of training, which must not count
    batches = batches_of(5)
    update_batch_norm(model, batches)
    with torch.no_grad():
        seen = [model[0](wave) for wave, _ in batches]
    means = torch.stack([x.mean(0) for x in seen]).mean(0)
    variances = torch.stack([x.var(0, unbiased=True) for x in seen]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=FLOAT32_ATOL)
    assert torch.allclose(norm.running_var, variances, rtol=1e-5)
    assert norm.num_batches_tracked == 5


def test_statistics_are_those_of_torch_where_nothing_is_frozen(
    small_config: dict[str, Any], noise: Callable[..., NDArray[np.float32]]
) -> None:
    torch.manual_seed(1)
    model = build_model(small_config)
    batches = [torch.from_numpy(noise(3, seed=seed)) for seed in range(3)]
    expected = copy.deepcopy(model)
    torch.manual_seed(2)
    torch.optim.swa_utils.update_bn(batches, expected)
    torch.manual_seed(2)  # dropout draws in both
    update_batch_norm(model, batches)
    others = expected.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, others[name]), name
    unused: Any = model.get_submodule("encoder.3.0.bn1")
    assert unused.num_batches_tracked == 3


def test_modes_and_momenta_come_back_even_when_a_batch_fails() -> None:
    model = small_net().train()
    model[2].eval()
    norm: Any = model[1]
    norm.momentum = 0.05
    update_batch_norm(model, batches_of(2))
    assert [model.training, *(m.training for m in model)] == [True, True, True, False, True]
    assert norm.momentum == 0.05
    with pytest.raises(RuntimeError):
        update_batch_norm(model, [torch.zeros(8, 4), torch.zeros(8, 5)])
    assert [model.training, *(m.training for m in model)] == [True, True, True, False, True]
    assert norm.momentum == 0.05


def test_frozen_statistics_stay_and_are_what_the_rest_sees() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.BatchNorm1d(3))
    first: Any = model[0]
    last: Any = model[2]
    first.running_mean.fill_(5.0)
    freeze(model, ["0.*"])
    batches = batches_of(3)
    update_batch_norm(model, batches)
    assert torch.equal(first.running_mean, torch.full((4,), 5.0))
    assert first.num_batches_tracked == 0
    with torch.no_grad():
        seen = [model[1](first.eval()(wave)) for wave, _ in batches]
    expected = torch.stack([x.mean(0) for x in seen]).mean(0)
    assert torch.allclose(last.running_mean, expected, atol=FLOAT32_ATOL)


def test_no_batch_is_refused_and_leaves_the_statistics() -> None:
    model = small_net()
    before = shake(model)
    with pytest.raises(UsageError, match="no batch"):
        update_batch_norm(model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
