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

    def export_onnx(_checkpoint: object, path: Path, _options: object) -> ExportResult:
        path.touch()
        return ExportResult(path, contract, 339, 1e-7)

    monkeypatch.setattr(export_package, "export_onnx", export_onnx)
    result = cli("export", weights, "-o", tmp_path / "x.onnx", "--json")
    assert result.code == 0
    assert set(json.loads(result.out)) == {"path", "n_nodes", "max_difference", "contract"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "fp16"), "The precision 'fp16' cannot be exported yet"),
        (("--precision", "int8"), "The precision 'int8' cannot be exported yet"),
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

    def export_onnx(*_: object) -> None:
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
