"""Unpack an archive that may be hostile or damaged, whole or not at all, resumably.

Members go to a folder of their own first, each under a temporary name until it is whole. Only when
all are there and every checksum in the archive holds are they moved to where they belong. What an
interrupted run has unpacked is kept and not unpacked again.

Refused: absolute names, "..", backslashes, links of any kind, devices, encrypted members, a name
that appears twice, more bytes or members than a corpus has. Modes and owners are not taken over.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from aasist_deploy.errors import DownloadError, OutputError
from aasist_deploy.tar_headers import SmallHeaders
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[int, int | None], None]

MAX_MEMBERS: Final = 1_000_000  # the largest archive, a part of ASVspoof 2021 DF, has 152,958
MAX_RATIO: Final = 4  # audio hardly shrinks: all published archives are below 2
MIN_LIMIT_BYTES: Final = 2 << 30  # and protocols, which do shrink, are small
_MAX_TRAILING_BYTES: Final = 64 << 20  # tar fills its last record with zeros, 10 kB as a rule
_CHUNK_BYTES: Final = 1 << 20
_WHOLE: Final = "whole.json"  # says that all members are there, and may be moved
_DAMAGED: Final = (
    EOFError,
    IndexError,
    OverflowError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    gzip.BadGzipFile,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class BadArchiveError(DownloadError):
    """The archive is damaged, or holds what no corpus holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What an archive held: so many files and bytes, and the names of its first and last file."""

    n_files: int
    n_bytes: int
    first: str
    last: str


def unpack(
    archive: Path, root: Path, staging: Path, *, on_progress: Progress | None = None
) -> Unpacked:
    """Unpack a .zip, .tar or .tar.gz file into `root`.

    Args:
        archive: The file; its name tells its kind.
        root: Where its members go; files of the same name are replaced.
        staging: A folder of this archive alone, on the file system of `root`; kept when the work
            is interrupted, and removed when it is done or the archive is refused.
        on_progress: Called with (bytes so far, bytes in all).

    Raises:
        BadArchiveError: The archive is damaged or not safe to unpack; nothing of it is in `root`.
        OutputError: A place cannot be written, or there is too little space.
    """
    into, whole = staging / "members", staging / _WHOLE
    try:
        into.mkdir(parents=True, exist_ok=True)
        if not whole.exists():  # else an earlier run was interrupted while it moved the members
            with _told(archive):
                found = _members(archive, into, on_progress)
            write_text_atomically(whole, [json.dumps(asdict(found))])
        with _told(whole):
            found = Unpacked(**json.loads(whole.read_text(encoding="utf-8")))
        _merge(into, root)
        os.sync()  # before anybody notes that it is done
        shutil.rmtree(staging)
    except BadArchiveError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    except OSError as error:
        place = error.filename2 or error.filename or root
        raise OutputError(
            f"{place} cannot be written while unpacking {archive.name} "
            f"({error.strerror or error}).",
            fix="make space or name another folder, and run the same command again: it goes on",
        ) from error
    return found


def _members(archive: Path, into: Path, on_progress: Progress | None) -> Unpacked:
    limit_bytes = max(MIN_LIMIT_BYTES, MAX_RATIO * archive.stat().st_size)
    job = _Job(archive, into, limit_bytes)
    (_zip if archive.name.endswith(".zip") else _tar)(job, on_progress)
    if job.n_files == 0:
        raise BadArchiveError(f"{archive} holds no files.")
    return Unpacked(n_files=job.n_files, n_bytes=job.n_bytes, first=job.first, last=job.last)


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """Turn what the archive modules raise on damage into one error."""
    try:
        yield
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArchiveError(
            f"{archive} is damaged ({reason}).", fix="remove it and fetch it again"
        ) from error
    except (NotImplementedError, RuntimeError) as error:  # compression or encryption of a zip
        raise BadArchiveError(f"{archive} cannot be unpacked ({error}).") from error


@dataclass(slots=True)
class _Job:
    """The members of one archive on their way into a folder."""

    archive: Path
    into: Path
    limit_bytes: int
    n_files: int = 0
    n_bytes: int = 0
    first: str = ""
    last: str = ""
    seen: set[str] = field(default_factory=set)

    def place(self, name: str, *, is_folder: bool) -> Path:
        """Where a member goes, after every check of its name."""
        path = PurePosixPath(name)
        bad = (
            not name.strip("/. ")
            or path.is_absolute()
            or ".." in path.parts
            or any(ord(letter) < 32 for letter in name)
            or "\\" in name
            or ":" in path.parts[0]
        )
        if bad:
            raise self.refused(f"the name {name[:80]!r}")
        key = str(path)
        if key in self.seen and not is_folder:
            raise self.refused(f"the name {key[:80]!r} twice")
        if len(self.seen) >= MAX_MEMBERS:
            raise self.refused(f"more than {MAX_MEMBERS} members")
        self.seen.add(key)
        return self.into / path

    def refused(self, what: str) -> BadArchiveError:
        return BadArchiveError(
            f"{self.archive} is not safe to unpack: it holds {what}.",
            fix="do not use this file; fetch it again from its publisher",
        )

    def account(self, n_bytes: int) -> None:
        """Count the bytes of a member before it is written."""
        self.n_bytes += n_bytes
        if n_bytes < 0 or self.n_bytes > self.limit_bytes:
            raise self.refused(f"more than {self.limit_bytes} bytes when unpacked")

    def write(self, path: Path, source: IO[bytes], n_bytes: int) -> None:
        """Write a member of exactly `n_bytes`, under a temporary name until it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.into.with_name("member.part")
        n_left = n_bytes
        with temporary.open("wb") as out:
            while n_left and (block := source.read(min(n_left, _CHUNK_BYTES))):
                out.write(block)
                n_left -= len(block)
        if n_left:
            raise EOFError(f"{path.name} ends {n_left} bytes early")
        if source.read(1):  # lets a zip check its CRC at the end, too
            raise self.refused(f"more bytes of {path.name} than it declares")
        temporary.replace(path)

    def done(self, path: Path) -> None:
        self.n_files += 1
        self.last = path.relative_to(self.into).as_posix()
        self.first = self.first or self.last


