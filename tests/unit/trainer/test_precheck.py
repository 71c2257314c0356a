"""What the check before the first epoch finds, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from aasist_deploy.errors import TrialsError
from aasist_deploy.trainer.precheck import precheck, shared_clips, survey
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.trials import Dataset

WINDOW = 8_000


@pytest.fixture
def good(clips: Callable[..., Dataset]) -> Dataset:
    return clips([8_000, 7_999, 8_001, 16_000, 8_000, 4_000])


@pytest.mark.parametrize("decode", [False, True])
def test_a_good_split_is_counted(good: Dataset, decode: bool) -> None:
    report = precheck(good, n_samples=WINDOW, decode=decode)
    assert (report.n_bonafide, report.n_spoof) == (2, 4)
    assert report.attacks == {"A01": 2, "A02": 2}
    assert report.n_short == 2
    assert report.seconds == pytest.approx(52_000 / 16_000)
    assert (report.missing, report.unreadable, report.n_unlisted) == ((), (), 0)
    assert report.decoded == decode


def test_the_report_is_plain_json_and_readable(good: Dataset) -> None:
    report = survey(good, n_samples=WINDOW)
    assert json.loads(json.dumps(report.to_dict()))["n_short"] == 2
    lines = report.lines()
    assert "6 trials, 2 bona fide, 4 spoof" in lines[0]
    assert lines[1] == "attacks: A01 2, A02 2"
    assert "2 files shorter than the window of 8000 samples (0.50 s): they are tiled" in lines


def test_missing_files_are_refused_with_what_lies_beside_them(good: Dataset) -> None:
    path = good.trials[3].path
    path.rename(path.with_name("renamed.flac"))
    good.trials[5].path.unlink()
    report = survey(good, n_samples=WINDOW)
    assert report.missing == (str(path), str(good.trials[5].path))
    assert report.n_unlisted == 1
    with pytest.raises(TrialsError, match=r"2 of 6 files .*u3\.flac; .* not list: 1"):
        report.require_usable()
    assert f"missing: {path}" in report.lines()


def test_files_that_the_protocol_does_not_list_are_counted_and_allowed(good: Dataset) -> None:
    for name in ("extra.flac", "extra.wav", "notes.txt"):
        (good.trials[0].path.parent / name).touch()
    report = precheck(good, n_samples=WINDOW)
    assert report.n_unlisted == 2
    assert any(line.startswith("2 files in the folders") for line in report.lines())
    part = replace(good, trials=good.trials[:2])
    assert precheck(part, n_samples=WINDOW).n_unlisted == 2  # its manifest lists the others
    part = replace(part, name="in-the-wild")
    assert precheck(part, n_samples=WINDOW).n_unlisted == 6
    assert precheck(part, n_samples=WINDOW, whole=False).n_unlisted == 0


def test_what_is_no_audio_is_refused_by_its_header(good: Dataset) -> None:
    good.trials[2].path.write_bytes(b"<html>404</html>" * 100)
    report = survey(good, n_samples=WINDOW)
    assert [bad.path for bad in report.unreadable] == [str(good.trials[2].path)]
    with pytest.raises(TrialsError, match=r"1 of 6 files .* cannot be read; first: .*u2\.flac"):
        report.require_usable()


def test_an_empty_file_and_a_folder_are_unreadable_not_missing(good: Dataset) -> None:
    good.trials[1].path.write_bytes(b"")
    good.trials[2].path.unlink()
    good.trials[2].path.mkdir()
    report = survey(good, n_samples=WINDOW)
    assert len(report.unreadable) == 2
    assert report.missing == ()


def test_only_decoding_finds_a_truncated_file(good: Dataset) -> None:
    path = good.trials[3].path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert survey(good, n_samples=WINDOW).unreadable == ()
    found = survey(good, n_samples=WINDOW, decode=True).unreadable
    assert [bad.path for bad in found] == [str(path)]


def test_files_whose_header_libsndfile_does_not_read_are_asked_of_the_other_decoder(
    good: Dataset, shared: Path
) -> None:
    clip = next((shared / "data" / "asvspoof2021_LA_clips").rglob("*.flac"))
    trials = tuple(replace(trial, path=clip) for trial in good.trials)
    report = survey(replace(good, trials=trials), n_samples=WINDOW)
    assert report.unreadable == ()
    assert report.seconds > 6 * 0.3


def test_clips_of_another_rate_are_measured_in_seconds(
    clips: Callable[..., Dataset],
) -> None:
    dataset = clips([8_000] * 3, suffix="wav")
    soundfile.write(dataset.trials[1].path, np.zeros(4_001, np.float32), 8_000)
    report = survey(dataset, n_samples=WINDOW)
    assert report.n_resampled == 1
    assert report.n_short == 0


@pytest.mark.parametrize(("label", "counts"), [("bonafide", "2 bona fide and 0"), ("spoof", "0")])
def test_one_class_alone_is_refused(good: Dataset, label: str, counts: str) -> None:
    trials = tuple(trial for trial in good.trials if trial.label == label)
    with pytest.raises(TrialsError, match=f"has {counts}.* both classes") as caught:
        precheck(replace(good, trials=trials), n_samples=WINDOW)
    assert caught.value.fix


def test_an_empty_split_is_refused(good: Dataset) -> None:
    with pytest.raises(TrialsError, match="has no trial") as caught:
        precheck(replace(good, trials=()), n_samples=WINDOW)
    assert caught.value.fix


def test_long_lists_of_bad_files_are_cut_for_people_only(clips: Callable[..., Dataset]) -> None:
    dataset = clips([800] * 12)
    for trial in dataset.trials:
        trial.path.unlink()
    report = survey(dataset, n_samples=WINDOW)
    assert len(report.to_dict()["missing"]) == 12
    assert report.lines()[-1] == "and 7 more"


def test_clips_in_both_splits_are_found(good: Dataset) -> None:
    shared = shared_clips(good.trials[:4], good.trials[2:])
    assert shared == tuple(trial.path for trial in good.trials[2:4])


def test_files_of_other_splits_of_a_manifest_are_listed(good: Dataset) -> None:
    folder = good.trials[0].path.parent
    lines = (folder / "manifest.csv").read_text().splitlines()
    splits = ["split", *("train" if number < 3 else "dev" for number in range(6))]
    (folder / "manifest.csv").write_text(
        "".join(f"{line},{split}\n" for line, split in zip(lines, splits, strict=True))
    )
    train = load_dataset("manifest", folder, "train")
    assert len(train.trials) == 3
    assert survey(train, n_samples=WINDOW).n_unlisted == 0
    (folder / "extra.flac").touch()
    assert survey(train, n_samples=WINDOW).n_unlisted == 1
