"""Codecs: what is said over a telephone, a messenger or the radio, by the encoders that are here.

Clips are encoded and decoded in memory by FFmpeg (PyAV) or, where its build has no encoder, by
libsndfile. Each codec is first tried on a probe: whether it works at all, and by how many samples
it delays, is measured rather than believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import soxr

from aasist_deploy.degradations.base import Condition, Context, Wave, as_wave
from aasist_deploy.degradations.coders import AvCoder, Coder, SndfileCoder
from aasist_deploy.degradations.room import QUALITY, exact_length
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Mapping

TAIL_SECONDS: Final = 0.25  # zeros after the clip, so that the delayed end comes out of the decoder
DELAY_SEARCH_SECONDS: Final = (-0.05, TAIL_SECONDS)
PROBE_SECONDS: Final = 2.0
# Measured: 0.85 (AMR-NB at 4.75 kbit/s) to 1.00 (G.711). Below this it is not the same sound.
MIN_PROBE_CORRELATION: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A codec at one rate.

    Attributes:
        name: Name of the condition.
        meaning: For a person.
        rate_hz: Sample rate it is fed with.
        coders: Encoders that can make it, best first.
        bit_rate: Asked for, in bit/s; None where the codec has one only, or is set by quality.
    """

    name: str
    meaning: str
    rate_hz: int
    coders: tuple[Coder, ...]
    bit_rate: int | None = None


def _av(name: str, decoder: str, **options: str) -> AvCoder:
    return AvCoder(encoder=name, decoder=decoder, options=tuple(options.items()))


_OPUS: Final = (_av("libopus", "opus", application="voip"),)
_AMR_NB: Final = (_av("libopencore_amrnb", "amrnb"),)
_AMR_WB: Final = (_av("libvo_amrwbenc", "amrwb"),)

