"""Drawing trials with replacement, one by one or all of a speaker together."""

from __future__ import annotations

from collections.abc import Sequence  # an alias below needs it at run time
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray  # as above

from aasist_deploy.errors import MetricError

Unit = Literal["utterance", "speaker"]
Speakers = Sequence[str | None] | NDArray[np.str_]
_NOT_KNOWN: Final = ("", "-")


class Draws(Protocol):
    """A way to draw; called once for each replicate."""

    def __call__(self, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) how often each bona fide trial was drawn, and (m,) each spoofed one."""


class UtteranceDraws:
    """As many bona fide and as many spoofed trials as there are, each by itself."""

    def __init__(self, n_bonafide: int, n_spoof: int) -> None:
        self.sizes = n_bonafide, n_spoof

    def __call__(self, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Draws`."""
        n_bonafide, n_spoof = self.sizes
        return _counts(random, n_bonafide), _counts(random, n_spoof)


class SpeakerDraws:
    """As many speakers as there are, each with all of their trials.

    Speakers with trials of both classes, of bona fide alone and of spoof alone are three strata
    that are drawn from apart, so that no replicate lacks a class.

    Args:
        bonafide: (n,) speaker of each bona fide trial.
        spoof: (m,) speaker of each spoofed trial.

    Raises:
        MetricError: A speaker is not known, or there is one speaker only.

    Source: cluster bootstrap: Davison and Hinkley, Bootstrap methods and their application, 1997,
    section 3.8.
    """

    def __init__(self, bonafide: NDArray[np.str_], spoof: NDArray[np.str_]) -> None:
        both = np.concatenate((bonafide, spoof))
        n_unknown = int(np.isin(both, _NOT_KNOWN).sum())
        if n_unknown:
            raise MetricError(
                f"The speaker of {n_unknown} of {both.size} trials is not known.",
                fix="Resample by utterance, or give a protocol that names the speakers.",
            )
        speakers, numbers = np.unique(both, return_inverse=True)
        if speakers.size < 2:
            raise MetricError(
                f"There is {speakers.size} speaker; resampling by speaker needs at least two.",
                fix="Resample by utterance.",
            )
        self.n_speakers = int(speakers.size)
        self.of_bonafide, self.of_spoof = numbers[: len(bonafide)], numbers[len(bonafide) :]
        has = [
            np.bincount(of, minlength=speakers.size) > 0 for of in (self.of_bonafide, self.of_spoof)
        ]
        kinds = has[0] & has[1], has[0] & ~has[1], ~has[0] & has[1]
        self.strata = [np.flatnonzero(kind) for kind in kinds if kind.any()]

    def __call__(self, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Draws`."""
        times = np.empty(self.n_speakers, dtype=np.int64)
        for members in self.strata:
            times[members] = _counts(random, members.size)
        return times[self.of_bonafide], times[self.of_spoof]


def named_speakers(speakers: Speakers) -> NDArray[np.str_]:
    """(n,) the speakers, "" where not known."""
    if isinstance(speakers, np.ndarray):
        return speakers
    return np.array([speaker or "" for speaker in speakers], dtype=np.str_)


def _counts(random: np.random.Generator, n: int) -> NDArray[np.int64]:
    """How often each of n things comes up in n draws with replacement."""
    return np.bincount(random.integers(0, n, n), minlength=n)
