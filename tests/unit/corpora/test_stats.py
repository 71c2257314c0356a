"""Statistics count what the protocol says and what the files hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.corpora import measure, split_stats, trials_by_split
from aasist_deploy.errors import TrialsError, UsageError
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from pathlib import Path


def test_a_split_in_numbers(tree: Path) -> None:
    trials = load_dataset("asvspoof2019-la", tree, "train").trials
    found = split_stats("train", trials)
    assert (found.trials, found.bonafide, found.spoof) == (2, 1, 1)
    assert found.attacks == {"A07": 1}
    assert found.speakers == 2
    assert found.hours == pytest.approx(6 / 3600)
    assert found.rates_hz == {16_000: 2}
    assert found.channels == {1: 2}
    assert found.seconds[0.0] == 1.0
    assert found.seconds[0.5] == 3.0
    assert found.seconds[1.0] == 5.0
    assert found.short == 1
    assert (found.missing, found.unreadable, found.second_decoder) == (0, 0, None)
    assert split_stats("train", trials, deep=True).second_decoder == 0
    assert json.loads(json.dumps(found.to_json()))["seconds"]["0.5"] == 3.0


def test_short_means_fewer_samples_than_a_window(tmp_path: Path) -> None:
    lines = ["path,label"]
    for n_samples, rate_hz in (
        (64_599, 16_000),
        (64_600, 16_000),
        (32_299, 8_000),
        (32_300, 8_000),
    ):
        name = f"{n_samples}.wav"
        soundfile.write(tmp_path / name, np.zeros((n_samples, 2)), rate_hz)
        lines.append(f"{name},bonafide")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    found = split_stats("all", load_dataset("manifest", tmp_path, "all").trials)
    assert found.short == 2
    assert found.rates_hz == {8_000: 2, 16_000: 2}
    assert found.channels == {2: 4}
    assert found.speakers is None
    assert found.attacks == {}


def test_missing_and_unreadable_files_are_counted_apart(tree: Path) -> None:
    folder = tree / "LA/ASVspoof2019_LA_train/flac"
    (folder / "LA_0_1.flac").unlink()
    (folder / "LA_0_2.flac").write_bytes(b"nothing that decodes")
    found = split_stats("train", load_dataset("asvspoof2019-la", tree, "train").trials)
    assert (found.missing, found.unreadable) == (1, 1)
    assert found.seconds == {}
    assert found.hours == 0.0
    assert found.short == 0


def test_a_file_that_only_the_second_decoder_takes_is_counted_when_decoded(
    shared: Path, tmp_path: Path
) -> None:
    clips = shared / "data" / "asvspoof2021_LA_clips"
    rows = [line.split("\t") for line in (clips / "clips.tsv").read_text().splitlines()]
    lines = ["path,label"]
    for path in sorted(clips.rglob("*.flac")):
        (tmp_path / path.name).symlink_to(path)
        lines.append(f"{path.name},bonafide")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    trials = load_dataset("manifest", tmp_path, "all").trials
    assert len(trials) == len(rows) - 1 == 30
    found = split_stats("all", trials, deep=True)
    assert found.unreadable == 0
    assert found.second_decoder == 13  # those of which FACTS of the corpus say so
    quick = split_stats("all", trials)
    assert quick.second_decoder is None
    assert quick.hours == pytest.approx(found.hours, rel=1e-6)


def test_splits_of_a_corpus_that_is_there_in_part(tree: Path) -> None:
    assert list(trials_by_split("asvspoof2019-la", tree)) == ["train", "dev", "eval"]
    for protocol in tree.rglob("*.dev.trl.txt"):
        protocol.unlink()
    assert list(trials_by_split("asvspoof2019-la", tree)) == ["train", "eval"]
    assert list(trials_by_split("asvspoof2019-la", tree, ["eval"])) == ["eval"]
    with pytest.raises(TrialsError, match=r"has no .*dev\.trl"):
        trials_by_split("asvspoof2019-la", tree, ["dev"])
    with pytest.raises(UsageError, match="has no split 'test'"):
        trials_by_split("asvspoof2019-la", tree, ["test"])
    with pytest.raises(TrialsError):
        trials_by_split("asvspoof2019-la", tree / "nowhere")


def test_a_manifest_is_divided_by_its_column_split(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "path,label,split\na.wav,bonafide,train\nb.wav,spoof,train\nc.wav,spoof,dev\n"
    )
    found = trials_by_split("manifest", tmp_path)
    assert {split: len(trials) for split, trials in found.items()} == {"train": 2, "dev": 1}
    assert list(trials_by_split("manifest", tmp_path, ["dev"])) == ["dev"]
    with pytest.raises(UsageError, match="The manifest has no split 'eval'"):
        trials_by_split("manifest", tmp_path, ["eval"])
    (tmp_path / "manifest.csv").write_text("path,label\na.wav,bonafide\n")
    assert list(trials_by_split("manifest", tmp_path)) == ["all"]


def test_in_the_wild_has_one_split(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text("file,speaker,label\n0.wav,A B,spoof\n1.wav,C D,bona-fide\n")
    (trials,) = trials_by_split("in-the-wild", tmp_path).values()
    found = split_stats("all", trials)
    assert (found.trials, found.speakers, found.missing) == (2, 2, 2)


def test_a_header_that_libsndfile_refuses_is_read_by_the_second_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)

    def refuse(*_: Any, **__: Any) -> None:
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr(soundfile, "info", refuse)
    found = measure(tmp_path / "a.wav", deep=False)
    assert (found.seconds, found.rate_hz, found.n_channels) == (1.0, 16_000, 1)
    assert found.error is None


def test_the_header_of_an_mp3_is_left_to_the_decoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp3"
    with path.open("wb") as file:
        soundfile.write(file, np.zeros(16_000), 16_000, format="WAV")
    monkeypatch.setattr(soundfile, "info", lambda _: pytest.fail("libsndfile was asked"))
    assert measure(path, deep=False).seconds == 1.0
