"""The network for streams against the trained network on every window alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import UsageError
from aasist_deploy.export.stream_form import StreamNetwork
from aasist_deploy.models import build_model, read_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

ATOL = 1e-4  # measured 2e-6 on this network, whose weights are three times those of training
FRAME = 2_187


def differences(
    checkpoint: Checkpoint, window: int, calls: list[int], wave: NDArray[np.float32]
) -> list[float]:
    """One difference for each call that ends with a window or after it."""
    network = StreamNetwork(checkpoint.model, "topk", window).eval()
    geometry = network.geometry
    padded = np.concatenate([np.full(geometry.lead_samples, 7.0, np.float32), wave])
    state, end = torch.zeros(1, network.state_size), 0
    found = []
    with torch.inference_mode():
        for n_frames in calls:
            start, end = end, end + n_frames * FRAME
            samples = torch.from_numpy(padded[None, start:end])
            assert samples.shape[1] == end - start
            _, logits, _, state, *_ = network(samples, state)
            if end >= geometry.lead_samples + window:
                alone = checkpoint.model(torch.from_numpy(padded[None, end - window : end]))[1]
                found.append(float((logits - alone).abs().max()))
    return found


@settings(max_examples=6, deadline=None)
@given(
    st.integers(4 * FRAME + 130, 7 * FRAME),
    st.lists(st.integers(1, 5), min_size=6, max_size=8),
)
def test_every_call_gives_the_score_of_its_window_alone(
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
    window: int,
    calls: list[int],
) -> None:
    wave = noise(1, sum(calls) * FRAME)[0]
    found = differences(small_checkpoint, window, calls, wave)
    assert found
    assert max(found) <= ATOL


@pytest.mark.parametrize("taps", [1, 64, 251])
def test_other_front_ends_are_exact_too(
    small_config: dict[str, Any], noise: Callable[..., NDArray[np.float32]], taps: int
) -> None:
    torch.manual_seed(1)
    model = build_model({**small_config, "first_conv": taps}).eval()
    checkpoint: Any = type("Holder", (), {"model": model})
    calls = [6, 1, 2, 3]
    found = differences(checkpoint, 12_345, calls, noise(1, 12 * FRAME)[0])
    assert len(found) == len(calls)
    assert max(found) <= ATOL


def test_streams_of_a_batch_do_not_see_one_another(
    small_checkpoint: Checkpoint, noise: Callable[..., NDArray[np.float32]]
) -> None:
    network = StreamNetwork(small_checkpoint.model, "rank").eval()
    samples = torch.from_numpy(noise(3, 10 * FRAME))
    with torch.inference_mode():
        score, *_ = network(samples, torch.zeros(3, network.state_size))
        alone = [network(s[None], torch.zeros(1, network.state_size))[0] for s in samples]
    assert float((score - torch.cat(alone)).abs().max()) <= ATOL
    assert float(score.std()) > 100 * ATOL


def test_state_is_a_fraction_of_what_a_window_needs(small_checkpoint: Checkpoint) -> None:
    network = StreamNetwork(small_checkpoint.model, "topk")
    first_map = 4 * 23 * network.geometry.lengths[1]  # channels, bands and columns of block 0
    assert network.state_size < first_map / 10


@pytest.mark.parametrize(
    ("name", "reason"),
    [("RawNet2-small", "every step of its GRU"), ("RawGAT-ST", "two encoders")],
)
def test_other_architectures_are_refused_with_the_reason(
    name: str, reason: str, shared: Path
) -> None:
    model = build_model(read_config(shared / "golden" / f"{name}.model_config.json"))
    with pytest.raises(UsageError, match=reason) as caught:
        StreamNetwork(model, "topk")
    assert "each window alone" in str(caught.value.fix)


def test_a_window_that_shares_nothing_is_refused(small_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="nothing that windows could share"):
        StreamNetwork(small_checkpoint.model, "topk", 7_000)


def test_frames_that_the_command_line_knows_are_those_of_the_network(
    small_checkpoint: Checkpoint,
) -> None:
    from aasist_deploy.cli.windows import FRAME_SAMPLES

    network = StreamNetwork(small_checkpoint.model, "topk", 20_000)
    assert {small_checkpoint.model.architecture: network.geometry.frame_samples} == FRAME_SAMPLES
