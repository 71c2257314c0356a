"""Real weights and speech as a stream: the C++ program gives the windows of Python's stream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soxr

from aasist_deploy.audio import read_audio
from aasist_deploy.calibration import p_spoof
from aasist_deploy.contract import read_contract, write_contract
from aasist_deploy.streaming import StreamScorer, WindowScore, open_stream_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# The same calls to the same version of ONNX Runtime; measured 0 over hops of 1 to 29 frames.
SCORE_ATOL = 1e-4
CALIBRATION = {"scale": 1.5, "offset": -0.25}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stream_file(
    exported_stream: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Published AASIST as a file for streams, with a calibration."""
    path = tmp_path_factory.mktemp("cpp-stream") / "aasist.stream.onnx"
    contract, file = read_contract(exported_stream(), stream=True)
    write_contract(replace(contract, calibration=CALIBRATION), file, path)
    return path


@pytest.fixture(scope="module")
def samples(shared: Path) -> NDArray[np.int16]:
    """Clips one after another, 8 s, as 16-bit samples."""
    folder = shared / "data" / "LA_mini" / "ASVspoof2019_LA_eval" / "flac"
    waves = [read_audio(path).wave for path in sorted(folder.glob("*.flac"))[:4]]
    return np.round(32_768 * np.concatenate(waves)[:128_000]).astype(np.int16)


def python_windows(model: Path, samples: NDArray[np.int16], hop_frames: int) -> list[WindowScore]:
    with open_stream_model(model, "onnx", threads=1) as opened:
        stream = StreamScorer(opened, hop_frames=hop_frames)
        return stream.push((samples / np.float32(32_768)).astype(np.float32)) + stream.finish()


def cpp_rows(aasist_score: Any, model: Path, stdin: bytes, *options: str) -> list[dict[str, Any]]:
    always = ("--threads", "1", "--stream", "--format", "jsonl")
    done = aasist_score(*always, *options, model, "-", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("hop_frames", [1, 7, 29])
def test_windows_of_a_stream_are_pythons(
    hop_frames: int, stream_file: Path, samples: NDArray[np.int16], aasist_score: Any
) -> None:
    expected = python_windows(stream_file, samples, hop_frames)
    stdin = samples.astype("<i2").tobytes()
    rows = cpp_rows(aasist_score, stream_file, stdin, "--hop-frames", str(hop_frames))
    assert [(r["start_s"], r["end_s"]) for r in rows] == [(w.start_s, w.end_s) for w in expected]
    assert len(rows) == (len(samples) - 64_600) // (2_187 * hop_frames) + 1
    scores = np.array([row["score"] for row in rows])
    np.testing.assert_allclose(scores, [w.score for w in expected], rtol=0, atol=SCORE_ATOL)
    llr = CALIBRATION["scale"] * scores + CALIBRATION["offset"]
    np.testing.assert_allclose([row["llr"] for row in rows], llr, rtol=1e-12)
    np.testing.assert_allclose([row["p_spoof"] for row in rows], p_spoof(llr), rtol=1e-12)


def test_a_short_stream_is_tiled_as_pythons(
    stream_file: Path, samples: NDArray[np.int16], aasist_score: Any
) -> None:
    (expected,) = python_windows(stream_file, samples[:30_000], 1)
    (row,) = cpp_rows(aasist_score, stream_file, samples[:30_000].astype("<i2").tobytes())
    assert (row["start_s"], row["end_s"]) == (0, 30_000 / 16_000)
    assert row["score"] == pytest.approx(expected.score, abs=SCORE_ATOL)


def test_another_rate_and_type_give_the_windows_of_the_converted_signal(
    stream_file: Path, samples: NDArray[np.int16], aasist_score: Any
) -> None:
    faster = soxr.resample((samples / np.float32(32_768)).astype(np.float32), 16_000, 48_000)
    back = soxr.resample(faster, 48_000, 16_000)
    with open_stream_model(stream_file, "onnx", threads=1) as opened:
        stream = StreamScorer(opened, hop_frames=7)
        expected = [window.score for window in stream.push(back)]
    both = np.stack([faster, faster], axis=1).astype("<f4").tobytes()
    as_is = ("--pcm", "f32le", "--rate", "48000", "--channels", "2")
    rows = cpp_rows(aasist_score, stream_file, both, *as_is)
    assert len(rows) == len(expected) == 5
    # One call of soxr against blocks of it, and two versions of soxr.
    np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=0, atol=SCORE_ATOL)
