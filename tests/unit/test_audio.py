"""read_audio: what comes out is what the file holds, whatever holds it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import soundfile
import soxr

from aasist_deploy.audio import N_SAMPLES, SAMPLE_RATE_HZ, read_audio

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOSSY_ATOL = 0.05  # a 440 Hz tone at 64 kbit/s or more; measured at most 0.02 away from its ends
RESAMPLED_ATOL = 1e-3  # a tone far below either Nyquist frequency, away from its ends


def tone(rate_hz: int, seconds: float = 1.0, hz: float = 440.0) -> NDArray[np.float32]:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    return np.asarray(0.3 * np.sin(2 * np.pi * hz * t), dtype=np.float32)


def pcm16(n: int = 20_000, *, channels: int = 1, seed: int = 0) -> NDArray[np.int16]:
    shape = (n,) if channels == 1 else (n, channels)
    return np.random.default_rng(seed).integers(-32768, 32768, shape).astype(np.int16)


def write_av(path: Path, wave: NDArray[Any], rate_hz: int, codec: str, sample_format: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wave[None], format=sample_format, layout="mono")
        frame.sample_rate = rate_hz
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def test_16_bit_wav_and_flac_give_x_over_32768_exactly(tmp_path: Path) -> None:
    samples = pcm16()
    for suffix in ("wav", "flac"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, samples, SAMPLE_RATE_HZ)
        audio = read_audio(path)
        np.testing.assert_array_equal(audio.wave, samples.astype(np.float32) / 32768)
        assert (audio.source_rate_hz, audio.source_channels) == (16_000, 1)
        assert audio.seconds == len(samples) / 16_000
        assert audio.decoder == "soundfile"
        assert audio.note is None
        assert audio.wave.dtype == np.float32
        assert audio.wave.flags.c_contiguous
        audio.wave[:] = 0  # the caller's own


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-23), ("PCM_32", 2**-24), ("FLOAT", 0)]
)
def test_every_wav_sample_type_is_read_to_its_own_resolution(
    tmp_path: Path, subtype: str, step: float
) -> None:
    wave = tone(16_000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype=subtype)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").wave, wave, rtol=0, atol=step)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_resampling_keeps_a_tone_and_the_duration(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate_hz), rate_hz, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav")
    assert len(audio.wave) == 16_000
    assert audio.source_rate_hz == rate_hz
    assert audio.seconds == 1.0
    np.testing.assert_allclose(
        audio.wave[800:-800], tone(16_000)[800:-800], rtol=0, atol=RESAMPLED_ATOL
    )


def test_resampling_block_by_block_equals_one_call_of_soxr(tmp_path: Path) -> None:
    wave = np.asarray(np.random.default_rng(1).standard_normal(300_000) / 8, np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="FLOAT")
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.wav").wave, soxr.resample(wave, 44_100, 16_000, quality="HQ")
    )


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = pcm16(channels=channels)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    audio = read_audio(tmp_path / "a.wav")
    assert audio.source_channels == channels
    expected = (samples.astype(np.float64) / 32768).mean(axis=1).astype(np.float32)
    np.testing.assert_array_equal(audio.wave, expected)


def test_equal_channels_give_the_bits_of_one_channel(tmp_path: Path) -> None:
    one = pcm16()
    soundfile.write(tmp_path / "a.wav", np.stack([one] * 6, axis=1), 16_000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").wave, one / np.float32(32768))


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz", "decoder"),
    [
        ("a.m4a", "aac", 16_000, "av"),
        ("a.aac", "aac", 16_000, "av"),
        ("a.mp3", "libmp3lame", 16_000, "av"),
        ("a.opus", "libopus", 48_000, "soundfile"),
        ("a.webm", "libopus", 48_000, "av"),
    ],
)
def test_lossy_formats_decode(
    tmp_path: Path, name: str, codec: str, rate_hz: int, decoder: str
) -> None:
    sample_format = "flt" if codec == "libopus" else "fltp"
    path = write_av(tmp_path / name, tone(rate_hz, 2.0), rate_hz, codec, sample_format)
    audio = read_audio(path)
    assert audio.decoder == decoder
    # Raw AAC has no place to say how many samples of delay its encoder put first.
    delay = 1024 if name == "a.aac" else 0
    wave = audio.wave[delay : delay + 31_000][2_000:-2_000]
    np.testing.assert_allclose(wave, tone(16_000, 2.0)[2_000:29_000], rtol=0, atol=LOSSY_ATOL)


def test_ogg_vorbis_decodes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", tone(16_000), 16_000)
    assert len(read_audio(tmp_path / "a.ogg").wave) == 16_000


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "dtype", "full_scale"),
    [
        ("a.m4a", "alac", "s16p", np.int16, 2**15),
        ("a.mka", "pcm_s24le", "s32", np.int32, 2**31),
        ("b.mka", "pcm_u8", "u8", np.uint8, 2**7),
        ("a.wv", "wavpack", "fltp", np.float32, 1),
    ],
)
def test_the_second_decoder_scales_every_sample_type(
    tmp_path: Path, name: str, codec: str, sample_format: str, dtype: type, full_scale: int
) -> None:
    wave = tone(16_000)
    samples = (
        wave if dtype is np.float32 else np.round(wave * full_scale + (dtype is np.uint8) * 128)
    )
    path = write_av(tmp_path / name, samples.astype(dtype), 16_000, codec, sample_format)
    audio = read_audio(path)
    assert audio.decoder == "av"
    assert audio.note is not None
    assert "soundfile: " in audio.note
    step = max(1 / full_scale, 2**-15 if dtype is np.float32 else 2**-23)
    np.testing.assert_allclose(audio.wave, wave, rtol=0, atol=step)


def test_the_second_decoder_averages_interleaved_and_planar_channels(tmp_path: Path) -> None:
    left, right = pcm16(seed=1), pcm16(seed=2)
    expected = ((left.astype(np.float64) + right) / 65536).astype(np.float32)
    for codec, sample_format in (("pcm_s16le", "s16"), ("alac", "s16p")):
        path = tmp_path / f"{codec}.{'mka' if codec == 'pcm_s16le' else 'm4a'}"
        planar = np.stack([left, right])
        data = planar if sample_format == "s16p" else planar.T.reshape(1, -1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=16_000)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "stereo"
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data), format=sample_format, layout="stereo"
            )
            frame.sample_rate, frame.pts = 16_000, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        audio = read_audio(path)
        assert audio.source_channels == 2
        np.testing.assert_array_equal(audio.wave[: len(expected)], expected)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("max_samples", [1, 64_600, 100_000])
def test_a_start_equals_the_start_of_a_full_read(
    tmp_path: Path, rate_hz: int, max_samples: int
) -> None:
    samples = pcm16(rate_hz * 7)
    soundfile.write(tmp_path / "a.flac", samples, rate_hz)
    full = read_audio(tmp_path / "a.flac")
    start = read_audio(tmp_path / "a.flac", max_samples=max_samples)
    np.testing.assert_array_equal(start.wave, full.wave[:max_samples])
    assert start.seconds == full.seconds == 7.0


def test_a_start_equals_the_start_of_a_full_read_in_the_second_decoder(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.m4a", tone(48_000, 8.0), 48_000, "aac", "fltp")
    start = read_audio(path, max_samples=N_SAMPLES)
    np.testing.assert_array_equal(start.wave, read_audio(path).wave[:N_SAMPLES])
    assert start.seconds == pytest.approx(8.0, abs=0.05)


def test_a_start_longer_than_the_file_is_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", pcm16(30_000), 48_000)
    assert len(read_audio(tmp_path / "a.wav", max_samples=N_SAMPLES).wave) == 10_000


def test_a_start_reads_little_of_a_long_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3_000_000, np.int16), 16_000)
    n_read: list[int] = []
    read = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, *args: Any, **options: Any) -> Any:
        block = read(self, *args, **options)
        n_read.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    read_audio(tmp_path / "a.wav", max_samples=N_SAMPLES)
    assert sum(n_read) < 2 * N_SAMPLES


def test_silence_is_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.int16), 16_000)
    assert not read_audio(tmp_path / "a.wav").wave.any()


def test_names_that_look_like_protocols_or_are_no_utf_8_are_files(tmp_path: Path) -> None:
    for name in ("concat:a|b.m4a", "http:x.m4a", os.fsdecode(b"\xff\xfe.m4a")):
        path = write_av(tmp_path / "plain.m4a", tone(16_000), 16_000, "aac", "fltp")
        odd = path.rename(tmp_path / name)
        assert len(read_audio(odd).wave) >= 16_000


def test_threads_decode_the_same(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", pcm16(50_000), 44_100)
    expected = read_audio(tmp_path / "a.wav").wave
    with ThreadPoolExecutor(4) as pool:
        for audio in pool.map(read_audio, [tmp_path / "a.wav"] * 16):
            np.testing.assert_array_equal(audio.wave, expected)
