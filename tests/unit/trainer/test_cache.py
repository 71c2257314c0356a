"""Decoded clips that are kept: exactly, bounded, shared, and made again when damaged."""

from __future__ import annotations

import logging
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aasist_deploy.errors import AudioError, OutputError
from aasist_deploy.trainer.cache import DiskCache, MemoryCache, NoCache, packed, unpacked
from aasist_deploy.trainer.loader import START_METHOD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Wave = NDArray[np.float32]

PCM = np.arange(-500, 500, dtype=np.int16)
WAVE = (PCM / 32768).astype(np.float32)
FINE = (WAVE + np.float32(1e-7)).astype(np.float32)  # between the steps of 16 bits


class Decoder:
    """Counts how often it is asked."""

    def __init__(self, wave: Wave = WAVE) -> None:
        self.wave, self.calls = wave, 0

    def __call__(self) -> Wave:
        self.calls += 1
        return self.wave.copy()


def refuse() -> Wave:
    raise AssertionError("decoded again")


@given(arrays(np.int16, st.integers(1, 50)))
def test_16_bit_clips_are_kept_as_16_bits_exactly(pcm: NDArray[np.int16]) -> None:
    wave = (pcm / 32768).astype(np.float32)
    clip = packed(wave)
    assert clip.dtype == np.int16
    assert np.array_equal(clip, pcm)
    assert np.array_equal(unpacked(clip), wave)


@pytest.mark.parametrize(
    "wave",
    [FINE, np.array([0.5, 1.0], np.float32), np.array([-1.1, 0.0], np.float32), WAVE * 3e5],
)
def test_other_clips_are_kept_in_float_exactly(wave: Wave) -> None:
    clip = packed(wave)
    assert clip.dtype == np.float32
    assert np.array_equal(unpacked(clip), wave)


def test_an_unpacked_clip_is_a_copy() -> None:
    for clip in (PCM.copy(), FINE.copy()):
        before = clip.copy()
        unpacked(clip)[:] = 0
        assert np.array_equal(clip, before)


def test_without_a_cache_every_clip_is_decoded_every_time(tmp_path: Path) -> None:
    decode = Decoder()
    for _ in range(2):
        NoCache().get(0, tmp_path, decode)
    assert decode.calls == 2


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return MemoryCache(4, 100_000)
    return DiskCache(tmp_path / "cache", 16_000)


@pytest.fixture
def audio(tmp_path: Path) -> Callable[[int], Path]:
    def make(number: int) -> Path:
        path = tmp_path / f"{number}.flac"
        if not path.exists():
            path.write_bytes(b"audio %d" % number)
        return path

    return make


@pytest.mark.parametrize("wave", [WAVE, FINE])
def test_a_clip_is_decoded_once(cache: Any, audio: Callable[[int], Path], wave: Wave) -> None:
    first = cache.get(1, audio(1), Decoder(wave))
    again = cache.get(1, audio(1), refuse)
    assert np.array_equal(first, again)
    assert np.array_equal(unpacked(again), wave)


def test_each_clip_has_its_own_place(cache: Any, audio: Callable[[int], Path]) -> None:
    waves = [WAVE[: 100 + 7 * number] for number in range(4)]
    for number, wave in enumerate(waves):
        cache.get(number, audio(number), Decoder(wave))
    for number, wave in enumerate(waves):
        assert np.array_equal(unpacked(cache.get(number, audio(number), refuse)), wave)


def test_a_clip_that_fails_is_not_kept(cache: Any, audio: Callable[[int], Path]) -> None:
    def fail() -> Wave:
        raise AudioError("damaged")

    with pytest.raises(AudioError):
        cache.get(1, audio(1), fail)
    decode = Decoder()
    cache.get(1, audio(1), decode)
    assert decode.calls == 1


def test_threads_that_fill_a_cache_together_get_the_right_clips(
    cache: Any, audio: Callable[[int], Path]
) -> None:
    waves = [WAVE[number:] for number in range(4)]
    paths = [audio(number) for number in range(4)]

    def get(turn: int) -> bool:
        number = turn % 4
        clip = cache.get(number, paths[number], Decoder(waves[number]))
        return np.array_equal(unpacked(clip), waves[number])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(get, range(200)))


def test_memory_stays_within_its_bound(tmp_path: Path) -> None:
    cache = MemoryCache(3, 2 * PCM.nbytes + 8)
    decoders = [Decoder() for _ in range(3)]
    for _ in range(2):
        for index, decode in enumerate(decoders):
            assert np.array_equal(unpacked(cache.get(index, tmp_path, decode)), WAVE)
    assert [decode.calls for decode in decoders] == [1, 1, 2]
    assert cache.n_bytes == 2 * PCM.nbytes


