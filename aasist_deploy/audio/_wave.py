"""Decode a file into one wave, and bring a wave to the length of a window."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import soxr

from aasist_deploy.audio._decoders import (
    Blocks,
    RefusedError,
    Source,
    av_blocks,
    head_of,
    is_mpeg_audio,
    refusals,
    soundfile_blocks,
)
from aasist_deploy.errors import AudioError, ShapeError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SAMPLE_RATE_HZ: Final = 16_000  # of the ASVspoof corpora and of all published AASIST weights
N_SAMPLES: Final = (
    64_600  # 4.0375 s; the crop AASIST was trained on (data_utils.py, clovaai/aasist)
)
RESAMPLER_QUALITY: Final = "HQ"  # soxr: 20 bits, more than the 16 of any training corpus
MAX_SECONDS: Final = 86_400  # a day; a few bytes of compressed silence can claim far more

RATES_HZ: Final = range(1_000, 1_536_001)  # outside, a header is damaged or hostile

Decoder = Literal["soundfile", "av"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """What one file holds.

    Attributes:
        wave: (N,) float32, mono, at the rate that was asked for; in [-1, 1] for PCM sources.
        source_rate_hz: Sample rate of the file.
        source_channels: Channels of the file, before their mean was taken.
        seconds: Duration of the file: decoded, or as the header says when only a start was read.
        decoder: Who decoded it.
        second_decoder: Whether the first decoder refused the file.
        note: What a reader of the scores should know of this file, or None.
    """

    wave: NDArray[np.float32]
    source_rate_hz: int
    source_channels: int
    seconds: float
    decoder: Decoder
    second_decoder: bool = False
    note: str | None = None


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    max_samples: int | None = None,
) -> Audio:
    """Decode a file into a mono float32 wave.

    libsndfile decodes first. Files that it refuses go to PyAV (FFmpeg): m4a, webm, and FLAC files
    such as some of ASVspoof 2021 that are valid but that libsndfile loses sync on. MPEG audio goes
    to PyAV at once, because libsndfile's MP3 decoder writes on stderr and skips damaged frames.
    16-bit sources give x / 32768 exactly.

    Args:
        path: A regular file.
        sample_rate_hz: Rate of the result; the wave is resampled only when the file's differs.
        max_samples: Read no more of the file than the first `max_samples` of the result need. They
            equal those of a full read exactly.

    Returns:
        The wave, (N,) with N >= 1, fresh and writable, and where it came from.

    Raises:
        AudioError: The file is missing, unreadable, damaged or no audio, holds no samples, holds
            NaN or infinite samples, or lasts more than a day.
        UsageError: `sample_rate_hz` or `max_samples` is out of range.
    """
    if sample_rate_hz not in RATES_HZ:
        raise UsageError(f"sample_rate_hz is {sample_rate_hz}; it must be in 1000..1536000.")
    if max_samples is not None and max_samples < 1:
        raise UsageError(f"max_samples is {max_samples}; it must be at least 1.")
    file = Path(path)
    head = head_of(file)
    decoders: list[tuple[Decoder, Callable[[Path, Source], Blocks]]]
    decoders = [("soundfile", soundfile_blocks), ("av", av_blocks)]
    if is_mpeg_audio(file, head):
        decoders = decoders[1:]
    reasons: list[str] = []
    for decoder, blocks_of in decoders:
        source = Source()
        try:
            with closing(refusals(blocks_of(file, source))) as blocks:
                wave, seconds = _wave_of(file, blocks, source, sample_rate_hz, max_samples)
        except RefusedError as refusal:
            reasons.append(f"{decoder}: {refusal}")
            continue
        if reasons:
            logger.info("%s: decoded by %s after %s", file, decoder, reasons[0])
        return Audio(
            wave=wave,
            source_rate_hz=source.rate_hz,
            source_channels=source.channels,
            seconds=seconds,
            decoder=decoder,
            second_decoder=bool(reasons),
            note=source.note or (f"decoded by {decoder}; {reasons[0]}" if reasons else None),
        )
    raise AudioError(
        f"{file} cannot be decoded ({'; '.join(reasons)}).",
        fix="check that it is a whole audio file; other formats: ffmpeg -i FILE -ac 1 FILE.wav",
    )


def fit_length(wave: NDArray[np.floating[Any]], n_samples: int = N_SAMPLES) -> NDArray[np.float32]:
    """Cut a wave to its first samples, or tile it until it is long enough and then cut.

    Args:
        wave: (N,) floating-point samples, N >= 1.
        n_samples: Length of the result, at least 1.

    Returns:
        (n_samples,) float32, C-contiguous. A view of `wave` when that already is float32,
        contiguous and long enough; otherwise a fresh array. Never zero-padded.

    Raises:
        ShapeError: `wave` is not one-dimensional, is empty, or holds integers.
        UsageError: `n_samples` is below 1.

    Source: pad() in data_utils.py, clovaai/aasist.
    """
    if n_samples < 1:
        raise UsageError(f"n_samples is {n_samples}; it must be at least 1.")
    if wave.ndim != 1 or wave.size == 0:
        raise ShapeError(f"A wave has shape (N,) with N >= 1; this one has {wave.shape}.")
    if not np.issubdtype(wave.dtype, np.floating):
        raise ShapeError(
            f"A wave holds float samples in [-1, 1]; this one holds {wave.dtype}.",
            fix="divide 16-bit samples by 32768",
        )
    if wave.size < n_samples:
        wave = np.tile(wave, -(-n_samples // wave.size))
    return np.ascontiguousarray(wave[:n_samples], dtype=np.float32)


def _wave_of(
    file: Path,
    blocks: Blocks,
    source: Source,
    rate_hz: int,
    max_samples: int | None,
) -> tuple[NDArray[np.float32], float]:
    """Mix down, check and resample block by block; return the wave and the file's seconds."""
    parts: list[NDArray[np.float32]] = []
    n_read = n_out = n_bad = first_bad = 0
    resampler: soxr.ResampleStream | None = None
    exhausted = True
    for block in blocks:  # (n, channels)
        if n_read == 0:
            if source.rate_hz not in RATES_HZ:
                raise AudioError(f"{file} says its sample rate is {source.rate_hz} Hz.")
            if source.rate_hz != rate_hz:
                resampler = soxr.ResampleStream(
                    source.rate_hz, rate_hz, 1, dtype="float32", quality=RESAMPLER_QUALITY
                )
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            first_bad = first_bad if n_bad else n_read + int(bad.argmax())
            n_bad += int(bad.sum())
        n_read += len(block)
        if n_read > MAX_SECONDS * source.rate_hz:
            raise AudioError(
                f"{file} lasts more than {MAX_SECONDS // 3600} hours.", fix="split it first"
            )
        if not n_bad:
            part = mono(block)
            parts.append(part if resampler is None else resampler.resample_chunk(part))
            n_out += len(parts[-1])
        if max_samples is not None and n_out >= max_samples:
            exhausted = False
            break
    if n_bad:
        raise AudioError(f"{file} holds {n_bad} NaN or infinite samples, first at {first_bad}.")
    if resampler is not None and exhausted:
        parts.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    wave = np.concatenate(parts)[:max_samples] if parts else np.empty(0, np.float32)
    if wave.size == 0:
        raise AudioError(f"{file} holds no samples at {rate_hz} Hz ({n_read} before resampling).")
    if resampler is not None:
        check_resampled(wave, file, rate_hz)
    n_frames = n_read if exhausted or source.n_frames is None else source.n_frames
    return np.ascontiguousarray(wave, dtype=np.float32), n_frames / source.rate_hz


def check_resampled(part: NDArray[np.float32], name: str | Path, rate_hz: int) -> None:
    """Refuse samples that were finite and are not any more.

    Raises:
        AudioError: some are infinite or NaN.
    """
    if not np.isfinite(part).all():
        raise AudioError(
            f"{name} holds samples so large that they overflow when resampled to {rate_hz} Hz.",
            fix="scale it; full scale is 1",
        )


def mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, channels) -> (n,); the mean is taken in float64, so that equal channels stay exact."""
    if block.shape[1] == 1:
        return block[:, 0]
    return np.asarray(block.mean(axis=1, dtype=np.float64), dtype=np.float32)
