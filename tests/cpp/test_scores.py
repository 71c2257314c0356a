"""Real weights and real speech: the C++ program gives Python's scores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr

from aasist_deploy import open_engine
from aasist_deploy.audio import read_audio
from aasist_deploy.pipeline import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# One version of ONNX Runtime, but two libraries of its wheel: Python's module and the one for C.
# Measured on 412 clips: 7.2e-6; as much at one thread and batch 1.
SCORE_ATOL = 1e-4
# Against the published code in eager torch; measured on 412 clips: 4.8e-6.
GOLDEN_ATOL = 2e-4
# soxr of Debian (0.1.3) against that of the Python package (0.1.3 and 14 commits).
RESAMPLED_ATOL = 1e-4

ALL_CLIPS = os.environ.get("AASIST_ALL_CLIPS") == "1"
pytestmark = pytest.mark.timeout(900)


def python_scores(model: Path, files: Sequence[Path]) -> list[float]:
    with open_engine(model, "onnx", threads=1, max_batch=1) as engine:
        waves = [window_of(read_audio(file).wave, engine.contract) for file in files]
        return [float(engine.score(wave[None])[0]) for wave in waves]


def cpp_scores(rows_of: Any, model: Path, files: Sequence[Path]) -> list[float]:
    rows = rows_of(model, files)
    assert [row["path"] for row in rows] == [str(file) for file in files]
    return [float(row["score"]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("topk", ["topk", "rank"])
def test_clips_have_the_reference_scores(
    topk: str, shared: Path, exported: Callable[..., Path], rows_of: Any
) -> None:
    golden = np.load(shared / "golden" / "AASIST.LA_mini.npz")
    chosen = slice(None, None, None if ALL_CLIPS else 70)
    splits = {"D": "dev", "E": "eval", "T": "train"}
    clips = shared / "data" / "LA_mini"
    files = [
        clips / f"ASVspoof2019_LA_{splits[str(name)[3]]}" / "flac" / f"{name}.flac"
        for name in golden["utt"][chosen]
    ]
    scores = cpp_scores(rows_of, exported("AASIST", topk), files)
    np.testing.assert_allclose(scores, golden["logits"][chosen, 1], rtol=0, atol=GOLDEN_ATOL)
    some = slice(None, None, 1 if ALL_CLIPS else 3)
    expected = python_scores(exported("AASIST", topk), files[some])
    np.testing.assert_allclose(scores[some], expected, rtol=0, atol=SCORE_ATOL)


@pytest.fixture(scope="module")
def odd_files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real clip as files of other rates, channels, types and lengths."""
    source = sorted((shared / "data" / "LA_mini" / "ASVspoof2019_LA_dev" / "flac").glob("*.flac"))
    wave = np.concatenate([read_audio(path).wave for path in source[:3]])
    folder = tmp_path_factory.mktemp("odd")
    files: dict[str, Path] = {}

    def put(name: str, samples: Any, rate_hz: int, subtype: str = "PCM_16") -> None:
        files[name] = folder / name
        soundfile.write(files[name], samples, rate_hz, subtype=subtype)

    put("8khz.wav", soxr.resample(wave, 16_000, 8_000), 8_000)
    stereo = soxr.resample(wave, 16_000, 44_100)
    put("44khz-stereo.flac", np.stack([stereo, 0.5 * stereo], axis=1), 44_100)
    put("48khz-float.wav", soxr.resample(wave, 16_000, 48_000), 48_000, "FLOAT")
    put("24bit.wav", wave, 16_000, "PCM_24")
    put("short.wav", wave[:9_000], 16_000)
    put("one-less.wav", wave[:64_599], 16_000)
    put("exact.wav", wave[:64_600], 16_000)
    put("long.ogg", wave, 16_000, "VORBIS")
    put("long.wav", np.tile(wave, 4), 16_000)
    return files


def test_any_rate_channel_count_and_length_gives_pythons_score(
    odd_files: dict[str, Path], exported: Callable[..., Path], rows_of: Any
) -> None:
    files = list(odd_files.values())
    model = exported("AASIST-L")
    np.testing.assert_allclose(
        cpp_scores(rows_of, model, files),
        python_scores(model, files),
        rtol=0,
        atol=RESAMPLED_ATOL,
    )


def test_a_model_of_variable_length_takes_the_whole_clip(
    odd_files: dict[str, Path], exported: Callable[..., Path], rows_of: Any
) -> None:
    files = [odd_files[name] for name in ("short.wav", "8khz.wav", "long.ogg")]
    model = exported("AASIST-L", variable=True)
    scores = cpp_scores(rows_of, model, files)
    np.testing.assert_allclose(scores, python_scores(model, files), rtol=0, atol=RESAMPLED_ATOL)
    cut = cpp_scores(rows_of, exported("AASIST-L"), files)
    assert not np.allclose(scores, cut, rtol=0, atol=1e-3)


def test_flac_that_libsndfile_refuses_has_pythons_score(
    shared: Path, exported: Callable[..., Path], rows_of: Any
) -> None:
    folder = shared / "data" / "asvspoof2021_LA_clips"
    refused = [path for path in sorted(folder.rglob("*.flac")) if not _soundfile_reads(path)]
    if not refused:
        pytest.skip(f"needs FLAC files in {folder} that libsndfile refuses")
    model = exported("AASIST-L")
    scores = cpp_scores(rows_of, model, refused[:4])
    np.testing.assert_allclose(scores, python_scores(model, refused[:4]), rtol=0, atol=SCORE_ATOL)


def _soundfile_reads(path: Path) -> bool:
    try:
        soundfile.read(path)
    except soundfile.LibsndfileError:
        return False
    return True