def test_a_kept_clip_cannot_be_written_to(tmp_path: Path) -> None:
    cache = MemoryCache(1, 100_000)
    cache.get(0, tmp_path, Decoder())
    with pytest.raises(ValueError, match="read-only"):
        cache.get(0, tmp_path, refuse)[:] = 0


def _fill(cache: MemoryCache, path: Path) -> None:
    cache.get(0, path, Decoder())


def test_what_a_process_keeps_in_memory_the_others_read(tmp_path: Path) -> None:
    cache = MemoryCache(1, 100_000, START_METHOD)
    with ProcessPoolExecutor(
        1, START_METHOD, initializer=_fill, initargs=(cache, tmp_path)
    ) as pool:
        assert pool.submit(int).result(60) == 0
    assert np.array_equal(unpacked(cache.get(0, tmp_path, refuse)), WAVE)


def test_the_disk_cache_survives_its_process(tmp_path: Path, audio: Callable[[int], Path]) -> None:
    DiskCache(tmp_path / "cache", 16_000).get(0, audio(0), Decoder())
    other = pickle.loads(pickle.dumps(DiskCache(tmp_path / "cache", 16_000)))
    assert np.array_equal(unpacked(other.get(5, audio(0), refuse)), WAVE)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_changed_file_is_decoded_again(tmp_path: Path, audio: Callable[[int], Path]) -> None:
    cache = DiskCache(tmp_path / "cache", 16_000)
    path = audio(0)
    cache.get(0, path, Decoder())
    stamp = path.stat().st_mtime_ns
    path.write_bytes(b"other audio of another size")
    os.utime(path, ns=(stamp, stamp))
    assert np.array_equal(unpacked(cache.get(0, path, Decoder(WAVE[:9]))), WAVE[:9])
    os.utime(path, ns=(stamp, stamp + 1))
    assert np.array_equal(unpacked(cache.get(0, path, Decoder(WAVE[:7]))), WAVE[:7])


def test_another_decoder_or_rate_makes_another_entry(
    tmp_path: Path, audio: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "cache", audio(0)
    entry = DiskCache(folder, 16_000).entry(path)
    assert entry == DiskCache(folder, 16_000).entry(path)
    assert entry != DiskCache(folder, 8_000).entry(path)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "99")
    assert entry != DiskCache(folder, 16_000).entry(path)


def truncated(whole: bytes) -> bytes:
    return whole[:-100]


def one_bit_flipped(whole: bytes) -> bytes:
    return whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:]


def no_header(whole: bytes) -> bytes:
    return b"\x00" * len(whole)


def nothing(_whole: bytes) -> bytes:
    return b""


def a_pickle(_whole: bytes) -> bytes:
    return pickle.dumps(WAVE)


def without_checksum(whole: bytes) -> bytes:
    return whole[:-4]


def a_shape_out_of_this_world(whole: bytes) -> bytes:
    return whole.replace(b"(1000,), }         ", b"(1000000000000,), }")


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        one_bit_flipped,
        no_header,
        nothing,
        a_pickle,
        without_checksum,
        a_shape_out_of_this_world,
    ],
)
def test_a_damaged_entry_is_made_again(
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    audio: Callable[[int], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = DiskCache(tmp_path / "cache", 16_000)
    cache.get(0, audio(0), Decoder())
    entry = cache.entry(audio(0))
    entry.write_bytes(damage(entry.read_bytes()))
    with caplog.at_level(logging.WARNING):
        clip = cache.get(0, audio(0), Decoder())
    assert np.array_equal(unpacked(clip), WAVE)
    assert "is damaged" in caplog.text
    assert np.array_equal(unpacked(cache.get(0, audio(0), refuse)), WAVE)


def test_an_entry_that_holds_python_objects_is_never_unpickled(
    tmp_path: Path, audio: Callable[[int], Path]
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    cache = DiskCache(tmp_path / "cache", 16_000)
    cache.get(0, audio(0), Decoder())
    with cache.entry(audio(0)).open("wb") as file:
        np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    assert np.array_equal(unpacked(cache.get(0, audio(0), Decoder())), WAVE)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_costs_time_and_nothing_else(
    tmp_path: Path,
    audio: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = DiskCache(tmp_path / "cache", 16_000)

    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    decode = Decoder()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert np.array_equal(unpacked(cache.get(0, audio(0), decode)), WAVE)
    assert decode.calls == 3
    assert caplog.text.count("No space left on device") == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_missing_file_is_reported_by_the_decoder(tmp_path: Path) -> None:
    def fail() -> Wave:
        raise AudioError("does not exist")

    with pytest.raises(AudioError, match="does not exist"):
        DiskCache(tmp_path / "cache", 16_000).get(0, tmp_path / "none.flac", fail)


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        DiskCache(tmp_path / "file" / "cache", 16_000)
