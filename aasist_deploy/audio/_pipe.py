"""Samples that arrive: a container or raw PCM from a pipe, with words for when nothing comes."""

from __future__ import annotations

import os
import select
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from aasist_deploy.audio._blocks import Gap, Heard, Item, converted, gaps_between
from aasist_deploy.audio._decoders import RefusedError, Source, container_blocks, refusals
from aasist_deploy.audio._wave import RATES_HZ, SAMPLE_RATE_HZ
from aasist_deploy.errors import AudioError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

PcmFormat = Literal["u8", "s16le", "s24le", "s32le", "f32le"]
PCM_FORMATS: Final[dict[PcmFormat, int]] = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
MAX_CHANNELS: Final = 64
_READ_BYTES: Final = 65_536  # what a pipe of Linux holds
# FFmpeg looks at up to 5 MB or 5 s of a stream before the first sample unless told otherwise, and
# a live listener would wait. 32 KiB hold the headers of all containers that are streamed.
_LIVE: Final = {"probesize": "32768", "analyzeduration": "0"}


class Stop(Protocol):
    """Something that may ask to end, such as a signal that arrived."""

    @property
    def requested(self) -> bool:
        """Whether it asks."""
        ...

    def fileno(self) -> int:
        """A descriptor that becomes readable when it asks."""
        ...


@dataclass(slots=True)
class Pipe:
    """Bytes of a descriptor, as they come.

    Attributes:
        fd: Descriptor to read from.
        name: For messages.
        stop: May ask to end; the pipe is at its end then.
        stall_s: Seconds without a byte after which `on_stall` is called, once for each stall.
        timeout_s: Seconds without a byte after which the pipe counts as broken, or None.
        on_stall: Called with the seconds that nothing came.
        timed_out: Whether it ended that way.
    """

    fd: int
    name: str
    stop: Stop | None = None
    stall_s: float = 5.0
    timeout_s: float | None = None
    on_stall: Callable[[float], None] | None = None
    timed_out: bool = False

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes as soon as there are any; none at the end."""
        began = time.monotonic()
        told = False
        while not self.stopped:
            waited = time.monotonic() - began
            if self.timeout_s is not None and waited >= self.timeout_s:
                self.timed_out = True
                break
            if not told and waited >= self.stall_s:
                told = True
                if self.on_stall is not None:
                    self.on_stall(waited)
            limits = [] if told else [self.stall_s]
            limits += [] if self.timeout_s is None else [self.timeout_s]
            wait = max(0.0, min(limits) - waited) if limits else None
            watched = [self.fd] if self.stop is None else [self.fd, self.stop.fileno()]
            if self.fd in select.select(watched, [], [], wait)[0] and not self.stopped:
                return os.read(self.fd, size if size > 0 else _READ_BYTES)
        return b""

    @property
    def stopped(self) -> bool:
        """Whether it was asked to end."""
        return self.stop is not None and self.stop.requested


def check_pcm(rate_hz: int, channels: int) -> None:
    """Refuse what raw PCM cannot be.

    Raises:
        UsageError: The rate or the number of channels is out of range.
    """
    if rate_hz not in RATES_HZ:
        raise UsageError(f"--rate is {rate_hz}; it must be in 1000..1536000 Hz.")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UsageError(f"--channels is {channels}; it must be in 1..{MAX_CHANNELS}.")


def pcm_blocks(
    pipe: Pipe,
    heard: Heard,
    *,
    format_: PcmFormat,
    rate_hz: int,
    channels: int,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> Iterator[Item]:
    """Blocks of raw interleaved PCM, scaled as `read_audio` scales files.

    Args:
        pipe: Where it comes from.
        heard: Is kept up to date; its note says so when the stream ends within a sample.
        format_: Sample type.
        rate_hz: Of the stream.
        channels: Of the stream.
        sample_rate_hz: Rate of the blocks.

    Raises:
        UsageError: The rate or the number of channels is out of range.
        AudioError: While iterating: samples are NaN or infinite, there are none, or the pipe
            timed out.
    """
    check_pcm(rate_hz, channels)
    heard.source_rate_hz, heard.source_channels, heard.decoder = rate_hz, channels, format_
    frame_bytes = PCM_FORMATS[format_] * channels

    def blocks() -> Iterator[NDArray[np.float32] | Gap]:
        rest = b""
        while data := pipe.read(_READ_BYTES):
            data = rest + data
            whole = len(data) // frame_bytes * frame_bytes
            rest = data[whole:]
            if whole:
                yield _pcm_to_float(data[:whole], format_).reshape(-1, channels)
        if rest and not pipe.stopped:
            heard.note = f"ended within a sample: {len(rest)} bytes are left"
        _check_time(pipe)

    items = converted(blocks(), heard, pipe.name, sample_rate_hz)
    return items if pipe.stop is None else unless_stopped(items, pipe.stop)


def pipe_blocks(
    pipe: Pipe, heard: Heard, *, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> Iterator[Item]:
    """Blocks and gaps of a container on a pipe: WAV, FLAC, Ogg, Matroska, MPEG-TS and others.

    Args:
        pipe: Where it comes from; nothing is sought in it, and its length need not be known.
        heard: Is kept up to date; its note says so when less came than the header declares.
        sample_rate_hz: Rate of the blocks.

    Raises:
        AudioError: While iterating: it cannot be decoded, holds NaN or no samples, changes its rate
            or channels, or the pipe timed out.
    """

    def blocks() -> Iterator[NDArray[np.float32] | Gap]:
        source = Source()
        try:
            with closing(refusals(container_blocks(pipe, source, _LIVE))) as inner:
                for item in gaps_between(inner, source):
                    heard.source_rate_hz, heard.source_channels = source.rate_hz, source.channels
                    heard.decoder = "av"
                    yield item
        except RefusedError as refusal:
            if pipe.stopped:
                return
            _check_time(pipe)
            after = f" after {heard.seconds:.2f} s" if heard.n_read else ""
            raise AudioError(
                f"{pipe.name} cannot be decoded{after} ({refusal}).",
                fix="raw samples need --format, e.g. --format s16le --rate 16000",
            ) from refusal
        _check_time(pipe)

    items = converted(blocks(), heard, pipe.name, sample_rate_hz)
    return items if pipe.stop is None else unless_stopped(items, pipe.stop)


def unless_stopped(items: Iterator[Item], stop: Stop) -> Iterator[Item]:
    """The items; what goes wrong because the user ended the stream is no error."""
    try:
        yield from items
    except AudioError:
        if not stop.requested:
            raise


def _check_time(pipe: Pipe) -> None:
    if pipe.timed_out:
        raise AudioError(
            f"{pipe.name} gave nothing for {pipe.timeout_s:g} s.",
            fix="check what writes into it; --timeout 0 waits for ever",
        )


def _pcm_to_float(data: bytes, format_: PcmFormat) -> NDArray[np.float32]:
    if format_ == "f32le":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if format_ == "u8":
        return ((np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128).astype(np.float32)
    if format_ == "s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)
    if format_ == "s24le":
        high = np.zeros((len(data) // 3, 4), np.uint8)  # shifted by 8 bits: the sign is in place
        high[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (high.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, "<i4") / 2.0**31).astype(np.float32)
