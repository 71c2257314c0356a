"""A source of any length as mono blocks at the model's rate, in memory that does not grow with it.

The samples are those of `read_audio`: the same decoders, the same mean over channels, the same
resampler, whose stream gives the bits of one call. What `read_audio` need not mind, a long
recording or a stream must: time that the container's timestamps miss comes as a `Gap` between
blocks, and the samples on either side of it are not joined.
"""

from __future__ import annotations

import logging
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import soxr

from aasist_deploy.audio._decoders import (
    RefusedError,
    Source,
    av_blocks,
    head_of,
    is_mpeg_audio,
    refusals,
    soundfile_blocks,
)
from aasist_deploy.audio._wave import (
    RATES_HZ,
    RESAMPLER_QUALITY,
    SAMPLE_RATE_HZ,
    Decoder,
    check_resampled,
    mono,
)
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.audio._decoders import Blocks

logger = logging.getLogger(__name__)

CLIPPED: Final = 32_767 / 32_768  # the largest positive 16-bit sample


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that the source lost, between two blocks.

    Attributes:
        seconds: How much time is missing, at least 0; None when nobody knows.
        reason: What happened, a part of a sentence.
    """

    seconds: float | None
    reason: str


Item: TypeAlias = "NDArray[np.float32] | Gap"


@dataclass(slots=True)
class Heard:
    """What is known of a source, kept up to date while its blocks are read.

    Attributes:
        source_rate_hz: Its sample rate; 0 until the first block.
        source_channels: Its channels.
        n_frames: How many samples of each channel it declares, or None.
        decoder: Who decodes it.
        note: What a reader of the scores should know, or None.
        n_read: Samples of each channel that were read.
        n_clipped: Of them, those at or above full scale in some channel.
        n_zero: Of them, those that are exactly zero in all channels.
        peak: Largest magnitude of the last block, of any channel.
    """

    source_rate_hz: int = 0
    source_channels: int = 0
    n_frames: int | None = None
    decoder: str = ""
    note: str | None = None
    n_read: int = 0
    n_clipped: int = 0
    n_zero: int = 0
    peak: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration of what was read."""
        return self.n_read / self.source_rate_hz if self.source_rate_hz else 0.0


