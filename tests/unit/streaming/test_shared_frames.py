"""Bookkeeping of streams: which windows, when, and what is held meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.streaming import StreamScorer, WindowScore
from aasist_deploy.streaming.shared_frames import MAX_FRAMES_PER_CALL
from tests.unit.streaming.conftest import CONTRACT, FRAME, WINDOW, FakeModel, score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

RTOL = 1e-6  # scores are float32


def wave_of(n_samples: int) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = np.sin(np.arange(n_samples) ** 1.3).astype(np.float32)
    return wave


def in_chunks(
    scorer: StreamScorer, wave: NDArray[np.float32], sizes: list[int]
) -> list[WindowScore]:
    found, start, turn = [], 0, 0
    while start < len(wave):
        size = sizes[turn % len(sizes)]
        found += scorer.push(wave[start : start + size])
        start, turn = start + size, turn + 1
    return found


@given(
    st.integers(WINDOW, 300),
    st.integers(1, 7),
    st.lists(st.integers(1, 120), min_size=1, max_size=5),
)
def test_windows_are_those_of_the_hop_and_each_has_its_own_score(
    n_samples: int, hop: int, sizes: list[int]
) -> None:
    wave = wave_of(n_samples)
    scorer = StreamScorer(FakeModel(), hop)
    found = in_chunks(scorer, wave, sizes)
    assert scorer.finish() == []
    starts = range(0, n_samples - WINDOW + 1, hop * FRAME)
    assert [(w.index, w.start_s, w.end_s) for w in found] == [
        (i, s / 100, (s + WINDOW) / 100) for i, s in enumerate(starts)
    ]
    wanted = [score_of(wave[s : s + WINDOW]) for s in starts]
    np.testing.assert_allclose([w.score for w in found], wanted, rtol=RTOL, atol=RTOL)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.integers(1, 5))
def test_scores_are_the_same_to_the_last_bit_however_samples_arrive(
    sizes: list[int], hop: int
) -> None:
    wave = wave_of(260)
    at_once, in_parts = FakeModel(), FakeModel()
    whole = StreamScorer(at_once, hop).push(wave)
    assert in_chunks(StreamScorer(in_parts, hop), wave, sizes) == whole
    assert at_once.calls == in_parts.calls


def test_a_score_is_there_with_the_last_sample_of_its_window(model: FakeModel) -> None:
    scorer = StreamScorer(model, 2)
    wave = wave_of(WINDOW + 2 * FRAME)
    assert scorer.push(wave[: WINDOW - 1]) == []
    (first,) = scorer.push(wave[WINDOW - 1 : WINDOW])
    assert first.end_s == WINDOW / 100
    assert scorer.push(wave[WINDOW:-1]) == []
    (second,) = scorer.push(wave[-1:])
    assert (second.start_s, second.index) == (2 * FRAME / 100, 1)


@pytest.mark.parametrize("n_samples", [1, FRAME, WINDOW - 1])
@pytest.mark.parametrize("hop", [1, 9])
def test_a_stream_shorter_than_a_window_is_tiled_as_files_are(n_samples: int, hop: int) -> None:
    wave = wave_of(n_samples)
    scorer = StreamScorer(FakeModel(), hop)
    assert in_chunks(scorer, wave, [7]) == []
    (window,) = scorer.finish()
    assert (window.index, window.start_s, window.end_s) == (0, 0.0, n_samples / 100)
    assert window.score == pytest.approx(score_of(fit_length(wave, WINDOW)), rel=RTOL, abs=RTOL)
    assert scorer.finish() == []


def test_a_stream_without_samples_has_no_windows(model: FakeModel) -> None:
    scorer = StreamScorer(model, 1)
    assert scorer.push(np.empty(0, np.float32)) == []
    assert scorer.finish() == []


def test_a_call_has_few_frames_so_that_a_score_waits_for_few(model: FakeModel) -> None:
    StreamScorer(model, 11).push(wave_of(WINDOW + 11 * FRAME))
    assert max(frames for _, frames in model.calls) == MAX_FRAMES_PER_CALL
    assert sum(frames for _, frames in model.calls) == (3 + WINDOW) // FRAME + 11


def test_a_call_has_as_many_frames_as_the_caller_will_wait_for(model: FakeModel) -> None:
    StreamScorer(model, 11, 9).push(wave_of(WINDOW + 22 * FRAME))
    assert [frames for _, frames in model.calls][-4:] == [9, 2, 9, 2]
    with pytest.raises(UsageError, match="A call has 0 frames"):
        StreamScorer(model, 1, 0)


def test_a_call_has_no_more_frames_than_the_model_takes(model: FakeModel) -> None:
    StreamScorer(model, 30, 1_000).push(wave_of(WINDOW + 30 * FRAME))
    assert max(frames for _, frames in model.calls) == model.layout.max_frames


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 400))
def test_a_scorer_prepares_the_model_for_every_call_that_it_asks_for(
    hop: int, frames_per_call: int, n_samples: int
) -> None:
    model = FakeModel()
    scorer = StreamScorer(model, hop, frames_per_call)
    assert model.calls == []
    scorer.push(wave_of(n_samples))
    scorer.finish()
    asked = {frames for _, frames in model.calls}
    assert asked <= set(model.prepared)
    assert len(model.prepared) <= 3
    if n_samples > WINDOW + hop * FRAME:  # not more than it asks for, either
        assert asked == set(model.prepared)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 60))
def test_memory_does_not_grow_with_the_stream(hop: int, chunk: int) -> None:
    scorer = StreamScorer(FakeModel(), hop)
    held = []
    for start in range(0, 20 * WINDOW, chunk):
        scorer.push(wave_of(20 * WINDOW)[start : start + chunk])
        held.append(scorer.queue.n_held)
    limit = CONTRACT.stream.state_size if CONTRACT.stream else 0
    assert max(held) <= limit + 3 + WINDOW + MAX_FRAMES_PER_CALL * FRAME + chunk
    assert max(held[len(held) // 2 :]) <= limit + MAX_FRAMES_PER_CALL * FRAME + chunk


def test_the_caller_may_use_its_buffer_again(model: FakeModel) -> None:
    wave, buffer = wave_of(WINDOW), np.empty(5, np.float32)
    scorer = StreamScorer(model, 1)
    found = []
    for start in range(0, WINDOW, 5):
        part = wave[start : start + 5]
        buffer[: len(part)] = part
        found += scorer.push(buffer[: len(part)])
    assert found[0].score == pytest.approx(score_of(wave), rel=RTOL)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((1, 5), np.float32), r"shape \(n,\)"),
        (np.zeros(5), "float64"),
        (np.array([0, np.nan, np.inf], np.float32), "2 that are NaN"),
    ],
)
def test_samples_that_are_none_are_refused_and_the_stream_goes_on(
    samples: NDArray[np.float32], reason: str, model: FakeModel
) -> None:
    scorer, wave = StreamScorer(model, 1), wave_of(WINDOW)
    scorer.push(wave[:20])
    with pytest.raises(ShapeError, match=reason):
        scorer.push(samples)
    (window,) = scorer.push(wave[20:])
    assert window.score == pytest.approx(score_of(wave), rel=RTOL)


def test_nothing_can_be_pushed_after_the_end(model: FakeModel) -> None:
    scorer = StreamScorer(model, 1)
    scorer.push(wave_of(WINDOW))
    scorer.finish()
    with pytest.raises(ShapeError, match="after finish"):
        scorer.push(wave_of(1))


def test_a_hop_below_one_frame_is_refused(model: FakeModel) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        StreamScorer(model, 0)
