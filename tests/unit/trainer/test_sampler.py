"""The order of an epoch: from the seed and the epoch, shared by processes, resumable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aasist_deploy.errors import UsageError
from aasist_deploy.trainer.sampler import EpochSampler, batches_in_epoch, epoch_order

SEEDS = st.integers(0, 2**40)


@given(n=st.integers(1, 300), seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_trial_once_and_in_the_same_order_again(
    n: int, seed: int, epoch: int
) -> None:
    order = epoch_order(n, seed, epoch)
    assert sorted(order) == list(range(n))
    assert order.tolist() == epoch_order(n, seed, epoch).tolist()


@given(n=st.integers(30, 300), seed=SEEDS, epoch=st.integers(0, 1000))
def test_epochs_and_seeds_have_orders_of_their_own(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch).tolist()
    assert order != epoch_order(n, seed, epoch + 1).tolist()
    assert order != epoch_order(n, seed + 1, epoch).tolist()
    assert order != list(range(n))


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    # Written down once: a run is resumed by another version of Python or NumPy too.
    assert epoch_order(8, 1234, 0).tolist() == [7, 4, 5, 1, 0, 3, 6, 2]


@given(
    n=st.integers(1, 200),
    share=st.integers(1, 9),
    world=st.integers(1, 5),
    drop_last=st.booleans(),
    epoch=st.integers(0, 50),
)
def test_processes_together_see_the_batches_of_one_process(
    n: int, share: int, world: int, drop_last: bool, epoch: int
) -> None:
    size = share * world
    assume(n >= size if drop_last else n % size % world == 0)
    whole = list(EpochSampler(n, 7, epoch, size, drop_last))
    shares = [
        list(EpochSampler(n, 7, epoch, size, drop_last, rank, world)) for rank in range(world)
    ]
    assert all(len({len(part) for part in step}) == 1 for step in zip(*shares, strict=True))
    joined = [[i for part in step for i in part] for step in zip(*shares, strict=True)]
    assert joined == whole
    flat = [i for batch in whole for i in batch]
    assert len(set(flat)) == len(flat)
    assert len(flat) == (n // size * size if drop_last else n)


@given(n=st.integers(1, 200), size=st.integers(1, 20), data=st.data())
def test_resuming_at_a_batch_gives_the_rest(n: int, size: int, data: st.DataObject) -> None:
    whole = list(EpochSampler(n, 3, 5, size, False))
    start = data.draw(st.integers(0, len(whole)))
    rest = EpochSampler(n, 3, 5, size, False, start_batch=start)
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole) - start


def test_trials_that_drop_last_leaves_out_differ_from_epoch_to_epoch() -> None:
    left_out = [
        set(range(10)) - {i for batch in EpochSampler(10, 0, epoch, 4) for i in batch}
        for epoch in range(20)
    ]
    assert all(len(each) == 2 for each in left_out)
    assert len(set.union(*left_out)) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 10, "batch_size": 4, "world": 3}, "cannot be shared evenly by 3"),
        ({"n": 3, "batch_size": 4}, "fewer than one batch of 4"),
        ({"n": 5, "batch_size": 4, "world": 2, "drop_last": False}, "holds 1, which 2 processes"),
        ({"n": 0, "batch_size": 4}, "0 trials"),
        ({"n": 8, "batch_size": 4, "world": 2, "rank": 2}, "rank is 2"),
        ({"n": 8, "batch_size": 4, "start_batch": 3}, "start_batch is 3"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EpochSampler(**{"seed": 0, "epoch": 0, **options})


def test_the_number_of_batches_is_that_of_the_sampler() -> None:
    assert batches_in_epoch(10, 4, drop_last=True) == len(EpochSampler(10, 0, 0, 4)) == 2
    assert batches_in_epoch(10, 4, drop_last=False) == len(EpochSampler(10, 0, 0, 4, False)) == 3
