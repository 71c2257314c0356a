from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.degradations.codecs import CODECS, Codec, codec_conditions, measure, round_trip
from aasist_deploy.degradations.coders import AvCoder, SndfileCoder
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable

# Of the voice below with its decoded self; measured 0.92 (AMR-NB at 4.75 kbit/s) to 0.9998 (MP3 at
# 64 kbit/s), and a lag of 0 for all.
MIN_CORRELATION = 0.88
MAX_LAG = 1  # samples at 16 kHz; a delay is compensated in whole samples of the codec's rate
A_LAW_RTOL = 0.04  # logarithmic steps: 13 segments of 16, so 1/32 of the sample at most

AVAILABLE = [one for one in codec_conditions() if one.unavailable is None]


def best_lag(reference: Any, other: Any, reach: int = 400) -> int:
    n_fft = 1 << (len(reference) + len(other)).bit_length()
    product = np.fft.rfft(other, n_fft) * np.conj(np.fft.rfft(reference, n_fft))
    lags = np.arange(-reach, reach + 1)
    return int(lags[np.argmax(np.fft.irfft(product, n_fft)[lags])])


@pytest.fixture(scope="module")
def voice() -> Any:
    """Two seconds of a falling, pulsed voice through two resonances: speech coders model that."""
    n_samples = 32_208  # no whole number of any codec's frames
    time = np.arange(n_samples) / 16_000
    pulses = np.diff(np.floor(np.cumsum(210 - 45 * time) / 16_000), prepend=0)
    sound = pulses + 0.02 * np.random.default_rng(4).standard_normal(n_samples)
    ring = time[:400]
    for resonance_hz, width_hz in ((500, 80), (1_500, 120)):
        response = np.exp(-np.pi * width_hz * ring) * np.cos(2 * np.pi * resonance_hz * ring)
        sound = np.convolve(sound, response)[:n_samples]
    sound *= 0.3 + np.sin(2 * np.pi * 0.9 * time) ** 2
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("condition", AVAILABLE, ids=lambda one: one.name)
def test_codec_keeps_length_and_sounds_alike(
    condition: Any, voice: Any, context: Callable[..., Any]
) -> None:
    decoded = condition.apply(voice, context())
    assert decoded.shape == voice.shape
    assert decoded.dtype == np.float32
    assert np.corrcoef(decoded, voice)[0, 1] > MIN_CORRELATION
    assert not np.array_equal(decoded, voice)
    np.testing.assert_array_equal(decoded, condition.apply(voice, context()))


@pytest.mark.parametrize("condition", AVAILABLE, ids=lambda one: one.name)
def test_delay_is_compensated(condition: Any, voice: Any, context: Callable[..., Any]) -> None:
    assert abs(best_lag(voice, condition.apply(voice, context()))) <= MAX_LAG


@pytest.mark.parametrize("condition", AVAILABLE, ids=lambda one: one.name)
@pytest.mark.parametrize("n_samples", [1, 161, 8_000])
def test_short_clips_keep_their_length(
    condition: Any, n_samples: int, speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    assert condition.apply(speech(1.0)[:n_samples], context()).shape == (n_samples,)


def test_codecs_that_ffmpeg_always_has_are_available() -> None:
    assert {"aac-48k", "g711-alaw", "g711-mulaw", "g722"} <= {one.name for one in AVAILABLE}


def test_report_of_an_available_codec_says_what_made_it() -> None:
    by_name = {one.name: one for one in AVAILABLE}
    assert by_name["aac-48k"].parameters["encoder"] == "FFmpeg aac"
    assert by_name["aac-48k"].parameters["delay_samples"] == 1_024  # priming of AAC-LC encoders
    assert by_name["g711-alaw"].parameters["delay_samples"] == 0
    assert by_name["g722"].parameters["delay_samples"] == 22  # two QMF filters of 24 taps


def test_a_law_is_that_of_libsndfile() -> None:
    codec = Codec(
        name="x",
        meaning="",
        rate_hz=8_000,
        coders=(AvCoder(encoder="pcm_alaw", decoder="pcm_alaw"),),
    )
    wave = np.random.default_rng(0).uniform(-1, 1, 4_000).astype(np.float32)
    ours = round_trip(wave, 8_000, codec, measure(codec))
    theirs, _, _ = SndfileCoder(container="WAV", subtype="ALAW").code(wave, 8_000, None)
    # Near the border of two levels the libraries choose differently; measured: 3.1 % of samples.
    assert np.mean(ours == theirs[: len(ours)]) > 0.95
    np.testing.assert_allclose(ours, wave, rtol=A_LAW_RTOL, atol=1e-3)


def codec_of(*coders: Any, **fields: Any) -> Codec:
    return Codec(**{"name": "x", "meaning": "", "rate_hz": 16_000, "coders": coders, **fields})


def test_missing_encoder_is_reported_with_its_name_and_the_next_one_is_taken() -> None:
    none = AvCoder(encoder="libnothing", decoder="aac")
    with pytest.raises(AudioError, match=r"FFmpeg .* in PyAV .* has no encoder libnothing"):
        measure(codec_of(none))
    with pytest.raises(AudioError, match="has no decoder libnothing"):
        measure(codec_of(AvCoder(encoder="aac", decoder="libnothing")))
    second = AvCoder(encoder="aac", decoder="aac")
    assert measure(codec_of(none, second)).coder == second


def test_decoder_of_another_codec_is_not_taken_for_a_round_trip() -> None:
    swapped = AvCoder(encoder="pcm_s16le", decoder="pcm_s16be")
    with pytest.raises(AudioError, match=r"FFmpeg pcm_s16le gives back something else \(r = 0"):
        measure(codec_of(swapped))


def test_libsndfile_refuses_what_it_lacks() -> None:
    wave = np.zeros(800, np.float32)
    with pytest.raises(AudioError, match="takes no bit rate"):
        SndfileCoder(container="WAV", subtype="ALAW").code(wave, 8_000, 13_000)
    with pytest.raises(AudioError, match=f"libsndfile {soundfile.__libsndfile_version__} lacks"):
        SndfileCoder(container="WAV", subtype="VORBIS").code(wave, 8_000, None)


def test_unavailable_codec_is_listed_and_fails_when_applied(
    monkeypatch: pytest.MonkeyPatch, speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    missing = codec_of(AvCoder(encoder="libnothing", decoder="aac"), name="lost")
    monkeypatch.setattr("aasist_deploy.degradations.codecs.CODECS", (missing,))
    (condition,) = codec_conditions()
    assert "libnothing" in str(condition.unavailable)
    with pytest.raises(AudioError, match="lost is not available"):
        condition.apply(speech(), context())


def test_names_are_unique() -> None:
    names = [codec.name for codec in CODECS]
    assert len(set(names)) == len(names)
