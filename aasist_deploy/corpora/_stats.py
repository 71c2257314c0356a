"""What a corpus holds, split by split: trials, classes, attacks, speakers, durations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.audio import N_SAMPLES, SAMPLE_RATE_HZ
from aasist_deploy.corpora._measure import measure_all
from aasist_deploy.errors import TrialsError, UsageError
from aasist_deploy.trials import NO_ATTACK, Trial, dataset_splits, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_DERIVED: Final = ("all", "hidden1", "hidden2")  # splits that only join or divide others


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStats:
    """One split in numbers.

    Attributes:
        split: Its name.
        trials: Utterances in the protocol.
        bonafide: Bona fide ones.
        spoof: Spoofed ones.
        attacks: Attack -> spoofed trials; empty where the protocol names none.
        speakers: Different speakers, or None where the protocol names none.
        hours: Of the readable files.
        rates_hz: Sample rate -> files.
        channels: Channels -> files.
        seconds: Quantile -> duration in seconds; empty where no file can be read.
        short: Files of fewer than 64,600 samples at 16 kHz, which are tiled to fill a window.
        missing: Files that are not on disk.
        unreadable: Files that no decoder reads.
        second_decoder: Files that only the second decoder reads; None where files were not
            decoded.
    """

    split: str
    trials: int
    bonafide: int
    spoof: int
    attacks: Mapping[str, int]
    speakers: int | None
    hours: float
    rates_hz: Mapping[int, int]
    channels: Mapping[int, int]
    seconds: Mapping[float, float]
    short: int
    missing: int
    unreadable: int
    second_decoder: int | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with text as keys."""
        return {
            "split": self.split,
            "trials": self.trials,
            "bonafide": self.bonafide,
            "spoof": self.spoof,
            "attacks": dict(self.attacks),
            "speakers": self.speakers,
            "hours": self.hours,
            "sample_rates_hz": {str(rate): n for rate, n in self.rates_hz.items()},
            "channels": {str(channels): n for channels, n in self.channels.items()},
            "seconds": {f"{quantile:g}": value for quantile, value in self.seconds.items()},
            "shorter_than_window": self.short,
            "missing": self.missing,
            "unreadable": self.unreadable,
            "second_decoder": self.second_decoder,
        }


def trials_by_split(
    dataset: str, root: Path, splits: Sequence[str] = ()
) -> dict[str, tuple[Trial, ...]]:
    """Split -> its trials, of every split that partitions the dataset or of the named ones.

    A manifest is divided by its column split, where it has one. A corpus may be there in part:
    where no split is named, those without a protocol are left out.

    Raises:
        TrialsError: The dataset is not known, or none of it is as it should be.
        UsageError: It has no such split.
    """
    if dataset == "manifest":
        return _of_manifest(load_dataset(dataset, root, "all").trials, splits)
    known = dataset_splits(dataset)
    unknown = [name for name in splits if name not in known]
    if unknown:
        raise UsageError(f"{dataset} has no split {unknown[0]!r}.", fix=f"use {', '.join(known)}")
    if splits:
        return {split: load_dataset(dataset, root, split).trials for split in splits}
    found: dict[str, tuple[Trial, ...]] = {}
    errors: list[TrialsError] = []
    for split in tuple(name for name in known if name not in _DERIVED) or known:
        try:
            found[split] = load_dataset(dataset, root, split).trials
        except TrialsError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _of_manifest(trials: Sequence[Trial], splits: Sequence[str]) -> dict[str, tuple[Trial, ...]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.conditions.get("split", "all"), []).append(trial)
    unknown = [name for name in splits if name not in found]
    if unknown:
        raise UsageError(
            f"The manifest has no split {unknown[0]!r}.", fix=f"use {', '.join(found)}"
        )
    return {name: tuple(some) for name, some in found.items() if name in (splits or found)}


def split_stats(
    split: str,
    trials: Sequence[Trial],
    *,
    deep: bool = False,
    threads: int | None = None,
    on_file: Callable[[], None] | None = None,
) -> SplitStats:
    """Count the trials of a split and look at their files.

    Args:
        split: Its name.
        trials: Its trials.
        deep: Decode every file whole, instead of reading its header.
        threads: Files looked at at once; None: one for each core.
        on_file: Called after each file.
    """
    rates: Counter[int] = Counter()
    channels: Counter[int] = Counter()
    seconds = []
    n_missing = n_unreadable = n_second = 0
    for _, file in measure_all(trials, deep=deep, threads=threads, on_file=on_file):
        n_missing += file.is_missing
        n_unreadable += file.error is not None
        n_second += file.second_decoder
        if not file.is_missing and file.error is None:
            rates[file.rate_hz] += 1
            channels[file.n_channels] += 1
            seconds.append(file.seconds)
    values = np.asarray(seconds, dtype=np.float64)
    spoofed = [trial for trial in trials if trial.label == "spoof"]
    attacks = Counter(trial.attack for trial in spoofed if trial.attack != NO_ATTACK)
    speakers = {trial.speaker for trial in trials} - {None}
    return SplitStats(
        split=split,
        trials=len(trials),
        bonafide=len(trials) - len(spoofed),
        spoof=len(spoofed),
        attacks=dict(sorted(attacks.items())),
        speakers=len(speakers) or None,
        hours=float(values.sum()) / 3600,
        rates_hz=dict(sorted(rates.items())),
        channels=dict(sorted(channels.items())),
        seconds={q: float(np.quantile(values, q)) for q in QUANTILES} if seconds else {},
        short=int((np.round(values * SAMPLE_RATE_HZ) < N_SAMPLES).sum()),
        missing=n_missing,
        unreadable=n_unreadable,
        second_decoder=n_second if deep else None,
    )