def _zip(job: _Job, on_progress: Progress | None) -> None:
    with zipfile.ZipFile(job.archive) as archive:
        members = [info for info in archive.infolist() if not info.filename.startswith("__MACOSX/")]
        places = []
        for info in members:  # before a byte is written
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise job.refused(f"{info.filename[:80]!r}, which is a link or device")
            places.append(job.place(info.filename, is_folder=info.is_dir()))
            job.account(info.file_size)
        n_done = 0
        for info, path in zip(members, places, strict=True):
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            if not (_size_of(path) == info.file_size and _crc32_of(path) == info.CRC):
                with archive.open(info) as source:
                    job.write(path, source, info.file_size)
            job.done(path)
            n_done += info.file_size
            if on_progress is not None:
                on_progress(n_done, job.n_bytes)


def _tar(job: _Job, on_progress: Progress | None) -> None:
    n_archive = job.archive.stat().st_size
    with job.archive.open("rb") as raw:
        is_gzip = job.archive.name.endswith(".gz")
        plain: IO[bytes] = gzip.GzipFile(fileobj=raw) if is_gzip else raw  # type: ignore[assignment]
        # As a stream, so that each byte is read once; tarfile's own gzip would not check the CRC.
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=SmallHeaders) as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps every header
                _tar_member(job, archive, info)
                if on_progress is not None:
                    on_progress(raw.tell(), n_archive)
        n_more = 0
        while block := plain.read(_CHUNK_BYTES):
            n_more += len(block)
            if n_more > _MAX_TRAILING_BYTES:
                raise job.refused(f"more than {_MAX_TRAILING_BYTES} bytes after its end")


def _tar_member(job: _Job, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise job.refused(f"{info.name[:80]!r}, which is a link, a device or sparse")
    if info.isdir() and not info.name.strip("/. "):
        return  # "./", which many a tar begins with
    path = job.place(info.name.removeprefix("./"), is_folder=info.isdir())
    tarfile.data_filter(info, str(job.into))  # Python's own rules besides ours
    if info.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    job.account(info.size)
    if _size_of(path) != info.size:  # a whole file of an earlier run is not written again
        source = archive.extractfile(info)
        assert source is not None
        job.write(path, source, info.size)
    job.done(path)


def _merge(source: Path, target: Path) -> None:
    """Move a tree into another, folder by folder; a folder that is new there moves at once."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return
    for entry in sorted(os.scandir(source), key=lambda one: one.name):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(Path(entry.path), place)
        else:
            Path(entry.path).replace(place)
    with suppress(FileNotFoundError):
        source.rmdir()


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _crc32_of(path: Path) -> int:
    crc = 0
    with path.open("rb") as raw:
        while block := raw.read(_CHUNK_BYTES):
            crc = zlib.crc32(block, crc)
    return crc
