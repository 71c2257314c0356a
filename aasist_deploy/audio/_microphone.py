"""Samples of a microphone through PortAudio, with a gap where it, or we, lost some."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.audio._blocks import Gap, Heard, Item, converted
from aasist_deploy.audio._pipe import unless_stopped
from aasist_deploy.audio._wave import SAMPLE_RATE_HZ
from aasist_deploy.errors import AudioError, EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from aasist_deploy.audio._pipe import Stop

BLOCK_MS: Final = 50
# Blocks that may wait while a window is scored; beyond that the newest are lost, and a gap says so.
MAX_WAITING: Final = 400  # 20 s
_POLL_S: Final = 0.2  # how late a wish to end is seen
LOST_S: Final = 5.0  # without a block, though 20 a second are due, the device is gone


@contextmanager
def microphone(
    heard: Heard,
    *,
    device: int | str | None = None,
    stop: Stop | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    max_waiting: int = MAX_WAITING,
) -> Iterator[Iterator[Item]]:
    """Open an input device; blocks and gaps come until `stop` asks to end.

    The device runs at its own default rate, so that the one resampler of this package is used and
    not one of a driver. Channels are averaged, as of files.

    Args:
        heard: Is kept up to date.
        device: Number or part of the name, as `device_list` shows them; None for the default.
        stop: May ask to end.
        sample_rate_hz: Rate of the blocks.
        max_waiting: Blocks that may wait.

    Raises:
        EnvironmentLacks: sounddevice or PortAudio is not installed, or there is no such device.
        AudioError: While iterating: the device is gone.
    """
    sounddevice = _sounddevice()
    waiting: queue.Queue[_Recorded] = queue.Queue(max_waiting)
    n_lost = 0  # samples that found no place since the last that did

    def take(samples: NDArray[np.float32], n_samples: int, _time: object, status: Any) -> None:  # noqa: ANN401
        nonlocal n_lost
        try:
            waiting.put_nowait(_Recorded(samples.copy(), bool(status.input_overflow), n_lost))
            n_lost = 0
        except queue.Full:
            n_lost += n_samples

    try:
        described = sounddevice.query_devices(device, "input")
        rate_hz = int(described["default_samplerate"])
        stream = sounddevice.InputStream(
            device=device,
            samplerate=rate_hz,
            channels=min(2, int(described["max_input_channels"])),
            dtype="float32",
            blocksize=rate_hz * BLOCK_MS // 1_000,
            callback=take,
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise EnvironmentLacks(
            f"No microphone can be opened: {error}.",
            fix="aasist-deploy stream --list-devices shows what there is; --device chooses",
        ) from error

    def blocks() -> Iterator[NDArray[np.float32] | Gap]:
        silent_s = 0.0
        while stop is None or not stop.requested:
            try:
                recorded = waiting.get(timeout=_POLL_S)
            except queue.Empty:
                silent_s += _POLL_S
                if not stream.active or silent_s >= LOST_S:
                    raise AudioError(
                        "The microphone gives nothing more.", fix="plug it in"
                    ) from None
                continue
            silent_s = 0.0
            if recorded.n_lost_before:
                lost_s = recorded.n_lost_before / rate_hz
                yield Gap(lost_s, "scoring was slower than the microphone")
            if recorded.overflow:
                yield Gap(None, "the device lost samples (input overflow)")
            yield recorded.samples

    heard.source_rate_hz, heard.decoder = rate_hz, "microphone"
    heard.source_channels = stream.channels
    heard.note = str(described["name"])
    with stream:
        items = converted(blocks(), heard, "the microphone", sample_rate_hz)
        yield items if stop is None else unless_stopped(items, stop)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What one callback gave: (n, channels) samples, and what was lost before them."""

    samples: NDArray[np.float32]
    overflow: bool
    n_lost_before: int


def device_list() -> str:
    """The audio devices of this machine, one a line, the default ones marked.

    Raises:
        EnvironmentLacks: sounddevice or PortAudio is not installed.
    """
    return str(_sounddevice().query_devices()) or "There is no audio device."


def _sounddevice() -> Any:  # noqa: ANN401  # the package has no types
    try:
        import sounddevice
    except ImportError as error:
        raise EnvironmentLacks(
            "A microphone needs the package sounddevice, which is not installed.",
            fix="pip install 'aasist-deploy[microphone]'",
        ) from error
    except OSError as error:
        raise EnvironmentLacks(
            f"A microphone needs the library PortAudio: {error}.",
            fix="apt-get install libportaudio2, or what your system calls it",
        ) from error
    return sounddevice
