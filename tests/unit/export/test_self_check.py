"""The check of a written file: what is accepted for which network."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

import torch

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import CheckFailed
from aasist_deploy.export import ExportOptions, export_onnx, self_check
from aasist_deploy.export import onnx_from_torch as exporting
from aasist_deploy.export.self_check import SELF_CHECK_ATOL
from aasist_deploy.models import Aasist

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint

# Rounding of logits of thousands is far above the bound of 1e-4, in any order of summation.
MAGNIFIED = 2e4


@pytest.mark.parametrize(("shift", "holds"), [(0.5, True), (3.0, False)])
def test_the_bound_of_aasist_is_ten_to_the_minus_four(
    small_checkpoint: Checkpoint, small_onnx: Callable[..., Path], shift: float, *, holds: bool
) -> None:
    path = small_onnx()
    other = copy.deepcopy(small_checkpoint.model)
    assert isinstance(other, Aasist)
    with torch.no_grad():
        other.out_layer.bias.add_(shift * SELF_CHECK_ATOL)
    moved, contract = replace(small_checkpoint, model=other), read_contract(path)[0]
    if holds:
        assert self_check.self_check(moved, path, contract) == pytest.approx(
            shift * SELF_CHECK_ATOL, abs=SELF_CHECK_ATOL / 4
        )
        return
    with pytest.raises(CheckFailed, match="at most 1e-04 is accepted"):
        self_check.self_check(moved, path, contract)


def test_an_aasist_that_magnifies_rounding_has_the_same_bound(
    small_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = copy.deepcopy(small_checkpoint)
    assert isinstance(checkpoint.model, Aasist)
    with torch.no_grad():
        checkpoint.model.out_layer.weight.mul_(MAGNIFIED)
    made = exporting.onnx_from_torch(checkpoint, ExportOptions(n_samples=16_000))
    monkeypatch.setattr(exporting, "onnx_from_torch", lambda *_: made)  # both times, made once
    with pytest.raises(CheckFailed, match="at most 1e-04 is accepted"):
        export_onnx(checkpoint, tmp_path / "refused.onnx")
    assert not (tmp_path / "refused.onnx").exists()
    # It is the kind of network that decides: RawGAT-ST's bound would have let it pass.
    monkeypatch.setattr(self_check, "MAGNIFIES_ROUNDING", (Aasist,))
    assert export_onnx(checkpoint, tmp_path / "x.onnx").max_difference > SELF_CHECK_ATOL
