"""What the engine computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.errors import ShapeError
from tests.unit.engines.openvino.files import fixed_to_batch, loudness_of_any_length, with_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)

# float32 rounding of one graph in two runtimes; measured max 3.6e-6 over the waves here.
RUNTIMES_ATOL = 1e-5
# bf16 keeps 8 bits of the mantissa. Measured 0.029 for scores over the waves here.
BF16_ATOL = 0.1


def test_outputs_are_those_of_onnx_runtime(
    engine: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "onnx") as other:
        expected = other.run(waves)
    found = engine.run(waves)
    assert set(found) == set(expected) == {"score", "logits", "embedding"}
    for name, value in found.items():
        assert value.dtype == np.float32
        assert value.shape == expected[name].shape
        assert np.abs(value - expected[name]).max() <= RUNTIMES_ATOL


def test_scores_are_fresh(engine: Any, waves: NDArray[np.float32]) -> None:
    first = engine.score(waves)
    kept = first.copy()
    engine.score(waves[::-1].copy())
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(engine.score(waves), kept)


def test_device_says_precision_threads_and_hint(small_onnx: Callable[..., Path]) -> None:
    with open_engine(small_onnx(), "openvino", threads=2, hint="throughput") as engine:
        assert engine.device == "CPU, fp32, 2 threads, throughput, 2 streams"
        assert engine.backend == "openvino"


def test_fp32_is_what_is_taken_and_bf16_only_when_asked(
    engine: Any, small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    assert engine.device == "CPU, fp32, 2 threads, latency"
    exact = engine.score(waves)
    with open_engine(
        small_onnx(), "openvino", precision="bf16", allow_slow_precision=True
    ) as lower:
        assert lower.device.startswith("CPU, bf16, ")
        difference = np.abs(lower.score(waves) - exact).max()
    assert RUNTIMES_ATOL < difference <= BF16_ATOL


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("max_batch", [1, 3, None])
def test_neither_batch_nor_hint_nor_repetition_changes_a_bit(
    hint: Any,
    max_batch: int | None,
    engine: Any,
    waves: NDArray[np.float32],
    small_onnx: Callable[..., Path],
) -> None:
    one_by_one = np.concatenate([engine.score(wave[None]) for wave in waves])
    options: Any = {"threads": 2, "hint": hint, "max_batch": max_batch}
    with open_engine(small_onnx(), "openvino", **options) as other:
        assert np.array_equal(other.score(waves), one_by_one)
        assert np.array_equal(other.score(waves), one_by_one)


def test_number_of_threads_changes_rounding_at_most(
    engine: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "openvino", threads=1) as other:
        assert np.abs(other.score(waves) - engine.score(waves)).max() <= RUNTIMES_ATOL


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_eight_threads_with_mixed_batches_get_their_own_rows(
    hint: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "openvino", hint=hint, threads=2, max_batch=4) as engine:
        expected = engine.score(waves)
        jobs = [(start, 1 + start % 5) for start in range(6)] * 8
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda job: engine.score(waves[job[0] : sum(job)]), jobs))
    for (start, n), scores in zip(jobs, found, strict=True):
        assert np.array_equal(scores, expected[start : start + n])


def test_a_fixed_batch_is_filled_up_in_both_hints(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    expected = engine.score(waves[:7])
    path = fixed_to_batch(small_onnx(), tmp_path / "fixed.onnx", 3)
    for hint in ("latency", "throughput"):
        options: Any = {"hint": hint, "threads": 2}
        fixed: Any = open_engine(path, "openvino", **options)
        with fixed:
            assert fixed._graph.inputs == {"wave": (3, 16_000)}
            assert np.abs(fixed.score(waves[:7]) - expected).max() <= RUNTIMES_ATOL


def test_throughput_runs_a_smallest_batch_of_several_whole(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    path = with_contract(small_onnx(), tmp_path / "pairs.onnx", batch=(2, None))
    with open_engine(path, "openvino", hint="throughput", threads=2) as pairs:
        for n in (1, 2, 5, 8):
            assert np.array_equal(pairs.score(waves[:n]), engine.score(waves[:n]))


def test_variable_length_models_take_every_length(
    small_onnx: Callable[..., Path], noise: Callable[..., NDArray[np.float32]], tmp_path: Path
) -> None:
    path = loudness_of_any_length(small_onnx(), tmp_path / "any.onnx")
    for hint in ("latency", "throughput"):
        options: Any = {"hint": hint, "threads": 2}
        with open_engine(path, "openvino", **options) as engine:
            for n_samples in (16_000, 23_457, 800, 16_000):
                some = noise(3, n_samples)
                expected = np.abs(some).mean(axis=1)
                assert np.abs(engine.score(some) - expected).max() <= RUNTIMES_ATOL


def test_kept_nodes_are_those_of_onnx_runtime(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    first: Any = open_engine(small_onnx(), "openvino")
    second: Any = open_engine(small_onnx(), "onnx")
    with first, second:
        found, expected = first.pooling_orders(waves), second.pooling_orders(waves)
    assert set(found) == set(expected)
    assert found
    for name, order in found.items():
        assert order.dtype == np.int64
        assert np.array_equal(order, expected[name]), name


def test_close_is_final_and_may_be_repeated(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    engine = open_engine(small_onnx(), "openvino")
    engine.close()
    engine.close()
    with pytest.raises(ShapeError, match="closed"):
        engine.score(waves)
