"""The stage that needs no engine: a file to samples.

`sound_of` knows of no model and no scheduler, so it runs in a thread, in a process of its own
(`aasist_deploy.pipeline.isolated`) or on another machine.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

import numpy as np

from aasist_deploy.audio import Gap, Heard, file_blocks, read_audio
from aasist_deploy.errors import AudioError
from aasist_deploy.inputs import MAX_MEMBER_BYTES, Address, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.inputs import AudioInput

PIECE_SAMPLES: Final = 1 << 18  # most samples of one piece: 1 MB, 16 s at 16 kHz
_NOTHING: Final = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be read of each file.

    Attributes:
        sample_rate_hz: Rate of the samples.
        max_samples: No more than these first samples; None for all.
        whole: Read as one wave of at most `max_samples`; otherwise in pieces, in memory that does
            not grow with the file.
    """

    sample_rate_hz: int
    max_samples: int | None
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a file at its end.

    Attributes:
        seconds: Duration of its audio.
        resampled: It had another rate.
        second_decoder: The usual decoder refused it.
        note: What a reader of the score should know, or None.
    """

    seconds: float
    resampled: bool = False
    second_decoder: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples of one file, in order.

    Attributes:
        samples: (n,) float32; n may be 0 in the last piece.
        joined: Whether they follow the piece before without a gap.
        about: Of the file; with its last piece only.
    """

    samples: NDArray[np.float32]
    joined: bool = True
    about: About | None = None


class Decoders(Protocol):
    """Something that decodes files, several at once when several threads ask."""

    def pieces(self, source: AudioInput, wanted: Wanted) -> Iterator[Piece]:
        """The samples of one file.

        Raises:
            AudioError: while iterating; the file cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Let go of what decoding needs; a second call does nothing."""
        ...


def let_go(pieces: Iterator[Piece]) -> None:
    """End the decoding of a file of which no more is wanted; a second call does nothing."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


class InThreads:
    """Decodes in the threads that ask; libsndfile releases the interpreter's lock."""

    def pieces(self, source: AudioInput, wanted: Wanted) -> Iterator[Piece]:
        """See `Decoders`."""
        return sound_of(source, wanted)

    def close(self) -> None:
        """Nothing to let go of."""


def sound_of(source: AudioInput, wanted: Wanted) -> Iterator[Piece]:
    """Decode one file.

    Yields:
        Pieces of at most `PIECE_SAMPLES` samples; the last one says what is known of the file.

    Raises:
        AudioError: while iterating; the message names the file as `source` does.
    """
    try:
        with _as_file(source) as path:
            try:
                yield from (_whole if wanted.whole else _in_blocks)(path, wanted)
            except AudioError as error:
                if path is source.path:
                    raise
                message = str(error).replace(str(path), str(source.path))
                raise AudioError(message, fix=error.fix) from error
    except MemoryError as error:
        raise AudioError(f"{source.path} needs more memory than there is.") from error
    except OSError as error:  # too many open files, no memory or disk for what is in no file
        reason = error.strerror or error
        raise AudioError(f"{source.path} cannot be brought to a decoder ({reason}).") from error


def _whole(path: Path, wanted: Wanted) -> Iterator[Piece]:
    audio = read_audio(path, sample_rate_hz=wanted.sample_rate_hz, max_samples=wanted.max_samples)
    about = About(
        seconds=audio.seconds,
        resampled=audio.source_rate_hz != wanted.sample_rate_hz,
        second_decoder=audio.second_decoder,
        note=audio.note,
    )
    wave = audio.wave
    while len(wave) > PIECE_SAMPLES:
        yield Piece(wave[:PIECE_SAMPLES])
        wave = wave[PIECE_SAMPLES:]
    yield Piece(wave, about=about)


def _in_blocks(path: Path, wanted: Wanted) -> Iterator[Piece]:
    heard = Heard()
    n_given, joined, n_gaps = 0, True, 0
    left = wanted.max_samples
    for item in file_blocks(path, heard, sample_rate_hz=wanted.sample_rate_hz):
        if isinstance(item, Gap):
            joined, n_gaps = False, n_gaps + 1
            continue
        block = item if left is None else item[: left - n_given]
        for start in range(0, len(block), PIECE_SAMPLES):
            yield Piece(block[start : start + PIECE_SAMPLES], joined)
            joined = True
        n_given += len(block)
        if n_given == left:
            break
    ended = left is None or n_given < left
    declared = heard.n_frames if not ended else None
    seconds = heard.seconds if declared is None else declared / heard.source_rate_hz
    gaps = f"{n_gaps} gaps in its time" if n_gaps else None
    yield Piece(
        _NOTHING,
        about=About(
            seconds=seconds,
            resampled=heard.source_rate_hz != wanted.sample_rate_hz,
            second_decoder=bool(heard.note and heard.note.startswith("decoded by")),
            note="; ".join(filter(None, (heard.note, gaps))) or None,
        ),
    )


@contextmanager
def _as_file(source: AudioInput) -> Iterator[Path]:
    """A place from which decoders read the file: its own, or one in memory for what lies elsewhere.

    Decoders are faster on a file than on Python's file objects, and FFmpeg can seek in it.
    """
    if source.content is None and isinstance(source.path, Path):
        yield source.path
    elif hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("audio", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                _write(source, file)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile(suffix=source.path.suffix) as file:
            _write(source, file)
            file.flush()
            yield Path(file.name)


def _write(source: AudioInput, file: IO[bytes]) -> None:
    if source.content is not None:
        file.write(source.content)
    elif isinstance(source.path, Address):
        fetch(source.path, file, MAX_MEMBER_BYTES)
