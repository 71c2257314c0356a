from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy import extras
from aasist_deploy.contract import read_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint


@pytest.fixture
def weights(small_checkpoint: Checkpoint) -> Path:
    return small_checkpoint.path


@pytest.mark.slow
def test_checkpoint_becomes_a_checked_file(cli: Any, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "[x] model.onnx"
    options = ("--samples", "16000", "--topk", "rank", "--outputs", "score|embedding")
    config = ("--config", weights.with_suffix(".conf"))
    result = cli("export", weights, *config, *options, "-o", path)
    assert result.code == 0, result.err
    assert "[x] model.onnx: AASIST, " in result.out
    assert "largest difference from the checkpoint" in result.out
    contract, _ = read_contract(path)
    assert list(contract.outputs) == ["embedding", "score"]
    assert contract.topk["method"] == "rank"
    assert list(path.parent.iterdir()) == [path]


def test_result_as_json(
    cli: Any,
    weights: Path,
    small_onnx: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import aasist_deploy.export as export_package
    from aasist_deploy.export.onnx_from_torch import ExportResult

    contract, _ = read_contract(small_onnx())

    def export_onnx(
        _checkpoint: object, path: Path, _options: object, **_more: object
    ) -> ExportResult:
        path.touch()
        return ExportResult(path, contract, 339, 1e-7)

    monkeypatch.setattr(export_package, "export_onnx", export_onnx)
    result = cli("export", weights, "-o", tmp_path / "x.onnx", "--json")
    assert result.code == 0
    assert set(json.loads(result.out)) == {"path", "n_nodes", "max_difference", "contract"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "fp16"), "accepted for its scores on real audio, and no audio was given"),
        (("--max-flips", "1"), "--max-flips belongs to lower precision, and fp32 was asked for"),
        (
            ("--precision", "fp16", "--no-gate", "--gate-audio", "clips"),
            "--no-gate measures nothing, and --gate-audio was given",
        ),
        (("--topk", "sort"), "no top-k form 'sort'"),
        (
            ("--samples", "long"),
            "--samples is 'long'; it must be a whole number >= 1 or 'variable'",
        ),
        (("--samples", "100"), "100 samples is too short"),
        (("--batch", "0"), "--batch is '0'"),
        (("--opset", "9"), "Opset 9 is not supported; 18 to 23 are"),
        (("--outputs", "score,llr"), "Unknown outputs llr"),
        (("--outputs", "embedding"), "cannot be scored with"),
    ],
)
def test_option_that_cannot_be_is_refused_and_nothing_is_written(
    options: tuple[str, str], message: str, cli: Any, weights: Path, tmp_path: Path
) -> None:
    result = cli("export", weights, "-o", tmp_path / "x.onnx", *options)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("error:") == 1
    assert list(tmp_path.glob("*.onnx")) == []


def test_output_must_be_named_onnx(cli: Any, weights: Path, tmp_path: Path) -> None:
    result = cli("export", weights, "-o", tmp_path / "model.bin")
    assert result.code == 2
    assert "does not end in .onnx" in result.err


@pytest.mark.parametrize("place", ["/proc/none/x.onnx", "file/x.onnx", "folder.onnx"])
def test_place_that_cannot_be_written_is_one_message(
    place: str, cli: Any, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.onnx").mkdir()
    result = cli("export", weights, "--samples", "16000", "-o", tmp_path / place)
    assert result.code == 2
    assert "cannot be written" in result.err or "is a folder" in result.err


def test_failed_check_exits_with_one(
    cli: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aasist_deploy.export as export_package
    from aasist_deploy.errors import CheckFailed

    def export_onnx(*_: object, **_more: object) -> None:
        raise CheckFailed("The exported model is 1.00e-02 away from the checkpoint.", fix="report")

    monkeypatch.setattr(export_package, "export_onnx", export_onnx)
    result = cli("export", weights, "-o", tmp_path / "x.onnx")
    assert result.code == 1
    assert "away from the checkpoint" in result.err
    assert "Fix: report" in result.err


@pytest.mark.parametrize("missing", ["torch", "onnx", "onnxscript", "onnxruntime"])
def test_missing_package_is_named_with_the_extra(
    missing: str, cli: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == missing else object())
    result = cli("export", weights, "-o", tmp_path / "x.onnx")
    assert result.code == 3
    assert f"Exporting needs the package {missing}" in result.err
    assert "aasist-deploy[export" in result.err


OWN = """
import torch
from torch import nn

class Mine(nn.Module):
    n_samples = 2_000

    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv1d(1, config["width"], 65, stride=32)
        self.out = nn.Linear(config["width"], 2)

    def forward(self, wave):
        return self.out(self.conv(wave.unsqueeze(1)).abs().mean(2))

class Baked(Mine):
    def forward(self, wave):
        return super().forward(wave).view(2, 2)
"""


def test_own_network_is_exported_scored_and_compared_with_its_code(
    cli: Any, clip: Callable[..., Path], tmp_path: Path
) -> None:
    from aasist_deploy.models import build_model, save_weights

    (tmp_path / "nets.py").write_text(OWN)
    code = f"{tmp_path / 'nets.py'}:Mine"
    weights, path = tmp_path / "own.safetensors", tmp_path / "own.onnx"
    save_weights(weights, build_model({"architecture": "custom", "config": {"width": 3}}, code))
    wave = clip("a.wav", 0.2, 3_000)

    result = cli("export", weights, "-o", path)
    assert result.code == 2
    assert "--code" in result.err
    assert not path.exists()

    result = cli("export", weights, "--code", code, "-o", path)
    assert result.code == 0, result.err
    assert "own.onnx: Mine, " in result.out
    result = cli("parity", path, "--reference", weights, "--audio", wave, "--code", code)
    assert result.code == 0, result.err
    by_file = cli("score", path, wave)
    by_weights = cli("score", weights, wave, "--code", code)
    assert (by_file.code, by_weights.code) == (0, 0), by_file.err + by_weights.err
    assert len(by_file.out.splitlines()) == len(by_weights.out.splitlines()) == 2

    result = cli("score", path, wave, "--code", code)
    assert result.code == 2
    assert "an exported file needs no code" in result.err


def test_network_that_would_be_wrong_is_refused_with_its_line(cli: Any, tmp_path: Path) -> None:
    from aasist_deploy.models import build_model, save_weights

    (tmp_path / "nets.py").write_text(OWN)
    code = f"{tmp_path / 'nets.py'}:Baked"
    weights = tmp_path / "own.safetensors"
    save_weights(weights, build_model({"architecture": "custom", "config": {"width": 3}}, code))
    result = cli("export", weights, "--code", code, "-o", tmp_path / "own.onnx")
    assert result.code == 2
    line = 1 + OWN.splitlines().index("        return super().forward(wave).view(2, 2)")
    assert f"nets.py:{line}: return super().forward(wave).view(2, 2)" in result.err
    assert not (tmp_path / "own.onnx").exists()
