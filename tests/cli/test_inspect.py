from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aasist_deploy.contract import read_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_contract_is_printed(cli: Any, small_onnx: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "[red] model.onnx"
    path.write_bytes(small_onnx().read_bytes())
    result = cli("inspect", path)
    assert result.code == 0
    assert "[red] model.onnx" in result.out
    contract, _ = read_contract(path)
    for name in contract.to_dict():
        assert name in result.out
    assert "logit of bona fide" in result.out


def test_json_is_the_contract(cli: Any, small_onnx: Callable[..., Path]) -> None:
    path = small_onnx()
    printed = json.loads(cli("inspect", path, "--json").out)
    contract, file = read_contract(path)
    assert printed["bytes"] == len(file.content)
    assert printed["path"] == str(path)
    expected = json.loads(json.dumps(contract.to_dict()))
    assert {key: printed[key] for key in expected} == expected


def test_altered_model_is_refused(
    cli: Any, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(small_onnx().read_bytes().replace(b"encoder.0.conv1", b"encoder.0.conv9"))
    result = cli("inspect", path)
    assert result.code == 2
    assert "was altered after export" in result.err
