"""Containers and raw samples from a pipe, and what is said when nothing comes."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.audio import Gap, Heard, Pipe, pcm_blocks, pipe_blocks, read_audio
from aasist_deploy.errors import AudioError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def feed() -> Iterator[Callable[..., int]]:
    """(bytes, size of a write, whether to close at the end) -> a descriptor that gives them."""
    ends: list[int] = []
    threads: list[threading.Thread] = []

    def start(data: bytes, size: int = 4_096, *, close: bool = True) -> int:
        read_end, write_end = os.pipe()

        def write() -> None:
            for begin in range(0, len(data), size):
                os.write(write_end, data[begin : begin + size])
            if close:
                os.close(write_end)

        ends.append(read_end)
        if not close:
            ends.append(write_end)
        threads.append(threading.Thread(target=write, daemon=True))
        threads[-1].start()
        return read_end

    yield start
    for thread in threads:
        thread.join(5)
    for end in ends:
        os.close(end)


class Stop:
    """Asks to end when told to."""

    def __init__(self) -> None:
        self.requested = False
        self.read_end, self.write_end = os.pipe()

    def fileno(self) -> int:
        return self.read_end

    def ask(self) -> None:
        self.requested = True
        os.write(self.write_end, b"!")


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    os.close(made.read_end)
    os.close(made.write_end)


def samples(n_samples: int = 40_000) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-20_000, 20_000, n_samples).astype(np.int16)


def joined(items: Iterator[Any]) -> NDArray[np.float32]:
    return np.concatenate([item for item in items if not isinstance(item, Gap)])


@pytest.mark.parametrize("size", [1, 7, 4_096])
@pytest.mark.parametrize(
    ("format_", "code", "scale"),
    [("u8", "u1", 2**7), ("s16le", "<i2", 2**15), ("s32le", "<i4", 2**31), ("f32le", "<f4", 1)],
)
def test_raw_samples_have_the_scale_of_files(
    feed: Callable[..., int], size: int, format_: Any, code: str, scale: int
) -> None:
    wave = samples(600) / 32_768
    stored = wave if scale == 1 else np.round(wave * (scale - 1) + 128 * (format_ == "u8"))
    pipe = Pipe(feed(stored.astype(code).tobytes(), size), "stdin")
    heard = Heard()
    got = joined(pcm_blocks(pipe, heard, format_=format_, rate_hz=16_000, channels=1))
    np.testing.assert_allclose(got, wave, rtol=0, atol=2 / scale if scale > 1 else 0)
    assert (heard.n_read, heard.note) == (600, None)


def test_24_bits_keep_their_sign(feed: Callable[..., int]) -> None:
    values = [-(2**23), -1, 0, 1, 2**23 - 1]
    data = b"".join(struct.pack("<i", value)[:3] for value in values)
    pipe = Pipe(feed(data), "stdin")
    got = joined(pcm_blocks(pipe, Heard(), format_="s24le", rate_hz=16_000, channels=1))
    np.testing.assert_array_equal(got, np.array(values) / 2**23)


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_raw_samples_are_mixed_and_resampled_as_files(
    feed: Callable[..., int], tmp_path: Path, rate_hz: int
) -> None:
    stereo = samples(2 * rate_hz).reshape(-1, 2)
    soundfile.write(tmp_path / "a.wav", stereo, rate_hz)
    pipe = Pipe(feed(stereo.tobytes(), 1_001), "stdin")
    got = joined(pcm_blocks(pipe, Heard(), format_="s16le", rate_hz=rate_hz, channels=2))
    np.testing.assert_array_equal(got, read_audio(tmp_path / "a.wav").wave)


def test_a_stream_that_ends_within_a_sample_says_so(feed: Callable[..., int]) -> None:
    heard = Heard()
    pipe = Pipe(feed(samples(100).tobytes() + b"\x01"), "stdin")
    got = joined(pcm_blocks(pipe, heard, format_="s16le", rate_hz=16_000, channels=1))
    assert len(got) == 100
    assert heard.note == "ended within a sample: 1 bytes are left"


def wav(*, unknown_length: bool) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples(), 16_000, format="WAV", subtype="PCM_16")
    data = bytearray(buffer.getvalue())
    if unknown_length:  # as ffmpeg writes it into a pipe
        place = data.index(b"data")
        data[4:8] = data[place + 4 : place + 8] = b"\xff" * 4
    return bytes(data)


@pytest.mark.parametrize("unknown_length", [False, True])
def test_a_wav_on_a_pipe_gives_its_samples(feed: Callable[..., int], unknown_length: bool) -> None:
    pipe = Pipe(feed(wav(unknown_length=unknown_length), 999), "stdin")
    heard = Heard()
    got = joined(pipe_blocks(pipe, heard))
    np.testing.assert_array_equal(got, samples() / np.float32(32_768))
    assert (heard.source_rate_hz, heard.decoder) == (16_000, "av")


def test_a_flac_on_a_pipe_gives_its_samples(feed: Callable[..., int]) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples(), 16_000, format="FLAC")
    got = joined(pipe_blocks(Pipe(feed(buffer.getvalue()), "stdin"), Heard()))
    np.testing.assert_array_equal(got, samples() / np.float32(32_768))


def test_what_is_no_container_is_refused_with_a_way_out(feed: Callable[..., int]) -> None:
    with pytest.raises(AudioError, match="stdin cannot be decoded") as raised:
        list(pipe_blocks(Pipe(feed(samples().tobytes()), "stdin"), Heard()))
    assert "--format s16le" in str(raised.value.fix)


def test_an_empty_pipe_is_refused(feed: Callable[..., int]) -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        list(pcm_blocks(Pipe(feed(b""), "stdin"), Heard(), format_="u8", rate_hz=8_000, channels=1))


def test_a_pipe_that_stalls_is_told_of_once_and_goes_on() -> None:
    read_end, write_end = os.pipe()
    told: list[float] = []

    def write() -> None:
        os.write(write_end, b"ab")
        os.close(write_end)

    def on_stall(seconds: float) -> None:
        told.append(seconds)
        threading.Timer(0.1, write).start()

    pipe = Pipe(read_end, "stdin", stall_s=0.05, on_stall=on_stall)
    assert pipe.read(10) == b"ab"
    assert len(told) == 1
    assert 0.05 <= told[0] < 1
    assert pipe.read(10) == b""
    os.close(read_end)


def test_a_pipe_that_gives_nothing_for_too_long_is_an_error_after_its_samples(
    feed: Callable[..., int],
) -> None:
    pipe = Pipe(feed(samples(1_000).tobytes(), close=False), "stdin", timeout_s=0.1)
    blocks = pcm_blocks(pipe, Heard(), format_="s16le", rate_hz=16_000, channels=1)
    assert len(joined(iter([next(blocks)]))) == 1_000
    with pytest.raises(AudioError, match=r"stdin gave nothing for 0\.1 s"):
        next(blocks)


def test_a_wish_to_end_is_seen_while_nothing_comes(feed: Callable[..., int], stop: Stop) -> None:
    for raw in (False, True):
        stop.requested = False
        timer = threading.Timer(0.1, stop.ask)
        timer.start()
        began = time.monotonic()
        # Nothing was heard, which is no error when the user ended it.
        pipe = Pipe(feed(b"", close=False), "stdin", stop)
        blocks = (
            pcm_blocks(pipe, Heard(), format_="s16le", rate_hz=16_000, channels=1)
            if raw
            else pipe_blocks(pipe, Heard())
        )
        assert list(blocks) == []
        assert time.monotonic() - began < 3
        timer.join()


@pytest.mark.parametrize(
    ("rate_hz", "channels", "message"),
    [(999, 1, "--rate is 999"), (16_000, 0, "--channels is 0"), (16_000, 65, "--channels is 65")],
)
def test_raw_samples_of_impossible_shape_are_refused(
    rate_hz: int, channels: int, message: str
) -> None:
    pipe = Pipe(0, "stdin")
    with pytest.raises(UsageError, match=message):
        pcm_blocks(pipe, Heard(), format_="u8", rate_hz=rate_hz, channels=channels)
