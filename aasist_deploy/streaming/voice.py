"""Voice activity: which part of a window is speech. It reads the signal and never changes it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_MS: Final = 30  # the longest of the three that WebRTC's detector takes: fewest calls
RATES_HZ: Final = (8_000, 16_000, 32_000, 48_000)  # that it takes
AGGRESSIVENESS: Final = 2  # of 0 (takes most for speech) to 3


class VoiceActivity:
    """Measures speech with WebRTC's detector on frames of 30 ms; a `SpeechMeter`.

    Frames lie on a grid from the start of the stretch, and the detector follows the noise, so what
    it says of a frame does not depend on where windows or pushes begin. Memory is that of the
    frames from the last asked window on.

    Args:
        sample_rate: Hz of the samples.

    Raises:
        EnvironmentLacks: the package webrtcvad is not installed.
        UsageError: the detector does not take this sample rate.
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in RATES_HZ:
            raise UsageError(
                f"Voice activity is measured at {', '.join(map(str, RATES_HZ))} Hz; the model "
                f"takes {sample_rate} Hz.",
                fix="leave --vad out",
            )
        self._vad = _detector()
        self._rate = sample_rate
        self._frame = sample_rate * FRAME_MS // 1_000
        self._rest = np.empty(0, np.float32)  # of the frame that is not yet whole
        self._flags: deque[bool] = deque()
        self._first = 0  # number of the first frame in `_flags`

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take (n,) float32 samples in [-1, 1]; beyond that they are clipped for the detector."""
        held = np.concatenate([self._rest, samples])
        n_whole = len(held) // self._frame * self._frame
        self._rest = held[n_whole:].copy()
        pcm = np.round(np.clip(held[:n_whole], -1, 32_767 / 32_768) * 32_768).astype("<i2")
        for start in range(0, n_whole, self._frame):
            frame = pcm[start : start + self._frame].tobytes()
            self._flags.append(bool(self._vad.is_speech(frame, self._rate)))

    def speech(self, start: int, end: int) -> float:
        """Part of the frames wholly between two samples that hold speech; 0 where there is none.

        Args:
            start: First sample; not before the start that was asked for last.
            end: Sample after the last; frames that have not come are not counted.
        """
        first = max(self._first, -(-start // self._frame))
        while self._flags and self._first < start // self._frame:
            self._flags.popleft()
            self._first += 1
        last = min(end // self._frame, self._first + len(self._flags))
        flags = [self._flags[number - self._first] for number in range(first, last)]
        return sum(flags) / len(flags) if flags else 0.0


def _detector() -> Any:  # noqa: ANN401  # the package has no types
    try:
        import webrtcvad
    except ImportError as error:
        raise EnvironmentLacks(
            "Measuring voice activity needs the package webrtcvad-wheels, which is not installed.",
            fix="pip install 'aasist-deploy[vad]'",
        ) from error
    return webrtcvad.Vad(AGGRESSIVENESS)
