"""Decoded clips kept for the next epoch: in memory that all workers share, or in files.

A clip is kept as int16 where that is exact (all 16-bit sources at the model's rate), and as float32
otherwise. A cache never changes what training sees, only when it is decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import mmap
import multiprocessing
import os
import tempfile
import zlib
from multiprocessing import reduction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from aasist_deploy.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Pcm: TypeAlias = "NDArray[np.int16] | NDArray[np.float32]"

FORMAT: Final = 1  # raise it when an entry is to be written otherwise
_DECODERS: Final = ("soundfile", "av", "soxr")  # whose versions decide what a file decodes to
_CRC_BYTES: Final = 4
_ROW: Final = 3  # of the memory cache's table: offset in bytes, samples, kind
_INT16, _FLOAT32 = 1, 2  # kinds; 0 is a clip that is not there


class ClipCache(Protocol):
    """Something that keeps decoded clips."""

    def get(self, index: int, path: Path, decode: Callable[[], NDArray[np.float32]]) -> Pcm:
        """The clip as it was kept, or decoded now; never to be written to.

        Args:
            index: Of the trial in its split.
            path: Of its audio.
            decode: Gives (N,) samples; what it raises is passed on, and nothing is kept.
        """
        ...


class NoCache:
    """Decodes every time."""

    def get(self, index: int, path: Path, decode: Callable[[], NDArray[np.float32]]) -> Pcm:
        """See `ClipCache.get`."""
        del index, path
        return decode()


def packed(wave: NDArray[np.float32]) -> Pcm:
    """(N,) int16 where wave * 32768 is a whole number in its range everywhere, else the wave."""
    scaled = wave * np.float32(32768)  # exact: a power of two
    if scaled.min() < -32768 or scaled.max() > 32767:
        return wave
    rounded = scaled.astype(np.int16)
    return rounded if np.array_equal(rounded, scaled) else wave


def unpacked(clip: Pcm) -> NDArray[np.float32]:
    """(N,) a fresh float32 wave."""
    if clip.dtype == np.int16:
        return np.multiply(clip, np.float32(1 / 32768), dtype=np.float32)
    return np.array(clip, dtype=np.float32)


class MemoryCache:
    """One piece of memory that all worker processes of a run fill and read; bounded.

    It is a file without a name, so that nothing is left behind however the run ends. Pages are
    taken as clips come. When it is full, the other clips are decoded every time.

    Args:
        n_clips: Trials of the split.
        max_bytes: Of the samples.
        context: Whose processes it is handed to.

    Thread-safe, and safe between processes: rows are read and written under one lock.
    """

    def __init__(
        self,
        n_clips: int,
        max_bytes: int,
        context: multiprocessing.context.BaseContext | None = None,
    ) -> None:
        self._n_clips, self._max_bytes = n_clips, max_bytes
        self._lock = (context or multiprocessing.get_context()).Lock()
        self._head = (1 + n_clips * _ROW) * 8  # first the bytes in use, then the table
        self._fd = _nameless_file()
        os.ftruncate(self._fd, self._head + max_bytes)
        self._map()

    def _map(self) -> None:
        self._memory = mmap.mmap(self._fd, self._head + self._max_bytes)
        table = np.frombuffer(self._memory, np.int64, 1 + self._n_clips * _ROW)
        self._used, self._rows = table[:1], table[1:].reshape(-1, _ROW)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_memory", "_used", "_rows"):
            del state[name]
        state["_fd"] = reduction.DupFd(self._fd)  # only while a process is being started
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fd = state["_fd"].detach()
        self._map()

    def __del__(self) -> None:
        fd = self.__dict__.get("_fd")
        if isinstance(fd, int):
            with contextlib.suppress(OSError):
                os.close(fd)

    @property
    def n_bytes(self) -> int:
        """Bytes of samples that are kept."""
        return int(self._used[0])

    def get(self, index: int, path: Path, decode: Callable[[], NDArray[np.float32]]) -> Pcm:
        """See `ClipCache.get`."""
        del path
        if (kept := self._kept(index)) is not None:
            return kept
        clip = packed(decode())
        self._keep(index, clip)
        return clip

    def _kept(self, index: int) -> Pcm | None:
        with self._lock:
            offset, n_samples, kind = self._rows[index].tolist()
        if not kind:
            return None
        start = self._head + offset
        clip: Pcm = (
            np.frombuffer(self._memory, np.int16, n_samples, start)
            if kind == _INT16
            else np.frombuffer(self._memory, np.float32, n_samples, start)
        )
        clip.flags.writeable = False
        return clip

    def _keep(self, index: int, clip: Pcm) -> None:
        with self._lock:
            start = self.n_bytes
            stop = start + -(-clip.nbytes // 8) * 8
            if self._rows[index, 2] or stop > self._max_bytes:
                return
            view = np.frombuffer(self._memory, clip.dtype, clip.size, self._head + start)
            view[:] = clip
            self._used[0] = stop
            self._rows[index] = start, clip.size, _INT16 if clip.dtype == np.int16 else _FLOAT32


class DiskCache:
    """One .npy file for each clip, with a checksum after it, in a folder that runs may share.

    An entry's name is a hash of the clip's path, size, time of change, sample rate and of the
    versions of the decoders: a changed file gets another entry. Entries are written beside their
    place and renamed; a damaged one is made again. Nothing is ever unpickled.

    Args:
        folder: Made when it is not there.
        sample_rate_hz: Of the decoded clips.

    Raises:
        OutputError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path, sample_rate_hz: int) -> None:
        self._folder = folder
        versions = [f"{name} {importlib.metadata.version(name)}" for name in _DECODERS]
        self._salt = "\0".join([f"format {FORMAT}", f"{sample_rate_hz} Hz", *versions])
        self._full = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputError(
                f"The cache folder {folder} cannot be written ({error.strerror}).",
                fix="set data.cache_dir to a folder that can, or data.cache to memory or none",
            ) from error

    def entry(self, path: Path) -> Path:
        """Where the clip is kept.

        Raises:
            OSError: The audio file is not there.
        """
        status = path.stat()
        text = f"{self._salt}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        name = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:40]
        return self._folder / name[:2] / f"{name[2:]}.npy"

    def get(self, index: int, path: Path, decode: Callable[[], NDArray[np.float32]]) -> Pcm:
        """See `ClipCache.get`."""
        del index
        try:
            entry = self.entry(path)
        except OSError:
            return decode()  # which says what is wrong with the file
        if (kept := _read_entry(entry)) is not None:
            return kept
        clip = packed(decode())
        if not self._full:
            try:
                _write_entry(entry, clip)
            except OSError as error:
                self._full = True
                log.warning(
                    "the cache %s cannot be written any more (%s): clips that it does not hold "
                    "are decoded every time",
                    self._folder,
                    error.strerror,
                )
        return clip


