"""Windows for training and dev: crop and tile rules, labels, and where randomness comes from."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.errors import AudioError, EnvironmentLacks
from aasist_deploy.trainer import data as module
from aasist_deploy.trainer.cache import NoCache, unpacked
from aasist_deploy.trainer.data import DevSet, TrainingSet, crop, label_of, limited
from aasist_deploy.trainer.recipe import Augmentation, Data, Recipe, Training
from aasist_deploy.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.trials import Dataset

N = 1_000
LENGTHS = [N, N - 1, N + 1, 3 * N, 1, 350, 2 * N]


@pytest.fixture
def dataset(clips: Callable[..., Dataset]) -> Dataset:
    return clips(LENGTHS)


def recipe_of(*, seed: int = 1, data: dict[str, Any] | None = None, **augmentation: Any) -> Recipe:
    return Recipe(
        data=Data(**(data or {})),
        training=Training(seed=seed),
        augmentation=Augmentation(**augmentation),
    )


@given(n_clip=st.integers(1, 3 * N), n=st.just(N), seed=st.integers(0, 1000))
def test_a_crop_never_fails_and_lies_within_the_clip(n_clip: int, n: int, seed: int) -> None:
    clip = np.arange(n_clip, dtype=np.float32)
    part = crop(clip, n, np.random.default_rng(seed))
    assert len(part) == min(n, n_clip)
    assert part[-1] - part[0] == len(part) - 1
    assert np.array_equal(fit_length(unpacked(part), n), np.resize(part, n))


def test_crops_start_everywhere_the_first_and_last_sample_included() -> None:
    clip = np.arange(N + 3, dtype=np.float32)
    random = np.random.default_rng(0)
    starts = Counter(int(crop(clip, N, random)[0]) for _ in range(400))
    assert set(starts) == {0, 1, 2, 3}
    assert min(starts.values()) > 60  # of 100 expected; four standard deviations are 35


def test_without_a_draw_the_crop_is_the_start() -> None:
    assert crop(np.arange(30, dtype=np.float32), 10, None)[0] == 0


def test_windows_of_clips_of_all_lengths(dataset: Dataset) -> None:
    windows = TrainingSet(dataset.trials, recipe_of(), N)
    assert len(windows) == len(LENGTHS)
    for index, (trial, length) in enumerate(zip(dataset.trials, LENGTHS, strict=True)):
        wave, label, place = windows[0, index]
        whole = read_audio(trial.path).wave
        assert wave.dtype == np.float32
        assert wave.shape == (N,)
        assert place == index
        assert label == (1 if index % 3 == 0 else 0) == label_of(trial)
        if length <= N:
            assert np.array_equal(wave, np.resize(whole, N))
        else:
            starts = [s for s in range(length - N + 1) if np.array_equal(wave, whole[s : s + N])]
            assert len(starts) == 1


def test_an_item_depends_on_seed_epoch_and_utterance_alone(dataset: Dataset) -> None:
    options: dict[str, Any] = {"gain_db": (-6, 6), "rawboost": "5", "conditions": ("white-10dB",)}
    windows = TrainingSet(dataset.trials, recipe_of(**options), N)
    first = {index: windows[3, index].wave for index in range(len(windows))}
    for _ in range(3):
        windows[0, 3]  # what was made before has no part in it
    backwards = TrainingSet(dataset.trials[::-1], recipe_of(**options), N)
    elsewhere = pickle.loads(pickle.dumps(windows))
    for index, wave in first.items():
        assert np.array_equal(wave, windows[3, index].wave)
        assert np.array_equal(wave, elsewhere[3, index].wave)
        assert np.array_equal(wave, backwards[3, len(LENGTHS) - 1 - index].wave)
    assert not np.array_equal(first[3], windows[4, 3].wave)
    other_seed = TrainingSet(dataset.trials, recipe_of(seed=2, **options), N)
    assert not np.array_equal(first[3], other_seed[3, 3].wave)


def test_the_crop_of_the_recipe_comes_before_that_of_the_model(dataset: Dataset) -> None:
    windows = TrainingSet(dataset.trials, recipe_of(data={"crop_samples": 123}), N)
    assert windows[0, 0].wave.shape == (123,)


def test_a_crop_from_the_start_is_the_same_in_every_epoch(dataset: Dataset) -> None:
    windows = TrainingSet(dataset.trials, recipe_of(data={"crop": "start"}), N)
    whole = read_audio(dataset.trials[3].path).wave
    assert all(np.array_equal(windows[epoch, 3].wave, whole[:N]) for epoch in range(3))


def test_a_short_clip_is_augmented_before_it_is_tiled(dataset: Dataset) -> None:
    windows = TrainingSet(dataset.trials, recipe_of(rawboost="2"), N)
    wave = windows[0, 5].wave
    assert np.array_equal(wave, np.resize(wave[:350], N))
    assert not np.array_equal(wave[:350], read_audio(dataset.trials[5].path).wave)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("wav", "FLOAT")])
def test_a_cache_changes_no_sample(
    cache: str, suffix: str, subtype: str, clips: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = clips(LENGTHS, suffix, subtype)
    where = {"cache": cache} | ({"cache_dir": str(tmp_path / "kept")} if cache == "disk" else {})
    plain = TrainingSet(dataset.trials, recipe_of(rawboost="3"), N)
    kept = TrainingSet(dataset.trials, recipe_of(data=where, rawboost="3"), N)
    for epoch in range(2):
        for index in range(len(LENGTHS)):
            assert np.array_equal(plain[epoch, index].wave, kept[epoch, index].wave)


def test_dev_windows_are_those_of_scoring_in_every_epoch(dataset: Dataset) -> None:
    dev = DevSet(dataset.trials, recipe_of(rawboost="5", gain_db=(3, 6)), N)
    for index, trial in enumerate(dataset.trials):
        wave, label, place = dev[index]
        assert np.array_equal(wave, fit_length(read_audio(trial.path).wave, N))
        assert (label, place) == (label_of(trial), index)
        assert np.array_equal(dev.item((7, index), Counter()).wave, wave)


def test_babble_is_made_of_other_bona_fide_speakers(
    clips: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = clips([2 * N] * 12)
    trials = list(dataset.trials)
    trials[3] = replace(trials[3], speaker=trials[0].speaker)
    windows = TrainingSet(
        trials, recipe_of(conditions=("babble-10dB",), conditions_probability=1), N
    )
    read: list[int] = []
    clips_of = windows._clips

    class Listening:
        def read(self, index: int) -> Any:
            read.append(index)
            return clips_of.read(index)

    monkeypatch.setattr(windows, "_clips", Listening())
    counts: Counter[str] = Counter()
    for epoch in range(10):
        windows.item((epoch, 0), counts)
    assert counts == {"windows": 10, "babble-10dB": 10}
    assert set(read) == {0, 6, 9}  # u3 is bona fide, and by the speaker of u0


def test_babble_without_other_clips_gives_way(clips: Callable[..., Dataset]) -> None:
    dataset = clips([N])
    windows = TrainingSet(
        dataset.trials,
        recipe_of(conditions=("babble-5dB", "clip-0.5"), conditions_probability=1),
        N,
    )
    counts: Counter[str] = Counter()
    for epoch in range(20):
        windows.item((epoch, 0), counts)
    assert counts["clip-0.5"] == 20
    assert counts["babble-5dB: not applicable"] > 0


def test_a_file_that_cannot_be_decoded_is_named_with_a_fix(dataset: Dataset) -> None:
    path = dataset.trials[2].path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AudioError, match=r"u2\.flac") as caught:
        TrainingSet(dataset.trials, recipe_of(), N)[0, 2]
    assert caught.value.fix


def test_a_condition_that_is_not_here_is_refused_before_training(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_settings: Augmentation) -> None:
        raise EnvironmentLacks("not here")

    monkeypatch.setattr(module, "Augmenter", refuse)
    with pytest.raises(EnvironmentLacks):
        TrainingSet(dataset.trials, recipe_of(), N)


def test_the_processes_of_a_machine_share_the_memory_of_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds: list[int] = []

    def cache(_n: int, max_bytes: int, _context: Any) -> NoCache:
        bounds.append(max_bytes)
        return NoCache()

    monkeypatch.setattr(module, "MemoryCache", cache)
    for processes in (1, 4):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        module._cache_of(Data(cache="memory"), 1)
    assert bounds[0] // 4 == bounds[1]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 70))
def test_a_limit_keeps_both_classes_and_the_order(truth: list[bool], limit: int) -> None:
    trials = [
        Trial(
            utterance=str(i),
            path=Path(str(i)),
            label="bonafide" if bonafide else "spoof",
            attack="-",
            speaker=None,
        )
        for i, bonafide in enumerate(truth)
    ]
    kept = limited(trials, limit)
    numbers = [int(trial.utterance) for trial in kept]
    assert numbers == sorted(set(numbers))
    assert len(kept) == min(limit, len(trials))
    n_bonafide = sum(trial.label == "bonafide" for trial in kept)
    least = min(limit // 2, sum(truth), len(truth) - sum(truth))
    assert min(n_bonafide, len(kept) - n_bonafide) >= least


def test_no_limit_keeps_all(dataset: Dataset) -> None:
    assert limited(dataset.trials, None) == dataset.trials
