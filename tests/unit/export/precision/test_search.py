from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import CheckFailed
from aasist_deploy.export.precision import GateAudio, GateLimits, choose_islands, rule_islands
from aasist_deploy.export.precision.search import group_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def small(small_onnx: Callable[..., Any], noise: Callable[..., Any]) -> Any:
    path: Path = small_onnx(topk="rank")
    contract, _ = read_contract(path)
    return onnx.load(path), contract, GateAudio(waves=noise(6), source="noise")


def test_where_the_gate_holds_the_islands_are_those_of_the_rule(small: Any) -> None:
    model, contract, audio = small
    limits = GateLimits(difference=9.0, flips=6, rank_correlation=-1.0)
    choice = choose_islands(model, contract, "fp16", audio, limits=limits, threads=1)
    assert choice.islands == rule_islands(model, "fp16")
    assert choice.moved == ()
    assert choice.report is not None
    assert choice.report.holds
    assert set(choice.report.stress) >= {"silent", "clipped"}
    assert choice.report.largest_value is not None
    assert np.isfinite(choice.report.largest_value)


def test_layers_move_to_fp32_until_the_gate_holds(small: Any) -> None:
    model, contract, audio = small
    loose = GateLimits(difference=9.0, flips=6, rank_correlation=-1.0)
    first = choose_islands(model, contract, "bf16", audio, limits=loose, threads=1).report
    assert first is not None
    tight = GateLimits(difference=first.max_difference / 4, flips=0)
    choice = choose_islands(model, contract, "bf16", audio, limits=tight, threads=1)
    assert choice.moved
    assert choice.report is not None
    assert choice.report.max_difference <= tight.difference
    name, why = choice.moved[0]
    assert "a score differs by" in why
    assert f"gate: {name}" in choice.islands.values()
    assert len(choice.islands) > len(rule_islands(model, "bf16"))


def test_a_gate_that_nothing_can_hold_is_a_failed_check(small: Any) -> None:
    model, contract, audio = small
    impossible = GateLimits(difference=-1.0)
    with pytest.raises(CheckFailed, match="fp16 does not hold on 6 clips: a score differs"):
        choose_islands(model, contract, "fp16", audio, limits=impossible, search=False, threads=1)


def test_layers_are_moved_as_they_are_named() -> None:
    assert group_of("encoder.0.conv1/Conv") == "encoder.0"
    assert group_of("GAT_layer_S.att_proj/MatMul") == "GAT_layer_S"
    assert group_of("front_end/Conv") == "front_end"
    assert group_of("Add") == "(between layers)"
