"""The two decoders: each yields a file's samples block by block, or refuses the file."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import soundfile

from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_BLOCK_FRAMES: Final = 65_536  # 4 s at 16 kHz; fewer when a file has many channels
_MIN_BLOCK_FRAMES: Final = 4_096
_FRAMES_UNKNOWN: Final = 1 << 62  # libsndfile says 2^63 - 1 when the header does not tell

# Timestamps that differ by more from where the samples before them end show lost samples:
# containers round them to milliseconds, and few codecs have packets below 10 ms.
GAP_S: Final = 0.005

# Only containers that hold their own data. Playlists and concat scripts, which make FFmpeg open
# other files and addresses, are not among them.
_AV_FORMATS: Final = (
    "3g2,3gp,aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,m4a,matroska,mj2,mov,mp3,"
    "mp4,mpeg,mpegts,ogg,tta,voc,w64,wav,webm,wv"
)


class RefusedError(Exception):
    """A decoder cannot read the file; another one may."""


Blocks: TypeAlias = "Generator[NDArray[np.float32], None, None]"  # each (n, channels), n >= 1


class _QuietFile(io.FileIO):
    """A file that answers a seek to nowhere with FFmpeg's error code.

    PyAV prints the traceback of what such a seek raises, and goes on.
    """

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


@dataclass(slots=True)
class Source:
    """What a decoder knows of its file, filled in before it yields the first block."""

    rate_hz: int = 0
    channels: int = 0
    n_frames: int | None = None  # as the header declares
    note: str | None = None
    # Time that the timestamps miss just before the block that comes next; a reader that minds sets
    # it back to None. Negative where they go back.
    gap_s: float | None = None


def refusals(blocks: Blocks) -> Blocks:
    """Turn whatever a decoder raises on a bad file into a refusal with a one-line reason."""
    try:
        yield from blocks
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # decoders raise a dozen types on hostile files
        text = getattr(error, "error_string", None) or getattr(error, "strerror", None)
        reason = " ".join(str(text or error).split()).removeprefix("Error : ").rstrip(" .:")
        raise RefusedError(reason or type(error).__name__) from error


def soundfile_blocks(file: Path, source: Source) -> Blocks:
    with soundfile.SoundFile(file) as sound:
        source.rate_hz, source.channels = sound.samplerate, sound.channels
        if 0 < sound.frames < _FRAMES_UNKNOWN:
            source.n_frames = sound.frames
        if sound.format in {"WAV", "WAVEX", "RF64", "W64"} and "should be" in sound.extra_info:
            source.note = "the header declares another length than the file holds"
        n_block = max(_MIN_BLOCK_FRAMES, _BLOCK_FRAMES // source.channels)
        n_read = 0
        while len(block := sound.read(n_block, dtype="float32", always_2d=True)):
            n_read += len(block)
            yield block
        if source.n_frames is not None and n_read < source.n_frames:
            raise RefusedError(f"{n_read} of {source.n_frames} declared samples")


def av_blocks(file: Path, source: Source) -> Blocks:
    # A file object, so that no part of a file name is taken for a protocol.
    with _QuietFile(file) as raw:
        yield from container_blocks(raw, source)


def container_blocks(
    raw: object, source: Source, options: Mapping[str, str] | None = None
) -> Blocks:
    """Blocks of a container that `raw.read(n)` gives, which need not have an end or a `seek`."""
    import av

    limits = {"format_whitelist": _AV_FORMATS, "protocol_whitelist": "none"}
    with av.open(
        raw, mode="r", metadata_errors="replace", options={**(options or {}), **limits}
    ) as container:
        if not container.streams.audio:
            raise RefusedError("no audio stream")
        stream = container.streams.audio[0]
        is_flac = stream.codec_context.name == "flac"
        if is_flac:  # FFmpeg checks the checksum of each frame only when told to
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        n_read = 0
        due_s: float | None = None  # when the next frame starts, if nothing is missing
        for frame in container.decode(stream):
            if n_read == 0:
                source.rate_hz, source.channels = frame.sample_rate, frame.layout.nb_channels
                if stream.duration is not None and stream.time_base is not None:
                    source.n_frames = int(stream.duration * stream.time_base * source.rate_hz)
                elif container.duration is not None:
                    source.n_frames = container.duration * source.rate_hz // av.time_base
            if (frame.sample_rate, frame.layout.nb_channels) != (source.rate_hz, source.channels):
                raise RefusedError(
                    f"changes from {source.rate_hz} Hz, {source.channels} channels to "
                    f"{frame.sample_rate} Hz, {frame.layout.nb_channels} channels"
                )
            # A damaged FLAC frame is dropped without an error, and shows as a gap in time.
            if is_flac and (
                frame.pts is None
                or frame.time_base is None
                or frame.pts * frame.time_base * source.rate_hz != n_read
            ):
                raise RefusedError(f"damaged after sample {n_read}")
            if frame.pts is not None and frame.time_base is not None:
                start_s = float(frame.pts * frame.time_base)
                if due_s is not None and abs(start_s - due_s) > GAP_S:
                    source.gap_s = start_s - due_s
                due_s = start_s
            if due_s is not None:
                due_s += frame.samples / source.rate_hz
            n_read += frame.samples
            yield _float32(frame.to_ndarray(), source.channels, planar=frame.format.is_planar)
        if n_read == 0:
            raise RefusedError("no samples")
        if is_flac and source.n_frames is not None and n_read < source.n_frames:
            raise RefusedError(f"{n_read} of {source.n_frames} declared samples")


def _float32(samples: NDArray[Any], channels: int, *, planar: bool) -> NDArray[np.float32]:
    """(channels, n) or (1, n * channels) of any sample type -> (n, channels) in [-1, 1]."""
    frames = samples.T if planar else samples.reshape(-1, channels)
    if frames.dtype == np.uint8:
        return ((frames.astype(np.float32) - 128) / 128).astype(np.float32)
    if np.issubdtype(frames.dtype, np.integer):
        return (frames / float(1 << (8 * frames.itemsize - 1))).astype(np.float32)
    return frames.astype(np.float32)


def head_of(file: Path) -> bytes:
    """The first bytes of a regular file; everything that cannot be one is refused by name."""
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(file).close()  # of a folder that cannot be read, say that
            raise AudioError(f"{file} is a folder, not an audio file.")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or device could block for ever
            raise AudioError(f"{file} is not a regular file.", fix="write it to a file first")
        with file.open("rb") as raw:
            head = raw.read(12)
    except FileNotFoundError as error:
        raise AudioError(f"{file} does not exist.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{str(file)!r} cannot be read ({reason}).") from error
    if not head:
        raise AudioError(f"{file} is empty (0 bytes).")
    return head


def is_mpeg_audio(file: Path, head: bytes) -> bool:
    """Whether libsndfile would hand the file to its MP3 decoder."""
    synced = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    known = head[:4] in {b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff"}
    return head.startswith(b"ID3") or synced or (file.suffix.lower() == ".mp3" and not known)
