"""read_audio refuses what is no whole audio file: one line, no noise, nothing huge allocated."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import soundfile

from aasist_deploy.audio import Heard, _decoders, file_blocks, read_audio
from aasist_deploy.errors import AudioError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pcm16(n: int = 20_000) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-32768, 32768, n).astype(np.int16)


@pytest.mark.parametrize(("max_samples", "rate_hz"), [(0, 16_000), (-1, 16_000), (None, 0)])
def test_arguments_out_of_range_are_usage_errors(
    tmp_path: Path, max_samples: int | None, rate_hz: int
) -> None:
    with pytest.raises(UsageError, match="must be"):
        read_audio(tmp_path, max_samples=max_samples, sample_rate_hz=rate_hz)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_nan_and_infinite_samples_are_counted_and_placed(tmp_path: Path, rate_hz: int) -> None:
    wave = np.zeros(4 * rate_hz, np.float32)
    wave[[70_000 % len(wave), 70_001 % len(wave)]] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", wave, rate_hz, subtype="FLOAT")
    with pytest.raises(
        AudioError, match=f"2 NaN or infinite samples, first at {70_000 % len(wave)}"
    ):
        read_audio(tmp_path / "a.wav")


def test_samples_that_overflow_in_resampling_are_an_error_of_their_file(tmp_path: Path) -> None:
    wave = np.full(8_000, 3e38, np.float32)  # finite; the filter's sums are not
    wave[::2] *= -1
    soundfile.write(tmp_path / "a.wav", wave, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="overflow when resampled to 16000 Hz"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="overflow when resampled to 16000 Hz"):
        list(file_blocks(tmp_path / "a.wav", Heard()))


def test_a_file_with_no_samples_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), 16_000)
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(tmp_path / "a.wav")


def test_things_that_are_no_audio_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "missing.wav", "does not exist"),
        (tmp_path / "empty.wav", r"is empty \(0 bytes\)"),
        (tmp_path / "pipe.wav", "is not a regular file"),
        (tmp_path / "loop.wav", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (Path("a\0b.wav"), "cannot be read"),
        (tmp_path / "empty.wav" / "a.wav", "cannot be read"),
    ):
        with pytest.raises(AudioError, match=words):
            read_audio(path)


def test_permission_denied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, pcm16(), 16_000)

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read everything, so it is acted
    with pytest.raises(AudioError, match=r"cannot be read \(Permission denied\)"):
        read_audio(path)


PLAYLIST = (
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n"
)


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3", "ogg", "m4a", "raw", "xyz"])
@pytest.mark.parametrize(
    "content",
    [
        b"hello world\n" * 50,
        bytes(5_000),
        b"fLaC" + b"\xff" * 300,
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"ID3\x03\0\0\0\0\x7f\x7f" + b"TALB" * 200,
        b"\xff\xfb\x90\x00" * 3,
        PLAYLIST,
        np.random.default_rng(0).bytes(5_000),
    ],
    ids=["text", "zeros", "flac", "riff", "id3", "sync", "playlist", "random"],
)
def test_what_is_no_audio_gives_one_line_and_no_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_both_decoders_are_heard_before_a_file_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_text("hello " * 20)
    with pytest.raises(AudioError, match=r"cannot be decoded \(soundfile: .+; av: .+\)"):
        read_audio(tmp_path / "a.flac")


def test_concat_scripts_do_not_open_other_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", pcm16(), 16_000)
    (tmp_path / "a.flac").write_text(f"ffconcat version 1.0\nfile {tmp_path}/other.wav\n")
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9])
def test_a_damaged_flac_is_refused_and_not_scored_with_a_gap(tmp_path: Path, where: float) -> None:
    soundfile.write(tmp_path / "a.flac", pcm16(100_000), 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[int(len(content) * where)] ^= 0x10
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(tmp_path / "a.flac")


def test_a_truncated_flac_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", pcm16(100_000), 16_000)
    content = (tmp_path / "a.flac").read_bytes()
    for n_bytes in (len(content) // 2, len(content) * 3 // 4, len(content) - 1):
        (tmp_path / "a.flac").write_bytes(content[:n_bytes])
        with pytest.raises(AudioError, match="cannot be decoded"):
            read_audio(tmp_path / "a.flac")


def test_a_damaged_mp3_is_refused_without_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, pcm16(32_000) // 4, 16_000)
    content = bytearray(path.read_bytes())
    for at in range(400, len(content), 97):
        content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(path)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_wav_is_read_and_noted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", pcm16(), 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    audio = read_audio(tmp_path / "a.wav")
    assert len(audio.wave) == len(pcm16()) // 2 - 11  # half of the header's 44 bytes is gone too
    assert audio.note == "the header declares another length than the file holds"


def test_a_header_that_declares_a_trillion_samples_costs_nothing(tmp_path: Path) -> None:
    n = 10**12
    sizes = struct.pack("<IQQQI", 28, 2 * n + 36, 2 * n, n, 0)
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    (tmp_path / "a.wav").write_bytes(
        b"RF64\xff\xff\xff\xffWAVEds64" + sizes + b"fmt " + form + b"data\xff\xff\xff\xff"
        + pcm16(1_000).tobytes()
    )  # fmt: skip
    audio = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio.wave, pcm16(1_000) / np.float32(32768))


def test_a_flac_that_declares_2_to_the_36_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", pcm16(), 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    packed = int.from_bytes(content[18:26], "big") | ((1 << 36) - 1)  # rate, depth, n samples
    content[18:26] = packed.to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="20000 of 68719476735 declared samples"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("rate_hz", [1, 999, 2_000_000])
def test_absurd_sample_rates_are_refused(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", pcm16(100), rate_hz)
    with pytest.raises(AudioError, match=f"sample rate is {rate_hz} Hz"):
        read_audio(tmp_path / "a.wav")


def test_more_than_a_day_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasist_deploy.audio._wave.MAX_SECONDS", 3_600)
    soundfile.write(tmp_path / "a.flac", np.zeros(3_601 * 1_000, np.int16), 1_000)
    with pytest.raises(AudioError, match="more than 1 hours"):
        read_audio(tmp_path / "a.flac")


def test_damaged_headers_give_audio_or_one_line_and_no_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    wave = (rng.standard_normal(8_000) * 3_000).astype(np.int16)
    for name in ("a.wav", "a.flac", "a.mp3", "a.ogg"):
        soundfile.write(tmp_path / name, wave, 16_000)
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    messages: list[str] = []
    for path in sorted(tmp_path.glob("a.*")):
        whole = path.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for at in rng.integers(0, min(len(whole), 400), 4):
                content[at] = rng.integers(256)
            path.write_bytes(content[: rng.integers(1, 2 * len(whole))])
            try:
                audio = read_audio(path)
            except AudioError as error:
                messages.append(str(error))
            else:
                assert np.isfinite(audio.wave).all()
                assert 0 < audio.seconds < 3_600
    assert messages
    assert not any("\n" in message for message in messages)
    assert capfd.readouterr() == ("", "")


def test_a_seek_to_nowhere_is_answered_and_not_raised(tmp_path: Path) -> None:
    # A damaged CAF file makes FFmpeg seek so, and PyAV would print the traceback of an exception.
    (tmp_path / "a").write_bytes(b"content")
    with _decoders._QuietFile(tmp_path / "a") as raw:
        assert raw.seek(-5) < 0
        assert raw.seek(-3, 2) == 4
