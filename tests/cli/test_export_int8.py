"""`export --precision int8`: what is refused before any work, and a file that is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from aasist_deploy.cli import app

pytest.importorskip("onnxscript", reason="needs the extra export")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def clips(tmp_path: Path, noise: Callable[..., Any]) -> Path:
    """Two folders of clips, and labels of both."""
    lines = []
    for folder, seed in (("train", 1), ("dev", 2)):
        (tmp_path / folder).mkdir()
        for number, wave in enumerate(noise(3, seed=seed)):
            sf.write(tmp_path / folder / f"{folder}{number}.wav", wave, 16_000)
            lines.append(f"S {folder}{number} - - {'spoof' if number else 'bonafide'}")
    (tmp_path / "key.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def export(source: Any, folder: Path, *options: str) -> Any:
    given = ["export", str(source), "--precision", "int8", "-o", str(folder / "out.onnx")]
    return CliRunner().invoke(app, [*given, *options])


def gate(clips: Path) -> list[str]:
    return ["--gate-audio", str(clips / "dev"), "--gate-labels", str(clips / "key.txt")]


def test_int8_without_calibration_says_what_to_give(small_onnx: Any, clips: Path) -> None:
    result = export(small_onnx(), clips, *gate(clips))
    assert result.exit_code == 2
    assert "--calibrate FOLDER" in result.stderr


def test_calibrating_on_the_clips_of_the_gate_is_refused(small_onnx: Any, clips: Path) -> None:
    result = export(small_onnx(), clips, "--calibrate", str(clips / "dev"), *gate(clips))
    assert result.exit_code == 2
    assert "3 of 3 clips to calibrate on are in --gate-audio too" in result.stderr
    assert not (clips / "out.onnx").exists()


def test_calibrating_on_a_clip_for_evaluation_is_refused(small_onnx: Any, clips: Path) -> None:
    (clips / "eval.txt").write_text("S train1 - A07 spoof\nS other - - bonafide\n")
    options = ["--calibrate", str(clips / "train"), "--evaluation-list", str(clips / "eval.txt")]
    result = export(small_onnx(), clips, *options, *gate(clips))
    assert result.exit_code == 2
    assert "1 of 3 clips to calibrate on are in" in result.stderr
    assert "train1.wav" in result.stderr


def test_a_folder_of_one_class_is_refused(small_onnx: Any, clips: Path) -> None:
    (clips / "train" / "train0.wav").unlink()
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips))
    assert result.exit_code == 2
    assert "All 2 clips to calibrate on are spoofed" in result.stderr


def test_an_empty_folder_and_a_file_that_is_no_audio_are_refused(
    small_onnx: Any, clips: Path
) -> None:
    (clips / "none").mkdir()
    result = export(small_onnx(), clips, "--calibrate", str(clips / "none"), *gate(clips))
    assert result.exit_code == 2
    assert "none" in result.stderr
    (clips / "train" / "train1.wav").write_bytes(b"no audio")
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips))
    assert result.exit_code != 0
    assert "train1.wav" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_of_int8_and_of_fixed_scales_stay_with_them(small_onnx: Any, clips: Path) -> None:
    calibrate = ["--calibrate", str(clips / "train")]
    result = export(small_onnx(), clips, *calibrate, "--headroom", "2", *gate(clips))
    assert result.exit_code == 2
    assert "--headroom belongs to fixed scales" in result.stderr
    fp32 = ["export", str(small_onnx()), "-o", str(clips / "a.onnx"), *calibrate]
    result = CliRunner().invoke(app, fp32)
    assert result.exit_code == 2
    assert "--calibrate belongs to int8, and fp32 was asked for" in result.stderr


def test_an_int8_file_is_written_and_its_contract_names_its_layers(
    small_onnx: Any, clips: Path
) -> None:
    loose = ["--max-difference", "9", "--max-flips", "9", "--min-rank-correlation", "-1"]
    loose += ["--max-eer-change", "1", "--no-search", "--json"]
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips), *loose)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["contract"]["precision"] == "int8"
    assert said["contract"]["gate"]["calibrated_on"] == "3 clips: train"
    assert np.isfinite(said["contract"]["gate"]["max_difference"])
