from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aasist_deploy.bench import work
from aasist_deploy.bench.work import operations, operations_of_checkpoint, operations_of_onnx
from aasist_deploy.engines import missing_packages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        # 4 outputs of 2 channels, each of 3 taps over 5 channels of one group.
        ("Conv", [[1, 5, 6], [2, 5, 3]], [1, 2, 4], 2 * 2 * 4 * 5 * 3),
        ("Conv", [[1, 6, 6], [6, 1, 3]], [1, 6, 4], 2 * 6 * 4 * 3),  # a group for each channel
        ("QLinearConv", [[1, 5, 6], [], [], [2, 5, 3]], [1, 2, 4], 2 * 2 * 4 * 5 * 3),
        ("MatMul", [[7, 2, 3], [3, 4]], [7, 2, 4], 2 * 7 * 2 * 4 * 3),
        ("Gemm", [[2, 3], [4, 3]], [2, 4], 2 * 2 * 4 * 3),
        ("Gemm", [[3, 2], [4, 3]], [2, 4], 2 * 2 * 4 * 3),  # the first factor transposed
        # 10 steps of 2 waves: three gates of 8 from 5 inputs and 8 states.
        ("GRU", [[10, 2, 5], [1, 24, 5], [1, 24, 8]], [10, 1, 2, 8], 2 * 10 * 2 * 24 * 13),
        ("Elu", [[100]], [100], 0),
    ],
)
def test_operations_follow_from_shapes(
    kind: str, inputs: list[list[int]], output: list[int], expected: int
) -> None:
    assert operations(kind, inputs, output) == expected


def test_runtimes_and_the_checkpoint_agree_on_the_operations(
    small_onnx: Callable[..., Path], small_checkpoint: Checkpoint
) -> None:
    if missing_packages("openvino"):
        pytest.skip("needs the extra openvino")
    by_profile = work._by_onnxruntime(small_onnx(), 16_000)
    assert by_profile == operations_of_onnx(small_onnx(), 16_000)
    assert by_profile == work._by_openvino(small_onnx(), 16_000)
    # The exporter drops no product and adds none; attention is written as other products.
    eager = operations_of_checkpoint(small_checkpoint.path, 16_000)
    assert eager == pytest.approx(by_profile, rel=1e-3)


def test_operations_are_those_of_one_window(small_onnx: Callable[..., Path]) -> None:
    of_three = small_onnx(batch=3, outputs=("score",))
    assert work._by_onnxruntime(of_three, 16_000) == work._by_onnxruntime(small_onnx(), 16_000)


def test_a_file_that_no_runtime_can_run_has_no_count(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model")
    assert operations_of_onnx(path, 16_000) is None


@pytest.mark.parametrize(("name", "expected"), [("AASIST", 19.12), ("AASIST-L", 13.21)])
def test_operations_of_the_published_models(
    published_checkpoint: Callable[[str], Path], name: str, expected: float
) -> None:
    counted = operations_of_checkpoint(published_checkpoint(name), 64_600)
    assert counted == pytest.approx(expected * 1e9, rel=1e-3)
