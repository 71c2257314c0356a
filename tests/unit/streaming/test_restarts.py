from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.streaming.each_window import EachWindowScorer
from aasist_deploy.streaming.restarts import RestartingScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasist_deploy.streaming import WindowScore


@pytest.fixture(scope="module")
def wave() -> NDArray[np.float32]:
    return (np.random.default_rng(1).standard_normal(20_000) / 8).astype(np.float32)


class Noting(EachWindowScorer):
    """Notes what it is given."""

    made: list[Noting]
    given: list[int]

    def push(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        self.given.append(len(samples))
        return super().push(samples)


def restarting(engine: Any, hop: int, **options: Any) -> tuple[RestartingScorer, list[Noting]]:
    made: list[Noting] = []

    def new_scorer() -> Noting:
        scorer = Noting(engine, hop)
        scorer.given = []
        made.append(scorer)
        return scorer

    return RestartingScorer(new_scorer, **options), made


def all_of(scorer: Any, wave: NDArray[np.float32], push: int) -> list[WindowScore]:
    found: list[WindowScore] = []
    for start in range(0, len(wave), push):
        found += scorer.push(wave[start : start + push])
    found += scorer.finish()
    return found


@pytest.mark.parametrize("hop", [150, 800, 1_100])
@pytest.mark.parametrize("push", [1, 333, 20_000])
@pytest.mark.parametrize("n_samples", [700, 800, 5_000, 20_000])
def test_windows_are_those_of_one_scorer(
    fake_engine: Any, wave: NDArray[np.float32], hop: int, push: int, n_samples: int
) -> None:
    wave = wave[:n_samples]
    expected = all_of(EachWindowScorer(fake_engine(), hop), wave, 100)
    scorer, _ = restarting(fake_engine(), hop, every=4, chunk_samples=500)
    assert all_of(scorer, wave, push) == expected


@pytest.mark.parametrize("skip", [4, 8, 20, 1 << 62])
@pytest.mark.parametrize("hop", [150, 1_100])
def test_skipped_windows_are_not_computed_and_the_others_are_the_same(
    fake_engine: Any, wave: NDArray[np.float32], hop: int, skip: int
) -> None:
    whole, made_whole = restarting(fake_engine(), hop, every=4, chunk_samples=500)
    expected = [s for s in all_of(whole, wave, 777) if s.index >= skip]
    rest, made_rest = restarting(fake_engine(), hop, every=4, chunk_samples=500, skip=skip)
    assert all_of(rest, wave, 1_234) == expected
    # What each scorer is given, call by call, is what decides its last bits.
    given_whole = [scorer.given for scorer in made_whole]
    given_rest = [scorer.given for scorer in made_rest]
    assert given_rest == (given_whole[skip // 4 :] or [[]])


def test_memory_is_bounded(fake_engine: Any, wave: NDArray[np.float32]) -> None:
    scorer, _ = restarting(fake_engine(), 150, every=64, chunk_samples=500, skip=6_400)
    for _ in range(100):
        scorer.push(wave[:1_000])
        assert len(scorer._held) <= 800 + 500 + 1_000
