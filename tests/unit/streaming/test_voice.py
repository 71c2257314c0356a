from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.errors import EnvironmentLacks, UsageError
from aasist_deploy.streaming.voice import VoiceActivity

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@pytest.fixture
def mixed(speech: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    """Two seconds of voice, two of silence, two of voice."""
    pytest.importorskip("webrtcvad", reason="needs the extra vad")
    voice = speech(2.0)
    return np.concatenate([voice, np.zeros(32_000, np.float32), voice])


def meter_of(wave: NDArray[np.float32], push: int) -> VoiceActivity:
    meter = VoiceActivity(16_000)
    for start in range(0, len(wave), push):
        meter.push(wave[start : start + push])
    return meter


def test_voice_is_speech_and_silence_is_not(mixed: NDArray[np.float32]) -> None:
    meter = meter_of(mixed, 1_000)
    assert meter.speech(0, 32_000) > 0.6
    assert meter.speech(40_000, 64_000) == 0
    assert meter.speech(64_000, 96_000) > 0.6


@pytest.mark.parametrize("push", [1, 479, 10_000])
def test_it_does_not_depend_on_how_samples_are_pushed(
    mixed: NDArray[np.float32], push: int
) -> None:
    wave = mixed[:48_000]
    whole, parts = meter_of(wave, len(wave)), meter_of(wave, push)
    for start in range(0, 40_000, 5_000):
        assert whole.speech(start, start + 8_000) == parts.speech(start, start + 8_000)


def test_the_signal_is_not_changed(mixed: NDArray[np.float32]) -> None:
    before = mixed.copy()
    meter_of(mixed, len(mixed))
    np.testing.assert_array_equal(mixed, before)


def test_only_whole_frames_inside_the_window_count(mixed: NDArray[np.float32]) -> None:
    meter = meter_of(mixed[:1_000], 1_000)  # frames 0 to 479 and 480 to 959
    assert meter.speech(0, 479) == 0
    assert meter.speech(481, 1_000) == 0  # none begins and ends there


def test_memory_is_that_of_the_frames_from_the_last_window_on(mixed: NDArray[np.float32]) -> None:
    meter = VoiceActivity(16_000)
    for second in range(60):
        meter.push(mixed[:16_000])
        meter.speech(second * 16_000, (second + 1) * 16_000)
        assert len(meter._flags) <= 2 * 16_000 // 480


def test_rate_and_package_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="takes 44100 Hz"):
        VoiceActivity(44_100)
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(EnvironmentLacks, match="webrtcvad-wheels") as raised:
        VoiceActivity(16_000)
    assert raised.value.fix == "pip install 'aasist-deploy[vad]'"
