"""All metrics of one score table, as one result that prints as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.eer import EqualErrorRate, eer
from aasist_deploy.metrics.polarity import Polarity, check_polarity
from aasist_deploy.metrics.tdcf_2019 import (
    AsvErrorRates,
    AsvScoresLike,
    MinTdcf2019,
    asv_error_rates,
    min_tdcf_2019,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.metrics.rates import Compat

_NO_ASV_SCORES: Final = "There are no ASV scores, which the t-DCF needs."
_NO_ATTACK: Final = "-"


class LabelledScores(Protocol):
    """Scores with their truth; `ScoreTable` is one."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """(n,) scores; higher means more bona fide."""

    @property
    def is_bonafide(self) -> NDArray[np.bool_] | None:
        """(n,) the truth, or None when it is not known."""

    @property
    def attacks(self) -> Sequence[str] | None:
        """(n,) attack names, "-" for none, or None when they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackMetrics:
    """All bona fide trials against the spoofed ones of one attack."""

    eer: EqualErrorRate
    n_spoof: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSummary:
    """What `summarize` found; the t-DCF and the ASV rates are None without ASV scores."""

    compat: Compat
    n_bonafide: int
    n_spoof: int
    eer: EqualErrorRate
    min_tdcf_2019: MinTdcf2019 | None
    asv: AsvErrorRates | None
    attacks: Mapping[str, AttackMetrics]
    polarity: Polarity

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON; rates in percent say so."""
        return {
            "compat": self.compat,
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "eer_percent": self.eer.eer * 100,
            "eer_threshold": self.eer.threshold,
            "min_tdcf_2019": self.min_tdcf_2019.value if self.min_tdcf_2019 else None,
            "min_tdcf_2019_note": None if self.min_tdcf_2019 else _NO_ASV_SCORES,
            "attacks": {
                name: {"eer_percent": attack.eer.eer * 100, "n_spoof": attack.n_spoof}
                for name, attack in self.attacks.items()
            },
            "polarity": {
                "reversed": self.polarity.reversed,
                "negated_eer_percent": self.polarity.negated_eer * 100,
                "message": self.polarity.message,
            },
            "asv": None
            if self.asv is None
            else {
                "threshold": self.asv.threshold,
                "pfa": self.asv.pfa,
                "pmiss": self.asv.pmiss,
                "pmiss_spoof": self.asv.pmiss_spoof,
                "eer_percent": self.asv.eer * 100,
            },
        }


def summarize(
    table: LabelledScores, asv: AsvScoresLike | None = None, *, compat: Compat = "corrected"
) -> MetricsSummary:
    """Compute all metrics of a score table.

    Args:
        table: Scores with their truth. Spoofed trials whose attack is "-" are in the pooled
            figures and in no attack of their own.
        asv: Scores of the speaker verification system on the same split, for the t-DCF.
        compat: corrected or official; see docs/metrics.md.

    Raises:
        MetricError: The truth is not known, a class is empty, or the t-DCF has no meaning.
    """
    if table.is_bonafide is None:
        raise MetricError(
            f"The truth of the {len(table.scores)} scores is not known.",
            fix="Give the protocol of the split that was scored (--protocol).",
        )
    is_bonafide = table.is_bonafide
    bonafide, spoof = table.scores[is_bonafide], table.scores[~is_bonafide]
    rates = None if asv is None else asv_error_rates(asv, compat=compat)
    return MetricsSummary(
        compat=compat,
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        eer=eer(bonafide, spoof, compat=compat),
        min_tdcf_2019=None
        if rates is None
        else min_tdcf_2019(bonafide, spoof, rates, compat=compat),
        asv=rates,
        attacks=_by_attack(table, is_bonafide, compat),
        polarity=check_polarity(bonafide, spoof, compat=compat),
    )


def _by_attack(
    table: LabelledScores, is_bonafide: NDArray[np.bool_], compat: Compat
) -> dict[str, AttackMetrics]:
    if table.attacks is None:
        return {}
    bonafide = table.scores[is_bonafide]
    attacks = np.asarray(table.attacks)
    result = {}
    for name in sorted(set(attacks[~is_bonafide].tolist()) - {_NO_ATTACK}):
        spoof = table.scores[~is_bonafide & (attacks == name)]
        result[name] = AttackMetrics(eer=eer(bonafide, spoof, compat=compat), n_spoof=spoof.size)
    return result
