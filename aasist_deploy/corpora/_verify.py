"""Whether a corpus is whole: its archives, its protocols, and every file that they name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from aasist_deploy.corpora._download import ARCHIVES
from aasist_deploy.corpora._measure import measure_all
from aasist_deploy.corpora._state import read_stamp
from aasist_deploy.download import digests_of
from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import Trial, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aasist_deploy.corpora._types import Archive, Corpus, Count

MAX_LISTED: Final = 20  # names in a report; the counts are of all

ArchiveState = Literal["right", "wrong", "unpacked", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveCheck:
    """One archive.

    Attributes:
        file: Its name.
        state: right: it is here with the known checksum; wrong: with another; unpacked: it was
            unpacked and removed; unknown: neither it nor a note of it is here, or it is here and
            no checksum is known.
        sha256: Of the archive, where it is here or was noted.
    """

    file: str
    state: ArchiveState
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCheck:
    """One split.

    Attributes:
        split: Its name.
        trials: What its protocol lists; 0 where that cannot be read.
        expected: What its publisher counts, or None where that is not known.
        n_missing: Files that are not on disk.
        missing: The first of them.
        n_unreadable: Files that cannot be read.
        unreadable: The first of them, each with its reason.
        n_second_decoder: Files that only the second decoder reads; None where none was decoded.
        problem: Why the protocol cannot be used, or how its counts differ, or None.
    """

    split: str
    trials: int
    expected: int | None
    n_missing: int = 0
    missing: tuple[str, ...] = ()
    n_unreadable: int = 0
    unreadable: tuple[str, ...] = ()
    n_second_decoder: int | None = None
    problem: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, unreadable or counted otherwise."""
        return self.problem is None and self.n_missing == 0 and self.n_unreadable == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `verify_corpus` found.

    Attributes:
        corpus: Its name.
        root: Where it was looked for.
        deep: Whether every file was decoded.
        archives: Each archive.
        splits: Each split.
        problem: How the trials of all splits differ from what the publisher counts, or None.
    """

    corpus: str
    root: str
    deep: bool
    archives: tuple[ArchiveCheck, ...]
    splits: tuple[SplitCheck, ...]
    problem: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every split and their sum are whole and no archive has a wrong checksum."""
        return (
            self.problem is None
            and all(split.is_whole for split in self.splits)
            and all(archive.state != "wrong" for archive in self.archives)
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object, with the verdict as ok."""
        return {"ok": self.is_whole, **asdict(self)}


def verify_corpus(
    corpus: Corpus,
    root: Path,
    *,
    splits: Sequence[str] = (),
    deep: bool = False,
    threads: int | None = None,
    on_split: Callable[[str, int], None] | None = None,
    on_file: Callable[[], None] | None = None,
) -> Verification:
    """Check the archives and the unpacked files of a corpus.

    Args:
        corpus: Which.
        root: Where it lies, as `load_dataset` reads it.
        splits: Only these; none named: all.
        deep: Decode every file whole, instead of reading its header.
        threads: Files looked at at once; None: one for each core.
        on_split: Called with (split, files) before its files are looked at.
        on_file: Called after each file.

    Raises:
        UsageError: The corpus has no such split.
    """
    found = tuple(
        _split(corpus, root, split, deep=deep, threads=threads, tell=(on_split, on_file))
        for split in corpus.splits_of(splits)
    )
    n_found, problem = sum(split.trials for split in found), None
    is_all = len(found) == len(corpus.splits)
    if is_all and corpus.n_trials is not None and n_found != corpus.n_trials:
        problem = f"{n_found} trials where the publisher counts {corpus.n_trials}"
    return Verification(
        corpus=corpus.name,
        root=str(root),
        deep=deep,
        archives=tuple(_archive(one, root) for one in corpus.archives_of(splits)),
        splits=found,
        problem=problem,
    )


def _archive(archive: Archive, root: Path) -> ArchiveCheck:
    stamp = read_stamp(root, archive.file)
    recorded = stamp.sha256 if stamp else None
    path = root / ARCHIVES / archive.file
    state: ArchiveState
    if not path.is_file():
        state = "unpacked" if stamp and stamp.unpacked else "unknown"
        return ArchiveCheck(file=archive.file, state=state, sha256=recorded)
    found = digests_of(path, ("sha256", "md5"))
    if archive.md5:
        state = "right" if found["md5"] in archive.md5 else "wrong"
    elif recorded is not None:
        state = "right" if found["sha256"] == recorded else "wrong"
    else:
        state = "unknown"
    return ArchiveCheck(file=archive.file, state=state, sha256=found["sha256"])


def _split(
    corpus: Corpus,
    root: Path,
    split: str,
    *,
    deep: bool,
    threads: int | None,
    tell: tuple[Callable[[str, int], None] | None, Callable[[], None] | None],
) -> SplitCheck:
    on_split, on_file = tell
    count = corpus.counts.get(split)
    expected = count.trials if count else None
    try:
        trials = load_dataset(corpus.dataset, root, split).trials
    except TrialsError as error:
        return SplitCheck(split=split, trials=0, expected=expected, problem=str(error))
    if on_split is not None:
        on_split(split, len(trials))
    missing, unreadable, n_second = [], [], 0
    for trial, file in measure_all(trials, deep=deep, threads=threads, on_file=on_file):
        n_second += file.second_decoder
        if file.is_missing:
            missing.append(trial.utterance)
        elif file.error is not None:
            unreadable.append(f"{trial.utterance}: {file.error}")
    return SplitCheck(
        split=split,
        trials=len(trials),
        expected=expected,
        n_missing=len(missing),
        missing=tuple(missing[:MAX_LISTED]),
        n_unreadable=len(unreadable),
        unreadable=tuple(unreadable[:MAX_LISTED]),
        n_second_decoder=n_second if deep else None,
        problem=_miscount(trials, count),
    )


def _miscount(trials: Sequence[Trial], count: Count | None) -> str | None:
    """How the classes of a split differ from what its publisher counts."""
    if count is None:
        return None
    n_bonafide = sum(trial.label == "bonafide" for trial in trials)
    found = {"trials": len(trials), "bonafide": n_bonafide, "spoof": len(trials) - n_bonafide}
    for name, n_expected in asdict(count).items():
        if n_expected is not None and found[name] != n_expected:
            return f"{found[name]} {name} where the publisher counts {n_expected}"
    return None
