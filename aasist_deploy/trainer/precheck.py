"""What a split holds and what is wrong with it, told before the first epoch."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import soundfile

from aasist_deploy.audio import AUDIO_SUFFIXES, SAMPLE_RATE_HZ, read_audio
from aasist_deploy.errors import AudioError, TrialsError
from aasist_deploy.trials import NO_ATTACK
from aasist_deploy.trials.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aasist_deploy.trials import Dataset, Trial

CHECK_THREADS: Final = 8  # opening files waits for the disk
MAX_NAMED: Final = 5  # files in a message; the report has all
_HEADER_SUFFIXES: Final = frozenset({".flac", ".wav"})  # others are asked through `read_audio`
_HEADER_RATES_HZ: Final = range(1_000, 1_536_001)  # outside, `read_audio` says what is wrong
_MAX_FRAMES: Final = 1 << 62  # libsndfile's sign for a length that the header does not tell


class BadFile(NamedTuple):
    """A file that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What a split holds and what is wrong with it.

    Attributes:
        dataset: Name in the registry.
        split: The part that was looked at.
        protocol: File that lists the trials.
        n_bonafide: Trials by label.
        n_spoof: Trials by label.
        attacks: Trials by attack, of spoofs.
        missing: Files that the protocol lists and that are not there.
        unreadable: Files that are there and are no usable audio.
        n_short: Clips shorter than the window, which are tiled.
        n_resampled: Clips of another sample rate than 16 kHz.
        seconds: Duration of all readable clips together.
        n_samples: The window.
        n_unlisted: Audio files in the trials' folders that the protocol does not list.
        decoded: Whether every file was decoded, not its header read alone.
    """

    dataset: str
    split: str
    protocol: str
    n_bonafide: int
    n_spoof: int
    attacks: dict[str, int]
    missing: tuple[str, ...]
    unreadable: tuple[BadFile, ...]
    n_short: int
    n_resampled: int
    seconds: float
    n_samples: int
    n_unlisted: int
    decoded: bool

    @property
    def n_trials(self) -> int:
        """Trials of both classes."""
        return self.n_bonafide + self.n_spoof

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        content = asdict(self)
        content["missing"] = list(self.missing)
        content["unreadable"] = [bad._asdict() for bad in self.unreadable]
        return content

    def lines(self) -> list[str]:
        """For a person; the first line is a summary, the others are what to know or to mend."""
        found = [
            (
                f"{self.dataset} {self.split}: {self.n_trials} trials, {self.n_bonafide} bona "
                f"fide, {self.n_spoof} spoof, {self.seconds / 3600:.2f} h"
            )
        ]
        if self.attacks:
            found.append("attacks: " + ", ".join(f"{k} {n}" for k, n in self.attacks.items()))
        window = f"{self.n_samples} samples ({self.n_samples / SAMPLE_RATE_HZ:.2f} s)"
        for count, words in (
            (self.n_short, f"shorter than the window of {window}: they are tiled"),
            (self.n_resampled, f"not at {SAMPLE_RATE_HZ} Hz: they are resampled"),
            (self.n_unlisted, "in the folders of the audio that the protocol does not list"),
        ):
            if count:
                found.append(f"{count} files {words}")
        found += [f"missing: {path}" for path in self.missing[:MAX_NAMED]]
        found += [f"unreadable: {bad.reason}" for bad in self.unreadable[:MAX_NAMED]]
        more = sum(max(0, len(bad) - MAX_NAMED) for bad in (self.missing, self.unreadable))
        if more:
            found.append(f"and {more} more")
        return found

    def require_usable(self) -> None:
        """Check that a network can be trained, or chosen, on the split.

        Raises:
            TrialsError: It is empty, has one class only, or files are missing or unreadable.
        """
        where = f"{self.dataset} {self.split} ({self.protocol})"
        if not self.n_trials:
            raise TrialsError(
                f"{where} has no trial.",
                fix="name another split, or raise data.limit_train or data.limit_dev",
            )
        if not (self.n_bonafide and self.n_spoof):
            raise TrialsError(
                f"{where} has {self.n_bonafide} bona fide and {self.n_spoof} spoof trials; "
                "training and choosing the best epoch need both classes.",
                fix="add trials of the other class, or check the labels",
            )
        if self.missing:
            raise TrialsError(
                f"{len(self.missing)} of {self.n_trials} files of {where} are missing, first "
                f"{self.missing[0]}; files beside them that it does not list: {self.n_unlisted}.",
                fix="unpack the whole corpus there, or give a protocol of what is there",
            )
        if self.unreadable:
            raise TrialsError(
                f"{len(self.unreadable)} of {self.n_trials} files of {where} cannot be read; "
                f"first: {self.unreadable[0].reason}",
                fix="fetch them again, or take them out of the protocol",
            )


def precheck(
    dataset: Dataset,
    *,
    n_samples: int,
    decode: bool = False,
    whole: bool = True,
    threads: int = CHECK_THREADS,
) -> DataReport:
    """Look at every file of a split, and refuse one that cannot be trained on.

    Args:
        dataset: The split.
        n_samples: The window; shorter clips are counted.
        decode: Decode every file. A truncated FLAC file has a good header: only this finds it.
        whole: Whether the trials are all that the protocol lists; of a part of it, files that are
            not listed are not counted.
        threads: Files looked at at the same time.

    Raises:
        TrialsError: See `DataReport.require_usable`.
    """
    report = survey(dataset, n_samples=n_samples, decode=decode, whole=whole, threads=threads)
    report.require_usable()
    return report


def survey(
    dataset: Dataset,
    *,
    n_samples: int,
    decode: bool = False,
    whole: bool = True,
    threads: int = CHECK_THREADS,
) -> DataReport:
    """As `precheck`, and leaves the judgement to the caller."""
    labels = Counter(trial.label for trial in dataset.trials)
    spoofs = (trial.attack for trial in dataset.trials if trial.attack != NO_ATTACK)
    paths = [trial.path for trial in dataset.trials]
    with ThreadPoolExecutor(threads, thread_name_prefix="precheck") as pool:
        look = _decoded if decode else _header
        found = list(pool.map(look, paths))
        n_unlisted = _count_unlisted(dataset) if whole else 0
    clips = [each for each in found if isinstance(each, _Clip)]
    return DataReport(
        dataset=dataset.name,
        split=dataset.split,
        protocol=str(dataset.protocol),
        n_bonafide=labels["bonafide"],
        n_spoof=labels["spoof"],
        attacks=dict(sorted(Counter(spoofs).items())),
        missing=tuple(each.path for each in found if isinstance(each, _Missing)),
        unreadable=tuple(each for each in found if isinstance(each, BadFile)),
        n_short=sum(clip.seconds * SAMPLE_RATE_HZ < n_samples for clip in clips),
        n_resampled=sum(clip.rate_hz != SAMPLE_RATE_HZ for clip in clips),
        seconds=sum(clip.seconds for clip in clips),
        n_samples=n_samples,
        n_unlisted=n_unlisted,
        decoded=decode,
    )


def shared_clips(one: Sequence[Trial], other: Sequence[Trial]) -> tuple[Path, ...]:
    """Files that both splits hold: what is learnt by heart is no dev result."""
    held = {trial.path for trial in one}
    return tuple(trial.path for trial in other if trial.path in held)


class _Clip(NamedTuple):
    seconds: float
    rate_hz: int


class _Missing(NamedTuple):
    path: str


def _header(path: Path) -> _Clip | _Missing | BadFile:
    """By the header; what libsndfile does not know is asked of all decoders."""
    if path.suffix.lower() not in _HEADER_SUFFIXES or not path.is_file():
        return _start(path)
    try:
        with soundfile.SoundFile(path) as sound:
            n_frames, rate_hz = sound.frames, sound.samplerate
    except (soundfile.SoundFileError, OSError):
        return _start(path)
    if not 0 < n_frames < _MAX_FRAMES or rate_hz not in _HEADER_RATES_HZ:
        return _start(path)
    return _Clip(n_frames / rate_hz, rate_hz)


def _start(path: Path) -> _Clip | _Missing | BadFile:
    return _read(path, max_samples=1)


def _decoded(path: Path) -> _Clip | _Missing | BadFile:
    return _read(path, max_samples=None)


def _read(path: Path, max_samples: int | None) -> _Clip | _Missing | BadFile:
    try:
        audio = read_audio(path, max_samples=max_samples)
    except AudioError as error:
        # A link to nowhere is missing too; a folder or a pipe of that name is not.
        return BadFile(str(path), str(error)) if path.exists() else _Missing(str(path))
    return _Clip(audio.seconds, audio.source_rate_hz)


def _count_unlisted(dataset: Dataset) -> int:
    listed: dict[Path, set[str]] = {trial.path.parent: set() for trial in dataset.trials}
    trials = dataset.trials
    if dataset.name == "manifest":  # one file lists all splits, often in one folder
        trials = parse_manifest(dataset.protocol)
    for trial in trials:
        listed.get(trial.path.parent, set()).add(trial.path.name)
    unlisted = 0
    for folder, names in listed.items():
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            unlisted += sum(
                Path(entry.name).suffix.lower() in AUDIO_SUFFIXES and entry.name not in names
                for entry in entries
            )
    return unlisted
