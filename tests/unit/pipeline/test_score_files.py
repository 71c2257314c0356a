from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.audio import read_audio
from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline import (
    FIRST,
    InThreads,
    LocalScorer,
    ScoredFile,
    score_files,
    window_rule,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Audio = "Callable[..., Path]"


@pytest.fixture
def audio(tmp_path: Path) -> Callable[..., Path]:
    """(name, level, n_samples, rate) -> a file that holds one value."""

    def write(name: str, level: float, n_samples: int = 800, rate: int = 16_000) -> Path:
        path = tmp_path / name
        soundfile.write(path, np.full(n_samples, level, np.float32), rate, subtype="FLOAT")
        return path

    return write


@pytest.fixture
def mixed(audio: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Good files with failures between them."""
    paths = []
    for index in range(23):
        if index % 4 == 1:
            path = tmp_path / f"{index}.wav"
            path.write_text("no audio")
            paths.append(path)
        else:
            paths.append(audio(f"{index}.wav", index / 100))
    return [*paths, tmp_path / "missing.wav"]


def expected_of(paths: list[Path]) -> list[float | None]:
    return [
        None if index % 4 == 1 or path.stem == "missing" else index / 10
        for index, path in enumerate(paths)
    ]


@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_rows_keep_the_order_of_the_input_with_failures_between(
    batch: int, mixed: list[Path], fake_engine: Any
) -> None:
    rows = list(score_files(fake_engine(), mixed, batch=batch, decode_workers=3))
    assert [row.path for row in rows] == mixed
    for row, expected in zip(rows, expected_of(mixed), strict=True):
        if expected is None:
            assert row.score is None
            assert row.error is not None
            assert str(row.path) in row.error
        else:
            assert row.score == pytest.approx(expected, abs=1e-5)  # float32 mean of 800 samples
            assert row.error is None
            assert row.seconds == 0.05


def test_engine_gets_full_batches_of_each_chunk_whatever_fails_between(
    mixed: list[Path], fake_engine: Any
) -> None:
    engine = fake_engine()
    list(score_files(engine, mixed, batch=4))
    assert engine.batches == [4, 2, 4, 2, 4, 1]  # of 8 files each, 6, 6 and 5 are good


def test_batches_are_those_of_a_whole_run_wherever_it_goes_on(
    mixed: list[Path], fake_engine: Any
) -> None:
    """Chunks are counted from the first input, not from where a run goes on."""
    whole = fake_engine()
    groups = list(LocalScorer(whole, InThreads(), 2).groups(_inputs(mixed), rule=FIRST, batch=3))
    before = 0
    for done, group in enumerate(groups):
        before += len(group)
        later = fake_engine()
        scorer = LocalScorer(later, InThreads(), 2)
        left = scorer.groups(_inputs(mixed[before:]), rule=FIRST, batch=3, before=before)
        assert list(left) == groups[done + 1 :]
        assert later.batches == whole.batches[len(whole.batches) - len(later.batches) :]


def _inputs(paths: list[Path]) -> list[AudioInput]:
    return [AudioInput(path) for path in paths]


def test_no_files_give_no_rows(fake_engine: Any) -> None:
    assert list(score_files(fake_engine(), [])) == []


def test_only_failures_never_reach_the_engine(tmp_path: Path, fake_engine: Any) -> None:
    engine = fake_engine()
    rows = list(score_files(engine, [tmp_path / f"{i}.wav" for i in range(20)], batch=2))
    assert len(rows) == 20
    assert all(row.error is not None for row in rows)
    assert engine.batches == []


def test_endless_input_is_read_only_a_little_ahead(
    audio: Callable[..., Path], fake_engine: Any
) -> None:
    path = audio("a.wav", 0.5)
    n_taken = 0

    def endless() -> Iterator[Path]:
        nonlocal n_taken
        while True:
            n_taken += 1
            yield path

    rows: Any = score_files(fake_engine(), endless(), batch=4, decode_workers=2)
    assert n_taken == 0  # nothing happens before the first row is asked for
    for index, _ in enumerate(itertools.islice(rows, 50), start=1):
        assert n_taken <= index + 3 * 4 + 2 + 1
    rows.close()


def test_stopping_early_leaves_no_threads_behind(
    audio: Callable[..., Path], fake_engine: Any
) -> None:
    import threading

    path = audio("a.wav", 0.5)
    rows: Any = score_files(fake_engine(), [path] * 100)
    next(rows)
    rows.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not [t for t in threading.enumerate() if t.name.startswith("decode")]:
            return
        time.sleep(0.01)
    pytest.fail("decoding threads are still there")


def test_row_says_what_was_done_to_the_audio(audio: Callable[..., Path], fake_engine: Any) -> None:
    paths = [
        audio("exact.wav", 0.1),
        audio("short.wav", 0.1, 300),
        audio("long.wav", 0.1, 2_000),
        audio("other-rate.wav", 0.1, 48_000, 48_000),
    ]
    exact, short, long, other = score_files(fake_engine(), paths)
    assert not any((exact.tiled, exact.cut, exact.resampled, exact.second_decoder))
    assert (short.tiled, short.cut) == (True, False)
    assert (long.tiled, long.cut) == (False, True)
    assert long.seconds == 2_000 / 16_000
    assert (other.resampled, other.cut, other.seconds) == (True, True, 1.0)


def test_short_clip_is_tiled_and_never_padded_with_zeros(tmp_path: Path, fake_engine: Any) -> None:
    path = tmp_path / "ramp.wav"
    ramp = np.linspace(0, 0.9, 300, dtype=np.float32)
    soundfile.write(path, ramp, 16_000, subtype="FLOAT")
    (row,) = score_files(fake_engine(), [path])
    tiled = np.concatenate([ramp, ramp, ramp[:200]])
    assert row.score == pytest.approx(float(10 * tiled.mean()), abs=1e-5)


def test_variable_length_model_gets_the_whole_file_one_at_a_time(
    audio: Callable[..., Path], fake_engine: Any
) -> None:
    engine = fake_engine(n_samples=None, min_samples=500, max_samples=1_500)
    lengths = []
    run = engine._run

    def watch(waves: Any) -> Any:
        lengths.append(waves.shape)
        return run(waves)

    engine._run = watch
    paths = [audio(f"{n}.wav", 0.1, n) for n in (200, 800, 1_500, 4_000)]
    rows = list(score_files(engine, paths, batch=8))
    assert lengths == [(1, 500), (1, 800), (1, 1_500), (1, 1_500)]
    assert [row.tiled for row in rows] == [True, False, False, False]
    assert [row.cut for row in rows] == [False, False, False, True]
    assert "up to 1500 samples; shorter than 500: tiled" in window_rule(engine.contract)


def test_fixed_window_rule_in_words(fake_engine: Any) -> None:
    assert window_rule(fake_engine().contract) == "the first 800 samples; shorter files are tiled"


@pytest.mark.parametrize("n_files", [1, 3, 4, 6, 11])
def test_model_of_fixed_batch_scores_any_number_of_files(
    n_files: int, audio: Callable[..., Path], fake_engine: Any
) -> None:
    engine = fake_engine(batch=(4, 4))
    paths = [audio(f"{i}.wav", i / 100) for i in range(n_files)]
    rows = list(score_files(engine, paths))
    assert [row.score for row in rows] == pytest.approx([i / 10 for i in range(n_files)], abs=1e-5)
    assert set(engine.batches) == {4}


def test_score_that_is_no_number_becomes_an_error(
    audio: Callable[..., Path], fake_engine: Any
) -> None:
    paths = [audio("a.wav", 0.1), audio("huge.wav", 3e38), audio("b.wav", 0.2)]
    a, huge, b = score_files(fake_engine(), paths)
    assert huge.score is None
    assert huge.error is not None
    assert "huge.wav: the model's score is inf" in huge.error
    assert a.score == pytest.approx(1.0, abs=1e-5)
    assert b.score == pytest.approx(2.0, abs=1e-5)


def test_broken_engine_ends_the_run_with_its_own_error(mixed: list[Path], fake_engine: Any) -> None:
    rows = score_files(fake_engine(fail_at=4), mixed, batch=2)
    done: list[ScoredFile] = []
    with pytest.raises(RuntimeError, match="the fake engine broke"):
        done.extend(rows)
    assert [row.path for row in done] == mixed[: len(done)]


def test_notes_of_a_file_are_logged(
    tmp_path: Path, fake_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, np.zeros(3_000, np.float32), 16_000)
    path.write_bytes(path.read_bytes()[:4_000])
    note = read_audio(path).note
    assert note is not None
    with caplog.at_level(logging.INFO):
        list(score_files(fake_engine(), [path]))
    assert note in caplog.text


def test_audio_that_cannot_be_brought_to_a_decoder_is_a_row_with_its_error(
    audio: Callable[..., Path], fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = audio("a.wav", 0.1)
    inside = AudioInput(Path("x.tar/b.wav"), content=good.read_bytes())

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left, raising=False)
    first, second = score_files(fake_engine(), [AudioInput(good), inside])
    assert first.error is None
    assert second.error == "x.tar/b.wav cannot be brought to a decoder (Too many open files)."
