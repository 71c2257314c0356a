"""The whole job on the small network: what is refused, what is chosen, what the contract says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.export.int8 import (
    CalibrationAudio,
    Int8Options,
    Int8Result,
    quantize_file,
    refuse_overlap,
)
from aasist_deploy.export.precision import GateAudio, GateLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOSE = GateLimits(difference=9.0, flips=6, rank_correlation=-1.0)


@pytest.fixture(scope="module")
def audio(noise: Callable[..., Any]) -> tuple[CalibrationAudio, GateAudio]:
    calibration = CalibrationAudio(
        waves=noise(3, seed=2),
        names=("c0", "c1", "c2"),
        bona_fide=np.array([True, False, True]),
        source="3 clips: calibration",
    )
    gate = GateAudio(waves=noise(4), source="4 clips: gate", names=("g0", "g1", "g2", "g3"))
    return calibration, gate


def write(small_onnx: Any, folder: Path, audio: Any, **options: Any) -> Any:
    given = Int8Options(**{"limits": LOOSE, "threads": 1, **options})
    return quantize_file(small_onnx(), folder / "small.int8.onnx", audio[0], given, audio[1])


@pytest.fixture(scope="module")
def all_layers(small_onnx: Any, tmp_path_factory: pytest.TempPathFactory, audio: Any) -> Int8Result:
    """With limits that every layer holds."""
    result: Int8Result = write(small_onnx, tmp_path_factory.mktemp("int8"), audio)
    return result


def test_the_contract_says_what_is_int8_and_why_the_rest_is_not(all_layers: Int8Result) -> None:
    result = all_layers
    contract, _ = read_contract(result.path)
    assert contract == result.contract
    assert contract.precision == "int8"
    gate = contract.gate
    assert gate is not None
    assert gate["calibrated_on"] == "3 clips: calibration"
    assert gate["on"] == "4 clips: gate"
    assert gate["scales"] == "clip"
    assert gate["holds"]
    assert set(gate["fp32_because"]) == set(contract.fp32_nodes)
    assert gate["fp32_because"]["front_end/Conv"] == "samples"
    assert all(one["int8"] for one in gate["layers"])
    assert len(result.choice.layers) == len(gate["layers"])


def test_layers_stay_in_fp32_until_the_gate_holds_and_the_choice_is_the_same_again(
    small_onnx: Any, tmp_path: Path, audio: Any, all_layers: Int8Result
) -> None:
    assert all_layers.choice.report is not None
    worst = all_layers.choice.report.max_difference
    limits = replace(LOOSE, difference=worst / 2)
    some = write(small_onnx, tmp_path, audio, limits=limits)
    again = write(small_onnx, tmp_path, audio, limits=limits)
    assert 0 < len(some.choice.layers) < len(all_layers.choice.layers)
    assert some.choice.report is not None
    assert some.choice.report.max_difference <= worst / 2
    assert "gate" in some.kept.values()
    assert some.choice == again.choice
    assert some.contract == again.contract


def test_where_no_layer_holds_nothing_is_written(
    small_onnx: Any, tmp_path: Path, audio: Any
) -> None:
    with pytest.raises(CheckFailed, match="with any layer in it: a score differs"):
        write(small_onnx, tmp_path, audio, limits=replace(LOOSE, difference=1e-7))
    assert not (tmp_path / "small.int8.onnx").exists()


def test_without_a_search_all_layers_hold_or_none(
    small_onnx: Any, tmp_path: Path, audio: Any
) -> None:
    with pytest.raises(CheckFailed, match="with all layers in it"):
        write(small_onnx, tmp_path, audio, limits=replace(LOOSE, difference=1e-4), search=False)
    assert write(small_onnx, tmp_path, audio, search=False).choice.n_gates == 1


def test_layers_that_were_asked_for_stay_in_fp32(
    small_onnx: Any, tmp_path: Path, audio: Any
) -> None:
    result = write(small_onnx, tmp_path, audio, fp32_nodes=("encoder.0*",), search=False)
    assert result.kept["encoder.0.conv2/Conv"] == "asked for"
    with pytest.raises(UsageError, match=r"No convolution or matrix product .* 'encoder\.99"):
        write(small_onnx, tmp_path, audio, fp32_nodes=("encoder.99*",))


def test_a_file_in_int8_cannot_be_quantized_again(
    tmp_path: Path, audio: Any, all_layers: Int8Result
) -> None:
    with pytest.raises(UsageError, match="computes in int8; only an fp32 file"):
        quantize_file(all_layers.path, tmp_path / "twice.onnx", audio[0], Int8Options(), audio[1])


def test_a_gate_without_audio_is_refused_unless_it_was_given_up(
    small_onnx: Any, tmp_path: Path, audio: Any
) -> None:
    with pytest.raises(UsageError, match="no audio was given"):
        quantize_file(small_onnx(), tmp_path / "a.onnx", audio[0])
    result = quantize_file(small_onnx(), tmp_path / "a.onnx", audio[0], Int8Options(gated=False))
    assert result.contract.gate is None


def test_no_audio_and_one_class_are_refused(noise: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="no audio to calibrate on"):
        CalibrationAudio(waves=noise(1)[:0], names=())
    for truth, said in ((True, "bona fide"), (False, "spoofed")):
        with pytest.raises(UsageError, match=f"All 2 clips to calibrate on are {said}"):
            CalibrationAudio(waves=noise(2), names=("a", "b"), bona_fide=np.full(2, truth))


def test_clips_of_the_gate_are_refused_by_name_and_by_their_samples(audio: Any) -> None:
    calibration, gate = audio
    refuse_overlap(calibration, gate)
    with pytest.raises(UsageError, match=r"1 of 3 clips .* in --gate-audio too, e\.g\. c1"):
        refuse_overlap(calibration, replace(gate, names=("c1", "g1", "g2", "g3")))
    renamed = replace(calibration, waves=np.stack([*calibration.waves[:2], gate.waves[1]]))
    with pytest.raises(UsageError, match=r"1 of 3 clips .* under another name: e\.g\. c2"):
        refuse_overlap(renamed, gate)


@pytest.mark.parametrize("options", [{"headroom": 0.5}, {"scales": "frame"}])
def test_options_that_mean_nothing_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        Int8Options(**options)
