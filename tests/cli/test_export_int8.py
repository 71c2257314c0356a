"""`export --precision int8`: what is refused before any work, and a file that is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile as sf

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


@pytest.fixture
def export(cli: Callable[..., Any]) -> Callable[..., Any]:
    """(source, folder, options) -> what exporting it in int8 does."""

    def run(source: Any, folder: Path, *options: str) -> Any:
        return cli("export", source, "--precision", "int8", "-o", folder / "out.onnx", *options)

    return run


def gate(clips: Path) -> list[str]:
    return ["--gate-audio", str(clips / "dev"), "--gate-labels", str(clips / "key.txt")]


def test_int8_without_calibration_says_what_to_give(
    export: Any, small_onnx: Any, clips: Path
) -> None:
    result = export(small_onnx(), clips, *gate(clips))
    assert result.code == 2
    assert "--calibrate FOLDER" in result.err


def test_calibrating_on_the_clips_of_the_gate_is_refused(
    export: Any, small_onnx: Any, clips: Path
) -> None:
    result = export(small_onnx(), clips, "--calibrate", str(clips / "dev"), *gate(clips))
    assert result.code == 2
    assert "3 of 3 clips to calibrate on are in --gate-audio too" in result.err
    assert not (clips / "out.onnx").exists()


def test_calibrating_on_a_clip_for_evaluation_is_refused(
    export: Any, small_onnx: Any, clips: Path
) -> None:
    (clips / "eval.txt").write_text("S train1 - A07 spoof\nS other - - bonafide\n")
    options = ["--calibrate", str(clips / "train"), "--evaluation-list", str(clips / "eval.txt")]
    result = export(small_onnx(), clips, *options, *gate(clips))
    assert result.code == 2
    assert "1 of 3 clips to calibrate on are in" in result.err
    assert "train1.wav" in result.err


def test_a_folder_of_one_class_is_refused(export: Any, small_onnx: Any, clips: Path) -> None:
    (clips / "train" / "train0.wav").unlink()
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips))
    assert result.code == 2
    assert "All 2 clips to calibrate on are spoofed" in result.err


def test_an_empty_folder_and_a_file_that_is_no_audio_are_refused(
    export: Any, small_onnx: Any, clips: Path
) -> None:
    (clips / "none").mkdir()
    result = export(small_onnx(), clips, "--calibrate", str(clips / "none"), *gate(clips))
    assert result.code == 2
    assert "none" in result.err
    (clips / "train" / "train1.wav").write_bytes(b"no audio")
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips))
    assert result.code != 0
    assert "train1.wav" in result.err
    assert "Traceback" not in result.err


def test_options_of_int8_and_of_fixed_scales_stay_with_them(
    cli: Any, export: Any, small_onnx: Any, clips: Path
) -> None:
    calibrate = ["--calibrate", str(clips / "train")]
    result = export(small_onnx(), clips, *calibrate, "--headroom", "2", *gate(clips))
    assert result.code == 2
    assert "--headroom belongs to fixed scales" in result.err
    fp32 = ["export", str(small_onnx()), "-o", str(clips / "a.onnx"), *calibrate]
    result = cli(*fp32)
    assert result.code == 2
    assert "--calibrate belongs to int8, and fp32 was asked for" in result.err


def test_an_int8_file_is_written_and_its_contract_names_its_layers(
    export: Any, small_onnx: Any, clips: Path
) -> None:
    loose = ["--max-difference", "9", "--max-flips", "9", "--min-rank-correlation", "-1"]
    loose += ["--max-eer-change", "1", "--no-search", "--json"]
    result = export(small_onnx(), clips, "--calibrate", str(clips / "train"), *gate(clips), *loose)
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["contract"]["precision"] == "int8"
    assert said["contract"]["gate"]["calibrated_on"] == "3 clips: train"
    assert np.isfinite(said["contract"]["gate"]["max_difference"])
