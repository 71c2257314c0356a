from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from aasist_deploy import open_engine
from aasist_deploy.errors import CheckpointError, EnvironmentLacks, ShapeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# float32 rounding of PyTorch's kernels at several batch sizes; measured max 1.7e-6 here.
BATCH_ATOL = 1e-5


@pytest.fixture(scope="module")
def engine(small_checkpoint: Checkpoint) -> Iterator[Any]:
    with open_engine(small_checkpoint.path) as opened:
        yield opened


@pytest.fixture(scope="module")
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10)


def test_engine_gives_what_the_network_gives(
    engine: Any, waves: NDArray[np.float32], small_checkpoint: Checkpoint
) -> None:
    outputs = engine.run(waves)
    with torch.inference_mode():
        embedding, logits = small_checkpoint.model(torch.from_numpy(waves))
    assert np.array_equal(outputs["logits"], logits.numpy())
    assert np.array_equal(outputs["embedding"], embedding.numpy())
    assert np.array_equal(engine.score(waves), outputs["logits"][:, 1])
    assert engine.contract.config == small_checkpoint.config


def test_pieces_and_single_waves_score_the_same(
    engine: Any, waves: NDArray[np.float32], small_checkpoint: Checkpoint
) -> None:
    expected = engine.score(waves)
    with open_engine(small_checkpoint.path, max_batch=3) as pieces:
        assert np.abs(pieces.score(waves) - expected).max() <= BATCH_ATOL


def test_four_threads_get_the_scores_of_one(engine: Any, waves: NDArray[np.float32]) -> None:
    expected = [engine.score(wave[None]) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: engine.score(waves[i % 10][None]), range(20)))
    for index, score in enumerate(got):
        assert np.abs(score - expected[index % 10]).max() <= BATCH_ATOL


def test_length_is_fixed_unless_any_is_asked_for(
    engine: Any,
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    with pytest.raises(ShapeError, match="takes waves of 16000 samples; these have 20000"):
        engine.score(noise(1, 20_000))
    with open_engine(small_checkpoint.path, any_length=True) as any_length:
        assert any_length.contract.n_samples is None
        assert any_length.score(noise(1, 20_000)).shape == (1,)
        assert any_length.score(noise(1, any_length.contract.min_samples)).shape == (1,)
        with pytest.raises(ShapeError, match="or more samples"):
            any_length.score(noise(1, any_length.contract.min_samples - 1))


def test_configuration_can_be_given(small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pth"
    alone.write_bytes(small_checkpoint.path.read_bytes())
    with pytest.raises(CheckpointError, match="Nothing says how"):
        open_engine(alone)
    with open_engine(alone, config=small_checkpoint.config) as engine:
        assert engine.contract.checkpoint_sha256 == small_checkpoint.sha256


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_gpu_that_is_not_there_is_an_error_and_no_fallback(
    device: str, small_checkpoint: Checkpoint
) -> None:
    with pytest.raises(EnvironmentLacks, match=f"'{device}' was asked for.*sees no GPU") as raised:
        open_engine(small_checkpoint.path, device=device)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", ""])
def test_device_that_is_not_supported_is_refused(device: str, small_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match=f"device '{device}'"):
        open_engine(small_checkpoint.path, device=device)


def test_threads_below_one_are_refused(small_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="number of threads is 0"):
        open_engine(small_checkpoint.path, threads=0)


def test_threads_are_those_of_pytorch(small_checkpoint: Checkpoint) -> None:
    before = torch.get_num_threads()
    try:
        with open_engine(small_checkpoint.path, threads=1) as engine:
            assert engine.device == "cpu, 1 threads"
    finally:
        torch.set_num_threads(before)


def test_closed_engine_refuses_every_use(
    small_checkpoint: Checkpoint, waves: NDArray[np.float32]
) -> None:
    engine: Any = open_engine(small_checkpoint.path)
    engine.close()
    engine.close()
    for method in (engine.score, engine.run, engine.pooling_orders):
        with pytest.raises(ShapeError, match="closed"):
            method(waves)
