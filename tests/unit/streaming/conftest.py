"""A model for streams without a runtime: its score is that of a window, its state the past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.contract import StreamContract
from tests.contracts import stream_contract_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from numpy.typing import NDArray

FRAME, WINDOW = 10, 47
LAYOUT = StreamContract(
    window_samples=WINDOW,
    frame_samples=FRAME,
    lead_samples=3,
    max_frames=16,
    n_frames=4,
    shared_frames=2,
    state_size=WINDOW,
)
CONTRACT = stream_contract_of(
    LAYOUT,
    sample_rate_hz=100,
    outputs={"score": "a sum that differs for every order of samples, (batch,)"},
)
WEIGHTS = np.cos(np.arange(WINDOW)).astype(np.float32)


def score_of(window: NDArray[np.float32]) -> float:
    return float((window * WEIGHTS).sum(dtype=np.float64))


class FakeModel:
    """The state is the last window of samples."""

    def __init__(self) -> None:
        self.contract, self.layout = CONTRACT, LAYOUT
        self.calls: list[tuple[int, int]] = []  # streams and frames of each
        self.prepared: list[int] = []
        self.gate: threading.Event | None = None
        self.error: Exception | None = None

    def prepare(self, n_frames: Iterable[int]) -> None:
        self.prepared += n_frames

    def step(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.calls.append((len(samples), samples.shape[1] // FRAME))
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error
        states = np.concatenate([states, samples], axis=1)[:, -WINDOW:]
        return np.array([score_of(state) for state in states], np.float32), states


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()
