"""`export --precision`: from an exported file and from a checkpoint, gated and not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.contract import read_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def clips(noise: Callable[..., Any], tmp_path: Path) -> Path:
    """Four clips, and a manifest that calls the first two genuine."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rows = ["path,label"]
    for index, wave in enumerate(noise(4)):
        soundfile.write(folder / f"{index}.wav", wave, 16_000)
        rows.append(f"clips/{index}.wav,{'bonafide' if index < 2 else 'spoof'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def source(small_onnx: Callable[..., Path]) -> Path:
    return small_onnx(topk="rank")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_exported_file_is_lowered_and_its_contract_says_what_was_measured(
    cli: Callable[..., Any], source: Path, clips: Path, tmp_path: Path, precision: str
) -> None:
    output = tmp_path / "low.onnx"
    outcome = cli(
        *("export", source, "-o", output, "--precision", precision, "--max-difference", "1"),
        *("--gate-audio", clips, "--gate-labels", tmp_path / "manifest.csv", "--max-flips", "4"),
        "--json",
    )
    assert outcome.code == 0, outcome.err
    contract, _ = read_contract(output)
    assert contract.precision == precision
    assert "pool_S/Mul" in contract.fp32_nodes
    assert contract.gate is not None
    assert contract.gate["n_clips"] == 4
    assert contract.gate["on"] == "4 clips: clips"
    assert 0 < contract.gate["max_difference"] < 1
    assert contract.gate["eer"] is not None
    said = json.loads(outcome.out)["contract"]
    assert said == json.loads(json.dumps(contract.to_dict()))


def test_without_a_gate_the_contract_says_that_nothing_was_measured(
    cli: Callable[..., Any], source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "low.onnx"
    outcome = cli("export", source, "-o", output, "--precision", "fp16", "--no-gate")
    assert outcome.code == 0, outcome.err
    assert "its scores were not measured (--no-gate)" in outcome.out
    contract, _ = read_contract(output)
    assert contract.gate is None
    assert contract.precision == "fp16"


def test_a_gate_that_does_not_hold_leaves_the_old_file(
    cli: Callable[..., Any], source: Path, clips: Path, tmp_path: Path
) -> None:
    output = tmp_path / "low.onnx"
    output.write_bytes(b"what was there")
    outcome = cli(
        *("export", source, "-o", output, "--precision", "fp16", "--gate-audio", clips),
        *("--max-difference", "0", "--no-search"),
    )
    assert outcome.code == 1
    assert "fp16 does not hold on 4 clips: a score differs by" in outcome.err
    assert output.read_bytes() == b"what was there"


def test_a_lowered_file_is_not_scored_on_a_cpu(
    cli: Callable[..., Any], source: Path, clips: Path, tmp_path: Path
) -> None:
    output = tmp_path / "low.onnx"
    cli("export", source, "-o", output, "--precision", "fp16", "--no-gate")
    outcome = cli("score", output, clips)
    assert outcome.code == 2
    assert "is written in fp16 for GPUs" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "fp16"), "no audio was given"),
        ((), "is exported already"),
        (
            ("--precision", "fp16", "--no-gate", "--fp32-nodes", "pol_*"),
            "No node of the graph is called 'pol_*'",
        ),
        (("--precision", "fp16", "--gate-asv", "asv.txt"), "--gate-asv needs the truth"),
    ],
)
def test_what_cannot_be_lowered_is_refused(
    cli: Callable[..., Any], source: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    outcome = cli("export", source, "-o", tmp_path / "low.onnx", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "low.onnx").exists()


def test_a_lowered_file_is_not_lowered_again(
    cli: Callable[..., Any], source: Path, tmp_path: Path
) -> None:
    low = tmp_path / "low.onnx"
    cli("export", source, "-o", low, "--precision", "fp16", "--no-gate")
    outcome = cli("export", low, "-o", tmp_path / "lower.onnx", "--precision", "bf16", "--no-gate")
    assert outcome.code == 2
    assert "computes in fp16; only an fp32 file can be lowered" in outcome.err


def test_labels_that_do_not_name_a_clip_are_refused(
    cli: Callable[..., Any], source: Path, clips: Path, tmp_path: Path
) -> None:
    soundfile.write(clips / "more.wav", np.zeros(16_000, np.float32), 16_000)
    outcome = cli(
        *("export", source, "-o", tmp_path / "low.onnx", "--precision", "fp16"),
        *("--gate-audio", clips, "--gate-labels", tmp_path / "manifest.csv"),
    )
    assert outcome.code == 2
    assert "does not name 1 of 5 clips, e.g. more.wav" in outcome.err
