"""Which windows of a file are scored, and how their scores become the score of the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract

_AGGREGATE: Final = re.compile(r"mean|max|min|(top|bottom)-([1-9][0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """Which part of a file is scored.

    Windows start at 0, one hop, two hops ... and are whole; what follows the last whole one is in
    no window. Only a file shorter than one window is tiled.

    Attributes:
        n_windows: At most so many from the start of the file; None for all of them.
        hop_s: Seconds from the start of a window to that of the next; None for half a window.
        aggregate: What the file's score is of those of its windows: "mean", "max", "min", "top-K"
            (mean of the K highest, the most bona fide) or "bottom-K" (of the K lowest). A file
            with fewer than K windows takes them all.
    """

    n_windows: int | None = 1
    hop_s: float | None = None
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.n_windows is not None and self.n_windows < 1:
            raise UsageError(f"The number of windows is {self.n_windows}; it must be 1 or more.")
        if self.hop_s is not None and not (math.isfinite(self.hop_s) and self.hop_s > 0):
            raise UsageError(f"The hop is {self.hop_s} seconds; it must be above 0.")
        if not _AGGREGATE.fullmatch(self.aggregate):
            raise UsageError(
                f"There is no aggregate '{self.aggregate}'.",
                fix="mean, max, min, top-3 (mean of the three highest) or bottom-3",
            )

    def hop_samples(self, contract: ModelContract) -> int:
        """The hop at the model's rate.

        Raises:
            UsageError: it is less than one sample.
        """
        assert contract.n_samples is not None
        if self.hop_s is None:
            return max(1, contract.n_samples // 2)
        hop = round(self.hop_s * contract.sample_rate_hz)
        if hop < 1:
            raise UsageError(f"A hop of {self.hop_s} seconds is less than one sample.")
        return hop

    def check(self, contract: ModelContract) -> None:
        """Refuse several windows of a model that takes files of any length.

        Raises:
            UsageError: that, or a hop that cannot be.
        """
        if self.n_windows == 1:
            if self.hop_s is not None:
                raise UsageError(
                    f"A hop of {self.hop_s} seconds has no meaning for the first window alone.",
                    fix="add --windows all",
                )
            return
        if contract.n_samples is None:
            raise UsageError(
                "This model takes files of any length and scores them whole; it has no windows.",
                fix="leave out --windows, or export the model with a fixed window",
            )
        self.hop_samples(contract)

    def name(self, contract: ModelContract) -> str:
        """The rule in a few words that do not change, for the column `window` of an output."""
        if contract.n_samples is None:
            return f"whole up to {contract.max_samples or 'any number of'} samples"
        if self.n_windows == 1:
            return f"first {contract.n_samples}"
        which = "all" if self.n_windows is None else f"first {self.n_windows} windows"
        hop = self.hop_samples(contract)
        return f"{which} of {contract.n_samples} hop {hop} {self.aggregate}"

    def samples_needed(self, contract: ModelContract) -> int | None:
        """How much of a file must be read, one sample more to tell a longer file; None: all."""
        if self.n_windows is None:
            return None
        longest = contract.n_samples or contract.max_samples
        if longest is None:
            return None
        if self.n_windows == 1:
            return longest + 1
        return longest + (self.n_windows - 1) * self.hop_samples(contract) + 1

    def combine(self, scores: Sequence[float]) -> float:
        """The score of a file with these scores of its windows, at least one."""
        if len(scores) == 1:
            return scores[0]
        if self.aggregate in ("max", "min"):
            return max(scores) if self.aggregate == "max" else min(scores)
        kept = list(scores)
        if (match := _AGGREGATE.fullmatch(self.aggregate)) and match[1]:
            kept = sorted(scores, reverse=match[1] == "top")[: int(match[2])]
        return math.fsum(kept) / len(kept)


FIRST: Final = WindowRule()


def window_rule(contract: ModelContract, rule: WindowRule = FIRST) -> str:
    """Which part of a file is scored, in words."""
    if contract.n_samples is None:
        return (
            f"the whole file up to {contract.max_samples or 'any number of'} samples; "
            f"shorter than {contract.min_samples}: tiled"
        )
    if rule.n_windows == 1:
        return f"the first {contract.n_samples} samples; shorter files are tiled"
    which = "all windows" if rule.n_windows is None else f"the first {rule.n_windows} windows"
    return (
        f"{which} of {contract.n_samples} samples, one every {rule.hop_samples(contract)}, and of "
        f"their scores the {rule.aggregate}; shorter files are tiled"
    )


def window_of(wave: NDArray[np.float32], contract: ModelContract) -> NDArray[np.float32]:
    """The part of a clip that is scored, tiled where the clip is shorter than the window.

    Args:
        wave: (N,) samples at the contract's rate, N >= 1.
        contract: Of the model.

    Returns:
        (contract.n_samples,) samples, or for a variable-length model between min_samples and
        max_samples of them.
    """
    if contract.n_samples is not None:
        return fit_length(wave, contract.n_samples)
    longest = contract.max_samples or len(wave)
    return fit_length(wave, max(contract.min_samples, min(len(wave), longest)))


class Cutter:
    """Cuts one file, whose samples come in pieces, into windows.

    Args:
        contract: Of the model.
        rule: Which windows.
    """

    def __init__(self, contract: ModelContract, rule: WindowRule) -> None:
        self._contract, self._rule = contract, rule
        self._held: list[NDArray[np.float32]] = []
        self._n_held = self._skip = 0
        self.n_windows = 0
        self.n_samples = 0

    def push(self, piece: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Take (n,) samples; yield the windows that are whole now."""
        self.n_samples += len(piece)
        if self._rule.n_windows == 1:
            self._hold(piece)
            return
        window = self._contract.n_samples
        assert window is not None
        hop = self._rule.hop_samples(self._contract)
        drop = min(self._skip, len(piece))
        self._skip -= drop
        self._hold(piece[drop:])
        while self._n_held >= window and self.n_windows != self._rule.n_windows:
            wave = self._joined()
            self.n_windows += 1
            yield np.ascontiguousarray(wave[:window])
            self._skip = max(0, hop - len(wave))
            self._held, self._n_held = [], 0
            self._hold(wave[hop:])

    def gap(self) -> None:
        """Samples are missing here: no window spans the place."""
        self._held, self._n_held, self._skip = [], 0, 0

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """End the file; yield the window of a file that had none, tiled when it is short."""
        if self._n_held and not self.n_windows:
            self.n_windows += 1
            yield window_of(self._joined(), self._contract)
        self._held, self._n_held = [], 0

    def _hold(self, piece: NDArray[np.float32]) -> None:
        if len(piece):
            self._held.append(piece)
            self._n_held += len(piece)

    def _joined(self) -> NDArray[np.float32]:
        wave = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        self._held = [wave]
        return wave
