"""Several streams in one call: the same windows, fewer calls."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.streaming import StreamBatcher, StreamScorer, WindowScore, push_all
from tests.unit.streaming.conftest import FRAME, WINDOW, FakeModel
from tests.unit.streaming.test_shared_frames import wave_of

N_STREAMS = 6
WAVES = [wave_of(200 + 13 * i) * (i + 1) for i in range(N_STREAMS)]
HOPS = [1, 1, 2, 1, 3, 2]


def alone() -> list[list[WindowScore]]:
    return [
        StreamScorer(FakeModel(), hop).push(wave) for wave, hop in zip(WAVES, HOPS, strict=True)
    ]


def test_streams_pushed_together_have_the_windows_of_each_alone(model: FakeModel) -> None:
    scorers = [StreamScorer(model, hop) for hop in HOPS]
    found: list[list[WindowScore]] = [[] for _ in scorers]
    for start in range(0, 300, 25):
        pushes = [(s, w[start : start + 25]) for s, w in zip(scorers, WAVES, strict=True)]
        for i, more in enumerate(push_all(pushes, max_batch=4)):
            found[i] += more
    assert found == alone()
    sizes = Counter(size for size, _ in model.calls)
    assert max(sizes) == 4
    assert len(model.calls) < sum(len(w) // FRAME for w in WAVES) / 2


def test_nothing_is_taken_when_one_push_is_refused(model: FakeModel) -> None:
    first, second = StreamScorer(model, 1), StreamScorer(model, 1)
    with pytest.raises(ShapeError, match="NaN"):
        push_all([(first, wave_of(5)), (second, np.array([np.nan], np.float32))])
    (window,) = first.push(WAVES[0][:WINDOW])
    assert window == alone()[0][0]


def test_streams_that_cannot_be_batched_are_refused(model: FakeModel) -> None:
    scorer, other = StreamScorer(model, 1), StreamScorer(FakeModel(), 1)
    with pytest.raises(UsageError, match="twice"):
        push_all([(scorer, wave_of(1)), (scorer, wave_of(1))])
    with pytest.raises(UsageError, match="different models"):
        push_all([(scorer, wave_of(1)), (other, wave_of(1))])
    with pytest.raises(UsageError, match="at least 1"):
        StreamBatcher(model, 0)


def test_threads_share_calls_and_get_their_own_windows(model: FakeModel) -> None:
    model.gate = threading.Event()
    batcher = StreamBatcher(model, max_batch=4)

    def serve(i: int) -> list[WindowScore]:
        scorer = StreamScorer(batcher, HOPS[i])
        return [w for at in range(0, 300, 10) for w in scorer.push(WAVES[i][at : at + 10])]

    with ThreadPoolExecutor(N_STREAMS) as pool:
        waiting = [pool.submit(serve, i) for i in range(N_STREAMS)]
        while len(batcher._jobs) < N_STREAMS - 1:  # the first call runs, the others wait
            time.sleep(0.001)
        model.gate.set()
        found = [future.result(30) for future in waiting]
    assert found == alone()
    assert max(batcher.batches) == 4
    assert sum(n * calls for n, calls in batcher.batches.items()) == sum(
        size for size, _ in model.calls
    )


def test_an_error_of_the_model_reaches_every_stream_of_the_call(model: FakeModel) -> None:
    model.gate = threading.Event()
    batcher = StreamBatcher(model)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(StreamScorer(batcher, 1).push, WAVES[0]) for _ in range(3)]
        while len(batcher._jobs) < 2:
            time.sleep(0.001)
        model.error = RuntimeError("the runtime broke")
        model.gate.set()
        for future in waiting:
            with pytest.raises(RuntimeError, match="the runtime broke"):
                future.result(30)
    model.error = None
    assert StreamScorer(batcher, 1).push(WAVES[0]) == alone()[0]
