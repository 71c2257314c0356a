"""Fetch the archives of a corpus one after the other, check each, and unpack it.

An archive is fetched, unpacked and removed before the next, so that the disk holds the corpus and
one archive at most. Every step is noted in a stamp, and the same command goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy import download
from aasist_deploy.corpora._mirror import find_in_folder, joined, mirror_paths, parse_mirror
from aasist_deploy.corpora._state import FOLDER, Stamp, read_stamp, write_stamp
from aasist_deploy.corpora._unpack import BadArchiveError, unpack
from aasist_deploy.errors import DownloadError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aasist_deploy.corpora._types import Archive, Corpus

logger = logging.getLogger(__name__)

MIRROR_VARIABLE: Final = "AASIST_DEPLOY_DATA_MIRROR"
ARCHIVES: Final = "archives"  # folder below the root
_UNPACKED_RATIO: Final = (
    1.1  # speech in FLAC does not shrink; folders and their entries add a little
)

# (archive, "fetching" | "checking" | "unpacking", bytes so far, bytes in all or None)
Progress = Callable[[str, str, int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of one archive.

    Attributes:
        file: Its name.
        source: Where it came from; "here" when nothing had to be fetched.
        sha256: Of the archive.
        is_checked: Whether its publisher's checksum was known and held; otherwise its sha256 was
            recorded, and its members' own checksums are all that was checked.
        n_files: Files that it unpacked to; 0 when it was not unpacked.
        path: The archive, where it was kept.
    """

    file: str
    source: str
    sha256: str
    is_checked: bool
    n_files: int
    path: Path | None


def download_corpus(
    corpus: Corpus,
    root: Path,
    *,
    splits: Sequence[str] = (),
    mirror: str | os.PathLike[str] | None = None,
    archives_only: bool = False,
    keep_archives: bool = False,
    any_checksum: bool = False,
    force: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Fetched, ...]:
    """Fetch and unpack a corpus into `root`, in the layout that `load_dataset` reads.

    Args:
        corpus: What to fetch.
        root: The folder; archives go to its folder archives.
        splits: Fetch only the archives that these need; none named: all.
        mirror: A folder that holds the archives, which are then used where they lie and never
            removed; or the http(s) address of such a folder. None takes
            $AASIST_DEPLOY_DATA_MIRROR; empty: the publisher.
        archives_only: Do not unpack.
        keep_archives: Keep archives after unpacking.
        any_checksum: Take an archive whose checksum is another than the one known.
        force: Fetch and unpack again what is there.
        on_progress: Told every mebibyte.

    Returns:
        One entry for each archive, in their order.

    Raises:
        UsageError: The corpus has no such split, or the mirror is neither folder nor address.
        DownloadError: An archive cannot be had, has another checksum, or is not safe to unpack.
        OutputError: A place cannot be written, or there is too little space.
    """
    chosen = os.fspath(mirror) if mirror is not None else os.environ.get(MIRROR_VARIABLE, "")
    place = parse_mirror(chosen)
    is_named = isinstance(place, Path) and place.resolve() == (root / ARCHIVES).resolve()
    job = _Job(
        corpus=corpus,
        root=root,
        mirror=place,
        owns_archives=not is_named,
        archives_only=archives_only,
        keep_archives=keep_archives or archives_only,
        any_checksum=any_checksum,
        force=force,
        on_progress=on_progress or _silent,
    )
    archives = corpus.archives_of(splits)
    job.check_space(archives)
    return tuple(job.get(archive) for archive in archives)


