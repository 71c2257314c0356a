"""What both forms of the t-DCF need to know of a speaker verification system."""

from __future__ import annotations

from typing import Protocol


class TandemRates(Protocol):
    """Error rates of a speaker verification system; `AsvErrorRates` and `FixedAsvRates` are such.

    It is given rates in [0, 1], those of spoofs adding up to 1.
    """

    @property
    def pfa(self) -> float:
        """Share of nontargets that it accepts."""

    @property
    def pmiss(self) -> float:
        """Share of targets that it rejects."""

    @property
    def pmiss_spoof(self) -> float:
        """Share of spoofs that it rejects."""

    @property
    def pfa_spoof(self) -> float:
        """Share of spoofs that it accepts."""