def file_blocks(
    path: Path, heard: Heard, *, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> Iterator[Item]:
    """Decode a regular file of any length.

    A file that the first decoder refuses in the middle goes on with the second one, when what that
    one decodes up to there is the same, bit for bit.

    Args:
        path: The file.
        heard: Is filled in.
        sample_rate_hz: Rate of the blocks.

    Returns:
        An iterator over (n,) float32 blocks, n >= 1, and gaps. All blocks together are the wave of
        `read_audio` where there is no gap.

    Raises:
        AudioError: While iterating: as `read_audio` raises it, after the blocks before the damage.
            There is no limit of length.
    """
    return converted(_decoded(path, head_of(path), heard), heard, str(path), sample_rate_hz)


def converted(
    blocks: Iterable[NDArray[np.float32] | Gap], heard: Heard, name: str, rate_hz: int
) -> Iterator[Item]:
    """Mix down, check and resample (n, channels) blocks at `heard.source_rate_hz`.

    Args:
        blocks: What a source gives; `heard` knows its rate before the first of them.
        heard: Is kept up to date.
        name: Of the source, for messages.
        rate_hz: Of the result.

    Raises:
        AudioError: The rate is none, samples are NaN or infinite, or become so when resampled, or
            there are no samples.
    """
    resampler: soxr.ResampleStream | None = None
    n_out = 0
    for block in blocks:
        if isinstance(block, Gap):
            if resampler is not None:  # what comes next does not continue what came before
                part = resampler.resample_chunk(_NOTHING, last=True)
                check_resampled(part, name, rate_hz)
                yield from _not_empty(part)
                resampler = None
            yield block
            continue
        source_rate_hz = heard.source_rate_hz
        if source_rate_hz not in RATES_HZ:
            raise AudioError(f"{name} says its sample rate is {source_rate_hz} Hz.")
        if source_rate_hz != rate_hz and resampler is None:
            resampler = soxr.ResampleStream(
                source_rate_hz, rate_hz, 1, dtype="float32", quality=RESAMPLER_QUALITY
            )
        good, refusal = _listen(block, heard, name)
        if len(good):
            part = mono(good)
            if resampler is not None:
                part = resampler.resample_chunk(part)
                check_resampled(part, name, rate_hz)
            n_out += len(part)
            yield from _not_empty(part)
        if refusal is not None:
            raise refusal
    if resampler is not None:
        part = resampler.resample_chunk(_NOTHING, last=True)
        check_resampled(part, name, rate_hz)
        n_out += len(part)
        yield from _not_empty(part)
    if n_out == 0:
        raise AudioError(
            f"{name} holds no samples at {rate_hz} Hz ({heard.n_read} before resampling)."
        )


_NOTHING: Final = np.empty(0, np.float32)


def _not_empty(part: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    if len(part):
        yield np.ascontiguousarray(part, dtype=np.float32)


def _listen(
    block: NDArray[np.float32], heard: Heard, name: str
) -> tuple[NDArray[np.float32], AudioError | None]:
    """Count what a reader of scores should know of.

    Returns:
        The block up to the first samples that are no sound, and the error that those are.
    """
    refusal: AudioError | None = None
    loudness = np.abs(block).max(axis=1)
    if not np.isfinite(loudness).all():
        n_good = int((~np.isfinite(loudness)).argmax())
        place = heard.n_read + n_good
        refusal = AudioError(f"{name} holds NaN or infinite samples, first at {place}.")
        block, loudness = block[:n_good], loudness[:n_good]
        if not n_good:
            return block, refusal
    heard.peak = float(loudness.max())
    heard.n_clipped += int(np.count_nonzero(loudness >= CLIPPED))
    heard.n_zero += int(np.count_nonzero(loudness == 0))
    heard.n_read += len(block)
    return block, refusal


def gaps_between(blocks: Blocks, source: Source) -> Iterator[NDArray[np.float32] | Gap]:
    """Put a `Gap` before each block whose timestamp does not follow from the block before."""
    for block in blocks:
        if source.gap_s is not None:
            missing_s, source.gap_s = source.gap_s, None
            what = "jump" if missing_s > 0 else "go back"
            yield Gap(max(0.0, missing_s), f"timestamps {what} by {abs(missing_s):.3f} s")
        yield block


def _decoded(path: Path, head: bytes, heard: Heard) -> Iterator[NDArray[np.float32] | Gap]:
    decoders: list[tuple[Decoder, Callable[[Path, Source], Blocks]]]
    decoders = [("soundfile", soundfile_blocks), ("av", av_blocks)]
    if is_mpeg_audio(path, head):
        decoders = decoders[1:]
    reasons: list[str] = []
    given = _Given()
    for decoder, blocks_of in decoders:
        source = Source()
        given.start_again()
        try:
            with closing(refusals(blocks_of(path, source))) as blocks:
                for item in gaps_between(blocks, source):
                    if isinstance(item, Gap):
                        if not given.n_again:  # otherwise it lies in what was passed on without it
                            yield item
                        continue
                    block = given.rest_of(item)
                    if len(block):
                        _note(heard, decoder, source, reasons)
                        yield block
                given.check_end()
                _note(heard, decoder, source, reasons)
        except RefusedError as refusal:
            reasons.append(f"{decoder}: {refusal}")
            continue
        if reasons:
            logger.info("%s: decoded by %s after %s", path, decoder, reasons[0])
        return
    after = f" after {heard.seconds:.2f} s" if heard.n_read else ""
    raise AudioError(
        f"{path} cannot be decoded{after} ({'; '.join(reasons)}).",
        fix="check that it is a whole audio file; other formats: ffmpeg -i FILE -ac 1 FILE.wav",
    )


class _Given:
    """What was passed on, so that the next decoder can go on behind it."""

    def __init__(self) -> None:
        self._n_samples, self._hash = 0, 0
        self.n_again, self._hash_again = 0, 0  # still to be skipped; hash of what was

    def start_again(self) -> None:
        self.n_again, self._hash_again = self._n_samples, 0

    def check_end(self) -> None:
        """Refuse a decoder that ends before what was passed on.

        Raises:
            RefusedError: it did.
        """
        if self.n_again:
            raise RefusedError(f"{self.n_again} samples fewer than were decoded before")

    def rest_of(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of the decoder's next block that was not passed on before.

        Raises:
            RefusedError: what was passed on before is not what this decoder gives.
        """
        again, rest = block[: self.n_again], block[self.n_again :]
        if len(again):
            self.n_again -= len(again)
            self._hash_again = zlib.crc32(again.tobytes(), self._hash_again)
            if not self.n_again and self._hash_again != self._hash:
                raise RefusedError(f"other samples before {self._n_samples}")
        self._n_samples += len(rest)
        self._hash = zlib.crc32(rest.tobytes(), self._hash)
        return rest


def _note(heard: Heard, decoder: Decoder, source: Source, reasons: list[str]) -> None:
    if heard.n_read and (source.rate_hz, source.channels) != (
        heard.source_rate_hz,
        heard.source_channels,
    ):
        raise RefusedError(f"{source.rate_hz} Hz, {source.channels} channels")
    heard.source_rate_hz, heard.source_channels = source.rate_hz, source.channels
    heard.n_frames, heard.decoder = source.n_frames, decoder
    heard.note = source.note or (f"decoded by {decoder}; {reasons[0]}" if reasons else None)
