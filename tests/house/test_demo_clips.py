"""The clips in examples/demo_clips are what their manifest and README say."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "demo_clips"
CLIPS = sorted(path.name for path in FOLDER.glob("*.flac"))
MAX_BYTES = 2_000_000
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def manifest() -> list[dict[str, str]]:
    with (FOLDER / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_manifest_and_folder_name_the_same_clips() -> None:
    assert sorted(row["path"] for row in manifest()) == CLIPS
    assert list(manifest()[0]) == ["path", "label", "attack", "speaker"]


def test_both_classes_are_there_and_only_spoof_has_an_attack() -> None:
    labels = [row["label"] for row in manifest()]
    assert set(labels) == {"bonafide", "spoof"}
    assert min(labels.count("bonafide"), labels.count("spoof")) >= 8
    for row in manifest():
        assert (row["attack"] == "-") == (row["label"] == "bonafide")
        assert row["speaker"]


def test_clips_are_small_together() -> None:
    assert sum((FOLDER / name).stat().st_size for name in CLIPS) < MAX_BYTES


@pytest.mark.parametrize("name", CLIPS)
def test_clip_is_flac_of_16_khz_mono_16_bit_and_holds_sound(name: str) -> None:
    info = soundfile.info(FOLDER / name)
    assert (info.format, info.subtype) == ("FLAC", "PCM_16")
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert 2 <= info.duration <= 6.1
    wave, _ = soundfile.read(FOLDER / name, dtype="float32")
    assert np.sqrt(np.mean(np.square(wave))) > 0.01


@pytest.mark.parametrize("name", CLIPS)
def test_readme_says_where_a_clip_comes_from_and_its_length_and_level(name: str) -> None:
    row = re.search(rf"^\| `{re.escape(name)}` \| (\S+) \| (\S+) \| (.+?) \|", README, re.MULTILINE)
    assert row, f"{name} has no row in README.md"
    wave, rate = soundfile.read(FOLDER / name)
    assert f"{len(wave) / rate:.2f}" == row[1]
    assert f"{20 * np.log10(np.sqrt(np.mean(np.square(wave)))):.1f}" == row[2]
    assert row[3]


def test_readme_warns_that_this_is_no_benchmark() -> None:
    assert "not a benchmark" in README


@pytest.mark.parametrize(
    "package",
    ["pocketsphinx-testdata", "festvox-ru", "libflite1", "festvox-kallpc16k", "festvox-kdlpc16k",
     "festvox-us-slt-hts"],
)  # fmt: skip
def test_notices_of_every_source_are_kept(package: str) -> None:
    notices = (FOLDER / "LICENCES.txt").read_text(encoding="utf-8")
    assert f"== {package}:" in notices
    assert package in README
