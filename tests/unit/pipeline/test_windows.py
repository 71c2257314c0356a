"""Windows of a file: where they start, in pieces of any size; the score that is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import UsageError
from aasist_deploy.pipeline import WindowRule, score_files, window_rule
from aasist_deploy.pipeline.windows import Cutter

WINDOW = 80


@pytest.fixture(scope="module")
def contract(fake_engine: Any) -> Any:
    return fake_engine(n_samples=WINDOW, min_samples=WINDOW).contract


def starts_of(
    contract: Any, n_samples: int, hop: int, n_windows: int | None, sizes: list[int]
) -> list[int]:
    rule = WindowRule(n_windows=n_windows, hop_s=hop / 16_000)
    cutter = Cutter(contract, rule)
    wave = np.arange(n_samples, dtype=np.float32)
    starts: list[int] = []
    place = 0
    while place < n_samples:
        size = sizes[len(starts) % len(sizes)]
        for window in cutter.push(wave[place : place + size]):
            assert np.array_equal(window, wave[int(window[0]) :][:WINDOW])
            starts.append(int(window[0]))
        place += size
    tail = list(cutter.finish())
    if n_samples < WINDOW:
        assert len(tail) == 1
        assert np.array_equal(tail[0], np.resize(wave, WINDOW))
    else:
        assert not tail
    return starts


@given(
    n_samples=st.integers(1, 700),
    hop=st.integers(1, 250),
    n_windows=st.none() | st.integers(2, 5),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
)
def test_windows_start_at_each_hop_whatever_the_pieces(
    n_samples: int, hop: int, n_windows: int | None, sizes: list[int], contract: Any
) -> None:
    expected = list(range(0, n_samples - WINDOW + 1, hop))[:n_windows]
    assert starts_of(contract, n_samples, hop, n_windows, sizes) == expected


def test_no_window_spans_a_gap(contract: Any) -> None:
    cutter = Cutter(contract, WindowRule(n_windows=None, hop_s=40 / 16_000))
    first = [w[0] for w in cutter.push(np.arange(130, dtype=np.float32))]
    cutter.gap()
    second = [w[0] for w in cutter.push(np.arange(500, 590, dtype=np.float32))]
    assert (first, second) == ([0, 40], [500])


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("mean", 2.5), ("max", 7.0), ("min", -2.0), ("top-1", 7.0), ("top-2", 5.5), ("bottom-2", -0.5),
     ("top-9", 2.5)],
)  # fmt: skip
def test_score_of_a_file_from_those_of_its_windows(aggregate: str, expected: float) -> None:
    assert (
        WindowRule(n_windows=None, aggregate=aggregate).combine([4.0, -2.0, 7.0, 1.0]) == expected
    )


@pytest.mark.parametrize("aggregate", ["median", "top-0", "top", "top-x", "TOP-2", "mean "])
def test_unknown_aggregates_are_refused(aggregate: str) -> None:
    with pytest.raises(UsageError, match="There is no aggregate"):
        WindowRule(aggregate=aggregate)


def test_rule_in_words_says_windows_hop_and_aggregate(contract: Any) -> None:
    rule = WindowRule(n_windows=3, aggregate="bottom-2")
    assert rule.name(contract) == "first 3 windows of 80 hop 40 bottom-2"
    said = window_rule(contract, rule)
    assert (
        "the first 3 windows of 80 samples, one every 40, and of their scores the bottom-2" in said
    )


def test_windows_of_a_model_of_any_length_are_refused(fake_engine: Any) -> None:
    engine = fake_engine(n_samples=None, min_samples=500)
    with pytest.raises(UsageError, match="scores them whole"):
        list(score_files(engine, [], rule=WindowRule(n_windows=None)))


def test_long_file_is_scored_window_by_window_in_the_batches_of_the_engine(
    tmp_path: Any, fake_engine: Any
) -> None:
    engine = fake_engine()
    level = np.repeat(np.arange(10) / 10, 800).astype(np.float32)
    paths = [tmp_path / f"{i}.wav" for i in range(3)]
    for path in paths:
        soundfile.write(path, level, 16_000, subtype="FLOAT")
    rule = WindowRule(n_windows=None, hop_s=0.05, aggregate="top-2")
    rows = list(score_files(engine, paths, batch=4, rule=rule))
    assert engine.batches == [4, 4, 2] * 3  # a file with a batch of windows ends its group
    for row in rows:
        assert row.window_scores == pytest.approx(list(range(10)), abs=1e-4)
        assert row.score == pytest.approx(8.5, abs=1e-4)
        assert (row.seconds, row.cut, row.tiled) == (0.5, False, False)
    (few,) = score_files(engine, paths[:1], rule=WindowRule(n_windows=2, hop_s=0.05))
    assert few.window_scores == pytest.approx([0, 1], abs=1e-4)
    assert few.seconds == 0.5  # as its header says; no more than two windows were decoded
