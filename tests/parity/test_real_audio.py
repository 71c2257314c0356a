"""Real ASVspoof 2021 clips: the bits that were recorded come out, whichever decoder they need."""

from __future__ import annotations

import csv
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.audio import N_SAMPLES, SAMPLE_RATE_HZ, read_audio

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[tuple[Path, dict[str, str]]]:
    folder = shared / "data" / "asvspoof2021_LA_clips"
    with (folder / "clips.tsv").open(newline="") as table:
        return [(folder / row["file"], row) for row in csv.DictReader(table, delimiter="\t")]


def test_all_clips_give_the_recorded_pcm(clips: list[tuple[Path, dict[str, str]]]) -> None:
    assert len(clips) == 30
    for path, row in clips:
        audio = read_audio(path)
        pcm = np.round(audio.wave * 32768)
        np.testing.assert_array_equal(pcm / 32768, audio.wave)  # exactly x / 32768
        assert hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest() == row["pcm_s16_sha256"]
        assert len(audio.wave) == int(row["samples"])
        assert audio.source_rate_hz == SAMPLE_RATE_HZ


def test_the_report_can_name_the_clips_that_needed_the_second_decoder(
    clips: list[tuple[Path, dict[str, str]]],
) -> None:
    audios = [(read_audio(path), row["soundfile"]) for path, row in clips]
    assert [audio.decoder == "av" for audio, _ in audios] == [says == "fails" for _, says in audios]
    assert sum(audio.note is not None for audio, _ in audios) == 13
    assert all("flac decoder" in (audio.note or "flac decoder") for audio, _ in audios)


def test_a_window_needs_only_the_start(clips: list[tuple[Path, dict[str, str]]]) -> None:
    for path, _ in clips:
        window = read_audio(path, max_samples=N_SAMPLES).wave
        np.testing.assert_array_equal(window, read_audio(path).wave[:N_SAMPLES])