def default_memory_bytes(n_ranks: int = 1) -> int:
    """Half of the machine's memory, shared by the runs on it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // n_ranks


def _read_entry(entry: Path) -> Pcm | None:
    """The clip, or None when there is no whole one."""
    try:
        with entry.open("rb") as file:
            clip: Pcm = np.lib.format.read_array(file, allow_pickle=False)  # no zip archives
            check = file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        # What NumPy raises on a damaged header; MemoryError for a shape out of this world.
        log.warning("%s is damaged (%s) and is made again", entry, error)
        return None
    whole = (
        clip.ndim == 1
        and clip.size > 0
        and clip.dtype in {np.dtype(np.int16), np.dtype(np.float32)}
        and check == _checksum(clip)
    )
    if not whole:
        log.warning("%s is damaged (checksum) and is made again", entry)
        return None
    return clip


def _write_entry(entry: Path, clip: Pcm) -> None:
    entry.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=entry.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, clip, allow_pickle=False)
            file.write(_checksum(clip))
        Path(name).replace(entry)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _checksum(clip: Pcm) -> bytes:
    return zlib.crc32(clip.tobytes()).to_bytes(_CRC_BYTES, "big")


def _nameless_file() -> int:
    """A descriptor of memory (Linux), or of a file that is deleted already."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aasist-deploy-clips", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
