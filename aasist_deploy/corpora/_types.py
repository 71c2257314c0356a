"""What a corpus is made of: archives, where they are, and what they unpack to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KINDS: Final = (".zip", ".tar", ".tar.gz")
_MD5: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One file of a corpus, as its publisher distributes it.

    Attributes:
        file: Its name, there and here; ends in .zip, .tar or .tar.gz.
        urls: Where it is, in the order to try.
        about_bytes: Size, to plan disk space with; exact where `n_bytes` is known.
        n_bytes: Exact size, or None where no source states it.
        md5: As its publisher states it; several where sources disagree, and any of them will do;
            empty where none is known.
        splits: The splits that need it; empty: all do.
    """

    file: str
    urls: tuple[str, ...]
    about_bytes: int
    n_bytes: int | None = None
    md5: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the file is a plain name of a known kind and the rest is well formed."""
        if PurePosixPath(self.file).name != self.file or not self.file.endswith(_KINDS):
            raise UsageError(f"{self.file!r} is not the name of a .zip, .tar or .tar.gz file.")
        if not all(_MD5.fullmatch(one) for one in self.md5):
            raise UsageError(f"{self.file}: {self.md5} are not md5 sums in lower-case hexadecimal.")
        if self.about_bytes < 1 or (self.n_bytes is not None and self.n_bytes != self.about_bytes):
            raise UsageError(f"{self.file}: {self.about_bytes} and {self.n_bytes} bytes disagree.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Trials of a split as its publisher counts them; the classes where they are stated too."""

    trials: int
    bonafide: int | None = None
    spoof: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus by its publisher's archives.

    Attributes:
        name: What users type.
        title: Full name.
        dataset: Name that `aasist_deploy.trials.load_dataset` knows it by.
        archives: In the order they are fetched.
        splits: Those of the dataset that partition it.
        counts: Split -> what its protocol holds; a split without a stated count is absent.
        n_trials: Trials of all splits, where that is stated though those of each are not.
        licence: Licence and what it covers.
        citation: What to cite.
        page: Where its publisher presents it, for people.
    """

    name: str
    title: str
    dataset: str
    archives: tuple[Archive, ...]
    splits: tuple[str, ...]
    counts: Mapping[str, Count]
    licence: str
    citation: str
    page: str
    n_trials: int | None = None

    def __post_init__(self) -> None:
        """Check that no file has two archives and that splits exist."""
        files = [archive.file for archive in self.archives]
        if len(set(files)) != len(files) or not files:
            raise UsageError(f"The archives of {self.name} are {files}; each has its own name.")
        unknown = {split for one in self.archives for split in one.splits} - set(self.splits)
        if unknown:
            raise UsageError(f"{self.name} has no split {', '.join(sorted(unknown))}.")

    def archives_of(self, splits: Iterable[str] = ()) -> tuple[Archive, ...]:
        """The archives that these splits need; all of them when none is named.

        Raises:
            UsageError: The corpus has no such split.
        """
        wanted = set(self.splits_of(splits))
        return tuple(a for a in self.archives if not a.splits or wanted & set(a.splits))

    def splits_of(self, splits: Iterable[str] = ()) -> tuple[str, ...]:
        """The named splits in the corpus's order; all of them when none is named.

        Raises:
            UsageError: The corpus has no such split.
        """
        wanted = tuple(splits) or self.splits
        unknown = [split for split in wanted if split not in self.splits]
        if unknown:
            raise UsageError(
                f"{self.name} has no split {unknown[0]!r}.", fix=f"use {', '.join(self.splits)}"
            )
        return tuple(split for split in self.splits if split in wanted)
