"""What a condition is, and what it may know of the clip that it changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Wave: TypeAlias = NDArray[np.float32]


class NotApplicableError(Exception):
    """The condition has no meaning for this clip, e.g. it is shorter than the offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a condition may know of the clip, beyond its samples.

    Attributes:
        utterance: Name of the trial; all that is random is derived from it and from `seed`.
        sample_rate_hz: Of the wave.
        n_samples: The window that is scored, or None for a model that takes the whole clip.
        seed: Of the sweep.
        others: Gives clips of other trials, for babble; at most that many, chosen by `random`.
    """

    utterance: str
    sample_rate_hz: int
    n_samples: int | None
    seed: int = 0
    others: Callable[[int], list[Wave]] = field(default=lambda _count: [])

    def random(self, purpose: str) -> np.random.Generator:
        """A generator that depends on the utterance, the seed and the purpose alone.

        Neither the order of the trials nor the other conditions have a part in it. Conditions that
        differ in level only share a purpose, so that they use the same noise.
        """
        text = f"{self.seed}\0{purpose}\0{self.utterance}"
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))

    def samples(self, seconds: float) -> int:
        """How many samples last that long."""
        return round(seconds * self.sample_rate_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that may happen to audio before it is scored.

    Attributes:
        name: Unique, without blanks, e.g. "gain-6dB".
        family: What it is listed under, e.g. "gain".
        meaning: What it does, in one line.
        apply: (wave (N,), context) -> wave (M,), float32, M >= 1; never changes its input. It
            raises NotApplicableError for a clip it has no meaning for and AudioError when it fails.
        parameters: Its numbers, as plain JSON types.
        unavailable: Why it cannot be applied on this machine, or None.
    """

    name: str
    family: str
    meaning: str
    apply: Callable[[Wave, Context], Wave]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    unavailable: str | None = None


def as_wave(samples: NDArray[np.floating[Any]]) -> Wave:
    """Samples of any float type as a contiguous float32 wave."""
    return np.ascontiguousarray(samples, dtype=np.float32)
