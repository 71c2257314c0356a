"""Encode and decode in memory: by FFmpeg through PyAV, and by libsndfile."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
import soundfile

from aasist_deploy.degradations.base import Wave, as_wave
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLE_FORMATS: Final = ("fltp", "flt", "s16", "s16p")  # float where the encoder takes it
_BLOCK_SECONDS: Final = 0.02  # for encoders that take blocks of any size
_SNDFILE_BLOCK: Final = 4_096  # libsndfile's Vorbis encoder overruns its stack on large writes


class Coder(Protocol):
    """Something that encodes and decodes."""

    @property
    def label(self) -> str:
        """Library and encoder, for a person."""
        ...

    def code(self, wave: Wave, rate_hz: int, bit_rate: int | None) -> tuple[Wave, int, int]:
        """Decoded samples with all delay and padding, their rate in Hz, and the encoded bytes.

        Raises:
            AudioError: There is no such encoder, or it fails.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AvCoder:
    """An encoder and a decoder of FFmpeg, packet by packet, without a container.

    Attributes:
        encoder: FFmpeg's name.
        decoder: FFmpeg's name.
        options: Of the encoder.
    """

    encoder: str
    decoder: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Library and encoder."""
        return f"FFmpeg {self.encoder}"

    def code(self, wave: Wave, rate_hz: int, bit_rate: int | None) -> tuple[Wave, int, int]:
        """See `Coder.code`."""
        import av

        try:
            return self._code(wave, rate_hz, bit_rate)
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"{self.label} failed: {error}") from error

    def _code(self, wave: Wave, rate_hz: int, bit_rate: int | None) -> tuple[Wave, int, int]:
        encoder, decoder = _context(self.encoder, "w"), _context(self.decoder, "r")
        formats = [known.name for known in encoder.codec.audio_formats or ()]
        chosen = next((name for name in _SAMPLE_FORMATS if name in formats), None)
        if chosen is None:
            raise AudioError(f"{self.label} takes {formats}, none of {_SAMPLE_FORMATS}")
        encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", chosen
        encoder.time_base, encoder.options = Fraction(1, rate_hz), dict(self.options)
        if bit_rate is not None:
            encoder.bit_rate = bit_rate
        encoder.open()
        decoder.sample_rate, decoder.layout = rate_hz, "mono"
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        parts: list[Wave] = []
        n_bytes, decoded_hz = 0, rate_hz
        for packet in _packets(encoder, wave, rate_hz, chosen):
            n_bytes += 0 if packet is None else packet.size
            for frame in decoder.decode(packet):
                decoded_hz = frame.sample_rate
                parts.append(_samples(frame))
        if not parts:
            raise AudioError(f"{self.label} gave nothing that {self.decoder} decodes")
        return np.concatenate(parts), decoded_hz, n_bytes


def _context(name: str, mode: Literal["r", "w"]) -> Any:  # noqa: ANN401
    import av

    try:
        return av.CodecContext.create(name, mode)
    except av.codec.codec.UnknownCodecError as error:
        raise AudioError(
            f"FFmpeg {av.ffmpeg_version_info} in PyAV {av.__version__} has no "
            f"{'encoder' if mode == 'w' else 'decoder'} {name}"
        ) from error


def _packets(encoder: Any, wave: Wave, rate_hz: int, sample_format: str) -> Iterator[Any]:  # noqa: ANN401
    """All packets, then None: the sign for a decoder to give what it holds back."""
    import av

    size = encoder.frame_size or round(_BLOCK_SECONDS * rate_hz)
    wave = np.pad(wave, (0, -len(wave) % size))
    samples: Any = wave
    if sample_format.startswith("s16"):
        samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    for start in range(0, len(samples), size):
        block = samples[None, start : start + size]
        frame = av.AudioFrame.from_ndarray(block, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        yield from encoder.encode(frame)
    yield from encoder.encode(None)
    yield None


def _samples(frame: Any) -> Wave:  # noqa: ANN401
    """The first channel of a decoded frame, in [-1, 1] for PCM."""
    values = frame.to_ndarray()
    values = values[0] if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    values = values if values.ndim == 1 else values[:, 0]
    if np.issubdtype(values.dtype, np.integer):
        return as_wave(values / float(1 << (8 * values.dtype.itemsize - 1)))
    return as_wave(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SndfileCoder:
    """A container and subtype of libsndfile; it compensates delays by itself where the format can.

    Attributes:
        container: libsndfile's name, e.g. "OGG".
        subtype: libsndfile's name, e.g. "VORBIS".
    """

    container: str
    subtype: str

    @property
    def label(self) -> str:
        """Library and encoder."""
        return f"libsndfile {self.container}/{self.subtype}"

    def code(self, wave: Wave, rate_hz: int, bit_rate: int | None) -> tuple[Wave, int, int]:
        """See `Coder.code`; there is no bit rate to choose."""
        if bit_rate is not None:
            raise AudioError(f"{self.label} takes no bit rate")
        if not soundfile.check_format(self.container, self.subtype):
            raise AudioError(f"libsndfile {soundfile.__libsndfile_version__} lacks {self.label}")
        memory = io.BytesIO()
        try:
            with soundfile.SoundFile(
                memory, "w", rate_hz, 1, subtype=self.subtype, format=self.container
            ) as file:
                for start in range(0, len(wave), _SNDFILE_BLOCK):
                    file.write(wave[start : start + _SNDFILE_BLOCK])
            n_bytes = memory.tell()
            memory.seek(0)
            decoded, decoded_hz = soundfile.read(memory, dtype="float32")
        except (soundfile.LibsndfileError, ValueError) as error:
            raise AudioError(f"{self.label} failed: {error}") from error
        return as_wave(decoded), int(decoded_hz), n_bytes