def _silent(_file: str, _stage: str, _done: int, _total: int | None) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    corpus: Corpus
    root: Path
    mirror: Path | str | None
    owns_archives: bool  # the archives in ROOT/archives are not a folder that the user named
    archives_only: bool
    keep_archives: bool
    any_checksum: bool
    force: bool
    on_progress: Progress

    def get(self, archive: Archive) -> Fetched:
        """Fetch, check and unpack one archive, or find that all of it is there."""
        with download.locked(self.root / FOLDER / archive.file):
            old = read_stamp(self.root, archive.file)
            kept = self.root / ARCHIVES / archive.file
            is_kept = kept.is_file() or not self.keep_archives
            is_unpacked = old is not None and old.is_in_place(self.root) and not self.force
            if old is not None and is_unpacked and is_kept and not self.archives_only:
                return self._fetched(archive, old, "here", kept)
            path, stamp = self._archive(archive, kept, old)
            if not self.archives_only:
                stamp = self._unpacked(path, stamp, is_ours=self.owns_archives and path == kept)
            elif old is not None and is_unpacked and old.sha256 == stamp.sha256:
                stamp = old
            write_stamp(self.root, stamp)
            if self.owns_archives and path == kept and not self.keep_archives:
                _remove(kept)
            return self._fetched(archive, stamp, stamp.source, path)

    def check_space(self, archives: Sequence[Archive]) -> None:
        """Find out now rather than hours later that the disk is too small.

        Raises:
            OutputError: It is; the message has both numbers.
        """
        needed, largest = 0.0, 0
        for one in archives:
            stamp = read_stamp(self.root, one.file)
            if stamp and stamp.is_in_place(self.root) and not self.force:
                continue
            here = self.root / ARCHIVES / one.file
            n_to_fetch = max(0, one.about_bytes - _size_of(here) - _size_of(_part_of(here)))
            if isinstance(self.mirror, Path) and (self.mirror / one.file).is_file():
                n_to_fetch = one.about_bytes if self.archives_only else 0
            if self.keep_archives:
                needed += n_to_fetch
            else:
                largest = max(largest, n_to_fetch)
            if not self.archives_only:
                n_to_unpack = one.about_bytes * _UNPACKED_RATIO - self._staged_bytes(one.file)
                needed += max(0.0, n_to_unpack)
        needed += largest
        place = self.root.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > free:
            raise OutputError(
                f"{self.corpus.name} needs about {needed / 1e9:.1f} GB in {self.root}, and "
                f"{free / 1e9:.1f} GB are free there.",
                fix="choose another --root, or fetch less with --split",
            )

    def _staged_bytes(self, file: str) -> int:
        """What an interrupted run has unpacked already."""
        found = (self.root / FOLDER).glob(f"{file}.*/**/*")
        return sum(path.stat().st_size for path in found if path.is_file())

    def _archive(self, archive: Archive, kept: Path, old: Stamp | None) -> tuple[Path, Stamp]:
        """The checked archive, from here, the mirror or its publisher, and its stamp."""
        if kept.is_file() and not self.force:
            stamp, fault = self._checked(archive, kept, old, str(kept))
            if fault is None:
                return kept, stamp
            logger.warning("%s has %s; fetching it again", kept, fault)
        if isinstance(self.mirror, Path):
            path = find_in_folder(self.corpus, archive, self.mirror)
            stamp, fault = self._checked(archive, path, old, str(path))
            if fault is not None:
                raise self._wrong(path, fault)
            if self.archives_only and path != kept:
                self._copy(path, kept)
                path = kept
            return path, stamp
        source = self._fetch(archive, kept)
        stamp, fault = self._checked(archive, kept, old, source)
        if fault is not None:  # another than the first time; its publisher states no checksum
            _remove(kept)
            raise self._wrong(source, fault)
        return kept, stamp

    def _copy(self, path: Path, kept: Path) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        n_bytes = path.stat().st_size
        sha256 = download.sha256_of(path)
        download.copy(path, kept, _part_of(kept), sha256=sha256, n_bytes=n_bytes)

    def _fetch(self, archive: Archive, kept: Path) -> str:
        """Fetch from the first address that has the file; return the address."""
        addresses = archive.urls
        if isinstance(self.mirror, str):
            addresses = tuple(
                joined(self.mirror, path) for path in mirror_paths(self.corpus, archive)
            )
        reasons: list[str] = []
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{kept.parent} cannot be made ({error.strerror}).") from error
        for url in addresses:
            try:
                download.fetch(
                    url,
                    kept,
                    _part_of(kept),
                    sha256=None,
                    md5=() if self.any_checksum else archive.md5,
                    n_bytes=None if self.any_checksum else archive.n_bytes,
                    on_progress=self._told(archive.file, "fetching"),
                )
            except DownloadError as error:
                logger.info("%s", error)
                reasons.append(str(error))
            else:
                return download.shown(url)
        raise DownloadError(
            f"{archive.file} of {self.corpus.name} could not be fetched: {' '.join(reasons)}",
            fix="run the same command again, which goes on where it stopped; or get the file from "
            f"{self.corpus.page} by other means and name its folder with --from FOLDER"
            + ("; --any-checksum takes a file that was replaced" if archive.md5 else ""),
        )

    def _checked(
        self, archive: Archive, path: Path, old: Stamp | None, source: str
    ) -> tuple[Stamp, str | None]:
        """The stamp of an archive, and how it differs from what is known of it."""
        digests = download.digests_of(path, ("sha256", "md5"), self._told(archive.file, "checking"))
        n_bytes = path.stat().st_size
        stamp = Stamp(
            file=archive.file,
            n_bytes=n_bytes,
            sha256=digests["sha256"],
            md5=digests["md5"],
            source=source,
        )
        if self.any_checksum:
            return stamp, None
        if archive.md5 and stamp.md5 not in archive.md5:
            expected = " or ".join(archive.md5)
            return stamp, f"{n_bytes} bytes with md5 {stamp.md5} where {expected} is expected"
        if not archive.md5 and old is not None and old.sha256 != stamp.sha256:
            return stamp, f"sha256 {stamp.sha256} where {old.sha256} was recorded the first time"
        return stamp, None

    def _wrong(self, source: object, fault: str) -> DownloadError:
        return DownloadError(
            f"{source} has {fault}.",
            fix="fetch it again or from another place; if its publisher has replaced it, say so "
            "with --any-checksum",
        )

    def _unpacked(self, path: Path, stamp: Stamp, *, is_ours: bool) -> Stamp:
        try:
            found = unpack(
                path,
                self.root,
                self.root / FOLDER / f"{stamp.file}.{stamp.sha256[:16]}",
                on_progress=self._told(stamp.file, "unpacking"),
            )
        except BadArchiveError:
            if is_ours:  # else every further run would meet the same file
                _remove(path)
            raise
        return replace(
            stamp, unpacked=True, n_files=found.n_files, first=found.first, last=found.last
        )

    def _fetched(self, archive: Archive, stamp: Stamp, source: str, path: Path) -> Fetched:
        return Fetched(
            file=archive.file,
            source=source,
            sha256=stamp.sha256,
            is_checked=stamp.md5 in archive.md5,
            n_files=stamp.n_files,
            path=path if path.is_file() else None,
        )

    def _told(self, file: str, stage: str) -> Callable[[int, int | None], None]:
        """Pass on progress once for every mebibyte."""
        last = -1

        def tell(done: int, total: int | None) -> None:
            nonlocal last
            if done >> 20 != last or done == total:
                last = done >> 20
                self.on_progress(file, stage, done, total)

        return tell


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed ({error.strerror}).") from error
