"""`scan` and `stream` with a file for streams: as each window alone, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnx", reason="needs the extra export")

from tests.tiny_models import write_tiny_model, write_tiny_stream_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ATOL = 1e-5  # of ten times a mean of 800 samples below 1, in float32; measured 1e-6
ONNX = ("--backend", "onnx", "--threads", "1")
SHARED = "frames that windows share are computed once"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_stream_model(tmp_path / "tiny.stream.onnx")


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    def write(seconds: float) -> Path:
        path = tmp_path / f"{seconds:g}.wav"
        wave = np.random.default_rng(0).uniform(-0.9, 0.9, round(seconds * 16_000))
        soundfile.write(path, wave, 16_000, subtype="FLOAT")
        return path

    return write


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("frames", [1, 3, 24])
def test_rows_are_those_of_each_window_alone(
    cli: Any, model: Path, recording: Callable[..., Path], tmp_path: Path, frames: int
) -> None:
    path = recording(4.01)
    shared = cli("scan", model, path, "--hop-frames", str(frames), *ONNX)
    assert shared.code == 0, shared.err
    assert SHARED in " ".join(shared.err.split())
    assert ("would be cheaper at this hop" in " ".join(shared.err.split())) == (frames >= 24)
    whole = write_tiny_model(tmp_path / "tiny.onnx")
    alone = cli("scan", whole, path, "--hop-s", str(frames * 0.0125), *ONNX)
    assert "each window by a pass of its own" in " ".join(alone.err.split())
    found, wanted = rows_of(shared.out), rows_of(alone.out)
    assert len(found) == (64_160 - 800) // (200 * frames) + 1
    assert [row | {"score": 0} for row in found] == [row | {"score": 0} for row in wanted]
    scores = [row["score"] for row in wanted]
    np.testing.assert_allclose([row["score"] for row in found], scores, rtol=0, atol=ATOL)
    assert np.ptp(scores) > 0.1
    live = cli("stream", model, path, "--hop-frames", str(frames), *ONNX)
    np.testing.assert_allclose([row["score"] for row in rows_of(live.out)], scores, atol=ATOL)


def test_a_hop_in_seconds_and_the_window_may_be_said_where_they_fit(
    cli: Any, model: Path, recording: Callable[..., Path]
) -> None:
    path = recording(1.0)
    by_frames = cli("scan", model, path, "--hop-frames", "2", *ONNX)
    in_seconds = cli("scan", model, path, "--hop-s", "0.025", "--window-s", "0.05", *ONNX)
    assert in_seconds.code == 0
    assert in_seconds.out == by_frames.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--hop-s", "0.03"), "--hop-s 0.03 is 2.400 frames"),
        (("--window-s", "8"), "--window-s is 8; this file for streams has windows of 0.05 s"),
        (("--provider", "cuda"), "--provider cuda is not for streams"),
    ],
)
def test_what_shared_windows_cannot_be_is_refused(
    cli: Any, model: Path, recording: Callable[..., Path], arguments: tuple[str], reason: str
) -> None:
    for verb in ("scan", "stream"):
        result = cli(verb, model, recording(1.0), *arguments, *ONNX)
        assert result.code == 2
        assert reason in " ".join(result.err.split())
        assert "Fix: " in result.err
        assert result.out == ""


def test_a_scan_that_was_killed_goes_on_to_the_same_bytes(
    cli: Any, model: Path, recording: Callable[..., Path], tmp_path: Path
) -> None:
    out, whole = tmp_path / "o.jsonl", tmp_path / "whole.jsonl"
    arguments = ["scan", *map(os.fspath, (model, recording(50))), "--hop-frames", "1", *ONNX]
    process = subprocess.Popen(
        [sys.executable, "-m", "aasist_deploy", *arguments, "-o", os.fspath(out)],
        stderr=subprocess.PIPE,
    )
    while not (out.exists() and out.stat().st_size > 350_000):  # past a place to go on from
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    killed = out.read_bytes()
    assert cli(*arguments, "-o", out, "--resume").code == 0
    assert cli(*arguments, "-o", whole).code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert 350_000 < len(killed) < whole.stat().st_size