CODECS: Final = (
    *(
        Codec(
            name=f"mp3-{kbps}k",
            meaning=f"MP3, {kbps} kbit/s",
            rate_hz=16_000,
            coders=(_av("libmp3lame", "mp3float"),),
            bit_rate=kbps * 1000,
        )
        for kbps in (64, 32)
    ),
    *(
        Codec(
            name=f"aac-{kbps}k",
            meaning=f"AAC-LC, {kbps} kbit/s",
            rate_hz=16_000,
            coders=(_av("aac", "aac"),),
            bit_rate=kbps * 1000,
        )
        for kbps in (48, 24)
    ),
    *(
        Codec(
            name=f"opus-{kbps}k",
            meaning=f"Opus for speech, {kbps} kbit/s: messengers, WebRTC",
            rate_hz=16_000,
            coders=_OPUS,
            bit_rate=kbps * 1000,
        )
        for kbps in (32, 16)
    ),
    Codec(
        name="vorbis",
        meaning="Ogg Vorbis, the encoder's usual quality",
        rate_hz=16_000,
        # FFmpeg's own encoder "vorbis" is experimental and stereo only: not what anybody hears.
        coders=(_av("libvorbis", "vorbis"), SndfileCoder(container="OGG", subtype="VORBIS")),
    ),
    Codec(
        name="g711-alaw",
        meaning="G.711 A-law at 8 kHz: European landlines",
        rate_hz=8_000,
        coders=(_av("pcm_alaw", "pcm_alaw"), SndfileCoder(container="WAV", subtype="ALAW")),
    ),
    Codec(
        name="g711-mulaw",
        meaning="G.711 mu-law at 8 kHz: American landlines",
        rate_hz=8_000,
        coders=(_av("pcm_mulaw", "pcm_mulaw"), SndfileCoder(container="WAV", subtype="ULAW")),
    ),
    Codec(
        name="g722",
        meaning="G.722, 64 kbit/s: wideband desk telephones",
        rate_hz=16_000,
        coders=(_av("g722", "g722"),),
    ),
    Codec(
        name="gsm-fr",
        meaning="GSM 06.10 full rate at 8 kHz, 13 kbit/s",
        rate_hz=8_000,
        coders=(_av("libgsm", "gsm"), SndfileCoder(container="WAV", subtype="GSM610")),
    ),
    *(
        Codec(
            name=f"amr-nb-{bit_rate / 1000:g}k",
            meaning=f"AMR narrowband at 8 kHz, {bit_rate / 1000:g} kbit/s: mobile telephones",
            rate_hz=8_000,
            coders=_AMR_NB,
            bit_rate=bit_rate,
        )
        for bit_rate in (12_200, 4_750)
    ),
    *(
        Codec(
            name=f"amr-wb-{bit_rate / 1000:g}k",
            meaning=f"AMR wideband, {bit_rate / 1000:g} kbit/s: HD Voice",
            rate_hz=16_000,
            coders=_AMR_WB,
            bit_rate=bit_rate,
        )
        for bit_rate in (23_850, 12_650)
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A codec that works here.

    Attributes:
        coder: The encoder that is used.
        decoded_hz: Sample rate that the decoder gives.
        delay: Samples at that rate by which its output comes later.
        correlation: Of the probe with its decoded self, delay compensated.
        kbps: Bit rate that the probe came out with, headers of a container included.
    """

    coder: Coder
    decoded_hz: int
    delay: int
    correlation: float
    kbps: float


def codec_conditions() -> list[Condition]:
    """A condition for each codec, also for those that this machine cannot make."""
    return [_condition(codec) for codec in CODECS]


def round_trip(wave: Wave, sample_rate_hz: int, codec: Codec, measured: Measured) -> Wave:
    """Encode and decode; length and timing are those of the input.

    Args:
        wave: (N,) samples; beyond [-1, 1] they are clipped where the codec takes 16 bits.
        sample_rate_hz: Of the wave; it is resampled to the codec's rate and from the decoder's.
        codec: What to encode with.
        measured: What `measure` found.

    Returns:
        (N,) what the decoder gives, in float and not rounded to 16 bits.

    Raises:
        AudioError: the encoder or decoder fails, or gives fewer samples than it was fed.
    """
    fed = _resampled(wave, sample_rate_hz, codec.rate_hz)
    decoded, _, _ = _coded(fed, codec, measured.coder)
    n_wanted = round(len(fed) * measured.decoded_hz / codec.rate_hz)
    decoded = (
        decoded[measured.delay :] if measured.delay >= 0 else np.pad(decoded, (-measured.delay, 0))
    )
    if len(decoded) < n_wanted:
        raise AudioError(
            f"{codec.name} gave {len(decoded)} samples after its delay; {n_wanted} were expected."
        )
    back = _resampled(as_wave(decoded[:n_wanted]), measured.decoded_hz, sample_rate_hz)
    return exact_length(back, len(wave))


@cache
def measure(codec: Codec) -> Measured:
    """Try the codec's encoders on a probe, and measure the delay of the first that works.

    The delay is the lag of the largest cross-correlation between the probe and its decoded self,
    in whole samples of the decoder's rate; what is left is at most half a sample.

    Raises:
        AudioError: No encoder is here, or none gives back what it was given.
    """
    probe = _probe(codec.rate_hz)
    reasons = []
    for coder in codec.coders:
        try:
            decoded, decoded_hz, n_bytes = _coded(probe, codec, coder)
        except AudioError as error:
            reasons.append(str(error))
            continue
        reference = _resampled(probe, codec.rate_hz, decoded_hz)
        delay, correlation = _lag(reference, decoded, decoded_hz)
        if correlation < MIN_PROBE_CORRELATION:
            reasons.append(f"{coder.label} gives back something else (r = {correlation:.2f})")
            continue
        return Measured(
            coder=coder,
            decoded_hz=decoded_hz,
            delay=delay,
            correlation=correlation,
            kbps=n_bytes * 8 / 1000 / (len(probe) / codec.rate_hz + TAIL_SECONDS),
        )
    raise AudioError("; ".join(reasons))


def _condition(codec: Codec) -> Condition:
    parameters: dict[str, Any] = {"rate_hz": codec.rate_hz, "bit_rate": codec.bit_rate}
    try:
        measured = measure(codec)
    except AudioError as error:
        reason = str(error)

        def fail(_wave: Wave, _context: Context) -> Wave:
            raise AudioError(f"{codec.name} is not available: {reason}")

        return Condition(
            name=codec.name,
            family="codec",
            meaning=codec.meaning,
            apply=fail,
            parameters=parameters,
            unavailable=reason,
        )

    def apply(wave: Wave, context: Context) -> Wave:
        return round_trip(wave, context.sample_rate_hz, codec, measured)

    return Condition(
        name=codec.name,
        family="codec",
        meaning=codec.meaning,
        apply=apply,
        parameters={**parameters, **_details(measured)},
    )


def _details(measured: Measured) -> Mapping[str, Any]:
    return {
        "encoder": measured.coder.label,
        "decoded_hz": measured.decoded_hz,
        "delay_samples": measured.delay,
        "probe_correlation": round(measured.correlation, 3),
        "probe_kbps": round(measured.kbps, 1),
    }


def _coded(wave: Wave, codec: Codec, coder: Coder) -> tuple[Wave, int, int]:
    """Decoded samples, their rate, and the bytes between."""
    tail = np.zeros(round(TAIL_SECONDS * codec.rate_hz), np.float32)
    return coder.code(np.concatenate([wave, tail]), codec.rate_hz, codec.bit_rate)


def _resampled(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    if from_hz == to_hz:
        return wave
    return as_wave(soxr.resample(wave, from_hz, to_hz, quality=QUALITY))


def _probe(rate_hz: int) -> Wave:
    """Two seconds that speech codecs take for speech: a gliding, pulsed vowel with some breath.

    The pitch glides, so that no two stretches are alike and the cross-correlation has one peak.
    """
    n_samples = round(PROBE_SECONDS * rate_hz)
    time = np.arange(n_samples) / rate_hz
    cycles = np.cumsum(110 + 40 * np.sin(2 * np.pi * 1.7 * time)) / rate_hz
    pulses = np.diff(np.floor(cycles), prepend=0)
    short = time[: round(0.02 * rate_hz)]
    resonance, width = np.array([(700, 90), (1220, 110), (2600, 160)]).T[..., None]  # Hz, (3, 1)
    vowel = np.sum(np.exp(-np.pi * width * short) * np.sin(2 * np.pi * resonance * short), axis=0)
    voice = np.convolve(pulses, vowel)[:n_samples]
    breath = 0.05 * np.random.default_rng(0).standard_normal(n_samples)
    sound = (voice / np.abs(voice).max() + breath) * (0.2 + np.abs(np.sin(2 * np.pi * 1.3 * time)))
    return as_wave(0.5 * sound / np.abs(sound).max())


def _lag(reference: Wave, decoded: Wave, rate_hz: int) -> tuple[int, float]:
    """Samples by which `decoded` comes later, and the correlation there."""
    n_fft = 1 << (len(reference) + len(decoded)).bit_length()
    product = np.fft.rfft(decoded, n_fft) * np.conj(np.fft.rfft(reference, n_fft))
    correlation = np.fft.irfft(product, n_fft)
    first, last = (round(seconds * rate_hz) for seconds in DELAY_SEARCH_SECONDS)
    lags = np.arange(first, last)
    lag = int(lags[np.argmax(correlation[lags])])
    start, stop = max(0, -lag), min(len(reference), len(decoded) - lag)
    if stop - start < len(reference) // 2:
        return lag, 0.0
    ours, theirs = reference[start:stop], decoded[start + lag : stop + lag]
    norm = float(np.sqrt(np.sum(np.square(ours)) * np.sum(np.square(theirs))))
    return lag, float(np.dot(ours, theirs)) / norm if norm else 0.0
