"""Blocks of a file of any length are the wave that `read_audio` gives, in bounded memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import soundfile
import soxr

from aasist_deploy.audio import Gap, Heard, file_blocks, read_audio
from aasist_deploy.audio import _blocks as module
from aasist_deploy.audio._decoders import RefusedError, Source
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES = 2_000_000  # of a decoder's block, what is made of it, and soxr's own


def noise(n_samples: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.standard_normal((n_samples, channels)) / 8).astype(np.float32)


def joined(path: Path, heard: Heard | None = None) -> NDArray[np.float32]:
    items = list(file_blocks(path, heard or Heard()))
    blocks = [item for item in items if not isinstance(item, Gap)]
    assert len(blocks) == len(items)
    assert all(len(block) and block.dtype == np.float32 for block in blocks)
    return np.concatenate(blocks)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_are_the_wave_of_read_audio(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5 * rate_hz + 17, channels), rate_hz)
    heard = Heard()
    np.testing.assert_array_equal(joined(path, heard), read_audio(path).wave)
    assert (heard.source_rate_hz, heard.source_channels) == (rate_hz, channels)
    assert heard.n_read == heard.n_frames == 5 * rate_hz + 17
    assert heard.decoder == "soundfile"


def test_blocks_of_the_second_decoder_are_the_wave_of_read_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write_av(path, "libmp3lame", "fltp")
    heard = Heard()
    np.testing.assert_array_equal(joined(path, heard), read_audio(path).wave)
    assert heard.decoder == "av"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    n_minutes = 4
    with soundfile.SoundFile(path, "w", 48_000, 1, subtype="PCM_16") as file:
        for minute in range(n_minutes):
            file.write(noise(60 * 48_000, seed=minute))
    assert path.stat().st_size > 10 * BLOCK_BYTES
    tracemalloc.start()
    try:
        n_samples = sum(len(b) for b in file_blocks(path, Heard()) if not isinstance(b, Gap))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_samples == n_minutes * 60 * 16_000
    assert peak < BLOCK_BYTES


def test_clipped_and_silent_samples_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wave = np.zeros(1_000, np.float32)
    wave[:10], wave[10:30] = 1.0, -1.0
    wave[30:40] = 0.5
    soundfile.write(path, wave, 16_000, subtype="PCM_16")
    heard = Heard()
    list(file_blocks(path, heard))
    assert (heard.n_clipped, heard.n_zero, heard.peak) == (30, 960, 1.0)


def switching(
    monkeypatch: pytest.MonkeyPatch, first: list[float] | None, second: list[float]
) -> None:
    """A first decoder that fails after `first`, and a second one that gives `second`."""

    def refusing(_path: Path, source: Source) -> Iterator[NDArray[np.float32]]:
        source.rate_hz, source.channels = 16_000, 1
        for value in first or []:
            yield np.full((10, 1), value, np.float32)
        raise RefusedError("lost sync")

    def whole(_path: Path, source: Source) -> Iterator[NDArray[np.float32]]:
        source.rate_hz, source.channels = 16_000, 1
        for value in second:  # blocks of another size
            yield np.full((5, 1), value, np.float32)
            yield np.full((5, 1), value, np.float32)

    monkeypatch.setattr(module, "soundfile_blocks", refusing)
    monkeypatch.setattr(module, "av_blocks", whole)


def test_a_second_decoder_goes_on_where_the_first_one_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC")
    switching(monkeypatch, [0.1, 0.2], [0.1, 0.2, 0.3])
    heard = Heard()
    np.testing.assert_array_equal(
        joined(path, heard), np.repeat(np.array([0.1, 0.2, 0.3], np.float32), 10)
    )
    assert heard.note == "decoded by av; soundfile: lost sync"
    assert heard.n_read == 30


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ([0.1, 0.25, 0.3], "other samples before 20"),
        ([0.1], "10 samples fewer than were decoded before"),
    ],
)
def test_decoders_that_disagree_are_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: list[float], reason: str
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC")
    switching(monkeypatch, [0.1, 0.2], second)
    blocks = file_blocks(path, Heard())
    assert len([next(blocks), next(blocks)]) == 2
    with pytest.raises(AudioError, match=rf"after 0\.00 s \(soundfile: lost sync; av: {reason}"):
        list(blocks)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"no audio at all", "cannot be decoded")]
)
def test_what_is_no_audio_is_refused_with_the_words_of_read_audio(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as ours:
        list(file_blocks(path, Heard()))
    with pytest.raises(AudioError) as theirs:
        read_audio(path)
    assert str(ours.value) == str(theirs.value)


def test_nan_ends_the_blocks_with_its_place(tmp_path: Path) -> None:
    wave = noise(200_000)
    wave[150_000] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    heard, n_samples = Heard(), 0
    with pytest.raises(AudioError, match="first at 150000"):  # noqa: PT012  # what came before it
        for block in file_blocks(path, heard):
            assert not isinstance(block, Gap)
            n_samples += len(block)
    assert n_samples == heard.n_read == 150_000


def write_av(path: Path, codec: str, sample_format: str, missing: range | None = None) -> None:
    """Two seconds, perhaps without some of their packets."""
    wave = noise(32_000)[:, 0]
    data: Any = wave if sample_format == "fltp" else np.round(wave * 32_767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16_000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        packets = []
        for start in range(0, 32_000, 320):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data[None, start : start + 320]), sample_format, "mono"
            )
            frame.sample_rate, frame.pts = 16_000, start
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            if missing is None or number not in missing:
                container.mux(packet)


def test_time_that_a_container_misses_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    write_av(path, "pcm_s16le", "s16", missing=range(40, 60))
    items = list(file_blocks(path, Heard()))
    (place,) = (i for i, item in enumerate(items) if isinstance(item, Gap))
    gap = items[place]
    assert isinstance(gap, Gap)
    assert gap.seconds == pytest.approx(20 * 320 / 16_000, abs=0.002)
    assert gap.reason == "timestamps jump by 0.400 s"
    before = sum(len(item) for item in items[:place] if not isinstance(item, Gap))
    after = sum(len(item) for item in items[place + 1 :] if not isinstance(item, Gap))
    assert (before, after) == (40 * 320, 40 * 320)


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [
        ("a.mka", "pcm_s16le", "s16"),
        ("a.mka", "aac", "fltp"),
        ("a.m4a", "aac", "fltp"),
        ("a.ts", "aac", "fltp"),
        ("a.mp3", "libmp3lame", "fltp"),
        ("a.webm", "libopus", "s16"),
        ("a.wv", "wavpack", "fltp"),
        ("a.flv", "aac", "fltp"),
    ],
)
def test_whole_containers_have_no_gap(
    tmp_path: Path, name: str, codec: str, sample_format: str
) -> None:
    path = tmp_path / name
    write_av(path, codec, sample_format)
    assert len(joined(path)) > 25_000


def test_resampling_starts_anew_after_a_gap() -> None:
    wave = noise(48_000)
    heard = Heard(source_rate_hz=48_000, source_channels=1)
    gap = Gap(1.0, "lost")
    items = list(module.converted([wave, gap, wave], heard, "it", 16_000))
    (place,) = (i for i, item in enumerate(items) if item is gap)
    one = soxr.resample(wave[:, 0], 48_000, 16_000, quality="HQ")
    for part in (items[:place], items[place + 1 :]):
        blocks = [item for item in part if not isinstance(item, Gap)]
        np.testing.assert_array_equal(np.concatenate(blocks), one)
