"""What each audio file of a corpus holds: by its header, or by decoding all of it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import soundfile

from aasist_deploy.audio import SAMPLE_RATE_HZ, read_audio
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aasist_deploy.trials import Trial

MAX_THREADS: Final = 16
_BATCH: Final = 2_048  # trials handed to the threads at once; the largest split has 680,774


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One file.

    Attributes:
        seconds: Duration; 0 where the file is missing or cannot be read.
        rate_hz: Sample rate; 0 likewise.
        n_channels: Channels; 0 likewise.
        is_missing: It is not on disk.
        error: Why it cannot be read, or None.
        second_decoder: Whether the first decoder refused what was read of it.
    """

    seconds: float = 0.0
    rate_hz: int = 0
    n_channels: int = 0
    is_missing: bool = False
    error: str | None = None
    second_decoder: bool = False


def measure(path: Path, *, deep: bool) -> Measured:
    """Look at one file: its header, or with `deep` every sample of it."""
    if not path.is_file():
        return Measured(is_missing=True)
    if not deep and (found := _by_header(path)) is not None:
        return found
    try:
        audio = read_audio(path, max_samples=None if deep else SAMPLE_RATE_HZ)
    except AudioError as error:
        return Measured(error=str(error))
    return Measured(
        seconds=audio.seconds,
        rate_hz=audio.source_rate_hz,
        n_channels=audio.source_channels,
        second_decoder=audio.second_decoder,
    )


def _by_header(path: Path) -> Measured | None:
    """What libsndfile reads of the header; None leaves the file to the decoders."""
    if path.suffix.lower() == ".mp3":  # of which its decoder talks on stderr
        return None
    try:
        info = soundfile.info(path)
    except (RuntimeError, OSError, ValueError, TypeError):
        return None
    if not 0 < info.frames < 1 << 62:  # 2^63 - 1: the header does not tell
        return None
    return Measured(
        seconds=info.frames / info.samplerate,
        rate_hz=info.samplerate,
        n_channels=info.channels,
    )


def measure_all(
    trials: Sequence[Trial],
    *,
    deep: bool,
    threads: int | None = None,
    on_file: Callable[[], None] | None = None,
) -> Iterator[tuple[Trial, Measured]]:
    """Yield each trial with what its file holds, in order.

    Args:
        trials: Whose files to look at.
        deep: Decode every file.
        threads: How many at once; None: the cores this process may use, at most 16.
        on_file: Called after each file.
    """
    look = partial(measure, deep=deep)
    with ThreadPoolExecutor(threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        for start in range(0, len(trials), _BATCH):
            some = trials[start : start + _BATCH]
            found = pool.map(look, (trial.path for trial in some))
            for trial, file in zip(some, found, strict=True):
                yield trial, file
                if on_file is not None:
                    on_file()
