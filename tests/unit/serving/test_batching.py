"""Windows of many threads in common batches."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.errors import UsageError
from aasist_deploy.serving.batching import AbandonedError, DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


class Owner:
    abandoned = False


class Calls:
    def __init__(self) -> None:
        self.done: list[int] = []

    def batch_done(self, n_windows: int, seconds: float) -> None:
        assert seconds >= 0
        self.done.append(n_windows)


@pytest.fixture
def batcher() -> Iterator[Callable[..., DynamicBatcher]]:
    made: list[DynamicBatcher] = []

    def make(engine: Any, max_batch: int = 8, wait_s: float = 0.01, watcher: Any = None) -> Any:
        made.append(DynamicBatcher(engine, max_batch=max_batch, max_wait_s=wait_s, watcher=watcher))
        return made[-1]

    yield make
    for one in made:
        one.close()


def level(value: float, n_waves: int = 1, n_samples: int = 800) -> NDArray[np.float32]:
    return np.full((n_waves, n_samples), value, np.float32)


def test_every_thread_gets_the_scores_of_its_own_windows_and_batches_are_shared(
    batcher: Any, fake_engine: Any
) -> None:
    engine, calls = fake_engine(), Calls()
    shared = batcher(engine, watcher=calls)
    start = threading.Barrier(32)

    def work(index: int) -> None:
        start.wait(20)
        for turn in range(10):
            waves = level(0.001 * (index + 1), 1 + turn % 3)
            scores = shared.score(waves, Owner())
            assert np.allclose(scores, 0.01 * (index + 1), rtol=1e-5)
            assert len(scores) == len(waves)

    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(work, index) for index in range(32)]:
            done.result()
    assert max(engine.batches) <= 8
    assert max(engine.batches) > 3  # more than one thread's
    assert sum(engine.batches) == 32 * sum(1 + turn % 3 for turn in range(10))
    assert calls.done == engine.batches


def test_windows_of_different_lengths_are_never_in_one_batch(
    batcher: Any, slow_engine: Any
) -> None:
    engine = slow_engine(n_samples=None, min_samples=100)
    shared = batcher(engine, wait_s=0.0)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(shared.score, level(0.0, n_samples=100), Owner())  # holds the engine
        while not shared.call_s:
            time.sleep(0.001)
        futures = [
            pool.submit(shared.score, level(0.1 * i, n_samples=100 * (1 + i % 2)), Owner())
            for i in range(1, 8)
        ]
        while shared.n_waiting < 7:
            time.sleep(0.001)
        engine.gate.set()
        assert np.allclose(first.result(), 0)
        for i, future in enumerate(futures, 1):
            assert np.allclose(future.result(), i, rtol=1e-5)
    assert sorted(engine.batches) == [1, 3, 4]


def test_what_one_request_breaks_costs_the_others_nothing(batcher: Any, slow_engine: Any) -> None:
    class Picky(slow_engine):  # type: ignore[misc]
        def _run(self, waves: Any) -> Any:
            if (waves > 0.9).any():
                raise RuntimeError("cannot compute this")
            return super()._run(waves)

    engine = Picky()
    shared = batcher(engine)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(shared.score, level(0.5), Owner())  # holds the engine
        while not shared.call_s:
            time.sleep(0.001)
        bad = pool.submit(shared.score, level(1.0), Owner())
        good = [pool.submit(shared.score, level(0.1), Owner()) for _ in range(4)]
        while shared.n_waiting < 5:
            time.sleep(0.001)
        engine.gate.set()
        assert np.allclose(first.result(), 5)
        for one in good:
            assert np.allclose(one.result(), 1)
        with pytest.raises(RuntimeError, match="cannot compute this"):
            bad.result()
    assert shared.is_alive


def test_windows_that_nobody_waits_for_are_not_computed(batcher: Any, slow_engine: Any) -> None:
    engine = slow_engine()
    shared = batcher(engine, wait_s=0.0)
    gone = Owner()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.score, level(0.5), Owner())
        while not shared.call_s:
            time.sleep(0.001)
        second = pool.submit(shared.score, level(0.6, 7), gone)
        while shared.n_waiting < 7:
            time.sleep(0.001)
        gone.abandoned = True
        with pytest.raises(AbandonedError):
            second.result()
        engine.gate.set()
        assert np.allclose(first.result(), 5)
        assert np.allclose(shared.score(level(0.1), Owner()), 1)
    assert engine.batches == [1, 1]


def test_closing_refuses_what_waits(batcher: Any, slow_engine: Any) -> None:
    engine = slow_engine()
    shared = batcher(engine, max_batch=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.score, level(0.5), Owner())
        while not shared.call_s:
            time.sleep(0.001)
        second = pool.submit(shared.score, level(0.6), Owner())
        while not shared.n_waiting:
            time.sleep(0.001)
        closing = pool.submit(shared.close)
        while not shared._closed:
            time.sleep(0.001)
        engine.gate.set()
        closing.result()
        assert np.allclose(first.result(), 5)
        with pytest.raises(AbandonedError):
            second.result()
    with pytest.raises(AbandonedError):
        shared.score(level(0.5), Owner())
    assert not shared.is_alive


@pytest.mark.parametrize(
    ("max_batch", "wait_s"), [(0, 0.1), (8, -1.0), (8, 2.0), (8, float("nan"))]
)
def test_batches_that_cannot_be_are_refused(
    max_batch: int, wait_s: float, fake_engine: Any
) -> None:
    with pytest.raises(UsageError, match="largest batch"):
        DynamicBatcher(fake_engine(), max_batch=max_batch, max_wait_s=wait_s)
