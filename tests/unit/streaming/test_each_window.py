from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.streaming.each_window import EachWindowScorer, window_length

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

WINDOW = 800


@pytest.fixture(scope="module")
def wave() -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    return (random.standard_normal(10_000) / 8 + np.linspace(-0.5, 0.5, 10_000)).astype(np.float32)


def alone(engine: Any, wave: NDArray[np.float32], hop: int) -> list[float]:
    """The score of each window, computed by itself."""
    starts = range(0, len(wave) - WINDOW + 1, hop)
    return [float(engine.score(wave[None, s : s + WINDOW])[0]) for s in starts]


@pytest.mark.parametrize("hop", [1, 7, 399, 800, 801, 2_000, 20_000])
@pytest.mark.parametrize("push", [1, 13, 800, 9_999])
def test_each_window_has_the_score_that_it_has_alone(
    fake_engine: Any, wave: NDArray[np.float32], hop: int, push: int
) -> None:
    if hop == 1:
        wave = wave[:1_200]
    engine = fake_engine()
    scorer = EachWindowScorer(engine, hop)
    scores = []
    for start in range(0, len(wave), push):
        scores += scorer.push(wave[start : start + push])
    assert scorer.finish() == []
    assert [s.score for s in scores] == alone(engine, wave, hop)
    assert [s.index for s in scores] == list(range(len(scores)))
    assert [s.start_s for s in scores] == [i * hop / 16_000 for i in range(len(scores))]
    assert all(s.end_s == (i * hop + WINDOW) / 16_000 for i, s in enumerate(scores))


def test_a_window_is_there_with_its_last_sample(
    fake_engine: Any, wave: NDArray[np.float32]
) -> None:
    scorer = EachWindowScorer(fake_engine(), 100)
    assert scorer.push(wave[:799]) == []
    assert len(scorer.push(wave[799:800])) == 1
    assert len(scorer.push(wave[800:899])) == 0
    assert len(scorer.push(wave[899:1_100])) == 3


def test_windows_of_one_push_are_scored_in_batches(
    fake_engine: Any, wave: NDArray[np.float32]
) -> None:
    engine = fake_engine()
    EachWindowScorer(engine, 800, batch=5).push(wave)
    assert engine.batches == [5, 5, 2]


def test_memory_is_that_of_a_window_and_a_hop(fake_engine: Any, wave: NDArray[np.float32]) -> None:
    for hop in (100, 3_000):
        scorer = EachWindowScorer(fake_engine(), hop)
        for _ in range(50):
            scorer.push(wave[:1_000])
            assert len(scorer._held) <= max(WINDOW, hop) + 1_000


def test_a_short_stream_is_tiled_as_files_are(fake_engine: Any, wave: NDArray[np.float32]) -> None:
    engine = fake_engine()
    scorer = EachWindowScorer(engine, 100)
    scorer.push(wave[:300])
    (window,) = scorer.finish()
    assert window.score == float(engine.score(fit_length(wave[:300], WINDOW)[None])[0])
    assert (window.start_s, window.end_s) == (0.0, 300 / 16_000)
    assert scorer.finish() == []
    with pytest.raises(ShapeError, match="has ended"):
        scorer.push(wave)


def test_a_stream_without_samples_has_no_window(fake_engine: Any) -> None:
    scorer = EachWindowScorer(fake_engine(), 100)
    assert scorer.push(np.empty(0, np.float32)) == []
    assert scorer.finish() == []


def test_hop_batch_and_samples_are_checked(fake_engine: Any, wave: NDArray[np.float32]) -> None:
    with pytest.raises(UsageError, match="hop is 0 samples"):
        EachWindowScorer(fake_engine(), 0)
    with pytest.raises(UsageError, match="batch is 0"):
        EachWindowScorer(fake_engine(), 1, batch=0)
    with pytest.raises(ShapeError, match="float64"):
        EachWindowScorer(fake_engine(), 1).push(wave.astype(np.float64))
    with pytest.raises(ShapeError, match="NaN"):
        EachWindowScorer(fake_engine(), 1).push(np.full(WINDOW, np.nan, np.float32))


def test_window_of_a_variable_length_model(fake_engine: Any) -> None:
    def contract(**fields: Any) -> Any:
        return fake_engine(n_samples=None, min_samples=500, **fields).contract

    assert window_length(contract()) == 64_600
    assert window_length(contract(max_samples=2_000)) == 2_000
    assert window_length(contract(), 700) == 700
    assert window_length(fake_engine().contract, 800) == 800
    for fields, wanted, takes in (
        ({}, 499, "500 samples or more"),
        ({"max_samples": 2_000}, 2_001, "500 to 2000 samples"),
        (None, 801, "takes 800 samples"),
    ):
        made = fake_engine().contract if fields is None else contract(**fields)
        with pytest.raises(UsageError, match=takes):
            window_length(made, wanted)


def test_a_network_gives_each_window_its_score(
    small_onnx: Callable[..., Path], noise: Callable[..., NDArray[np.float32]]
) -> None:
    from aasist_deploy.engines import open_engine

    wave = noise(1, 40_000)[0]
    with open_engine(small_onnx(), "onnx", threads=1) as engine:
        scorer = EachWindowScorer(engine, 5_000, batch=1)
        scores = [s.score for s in scorer.push(wave)]
        starts = range(0, 40_000 - 16_000 + 1, 5_000)
        assert scores == [float(engine.score(wave[None, s : s + 16_000])[0]) for s in starts]
