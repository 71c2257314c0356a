"""All metrics of one score table, as one result that prints as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.auc import auc
from aasist_deploy.metrics.bootstrap import Bootstrap, Confidence, confidence
from aasist_deploy.metrics.cllr import cllr, min_cllr
from aasist_deploy.metrics.conditions import (
    ConditionMetrics,
    eer_confidence,
    metrics_by_condition,
)
from aasist_deploy.metrics.dcf import DetectionCost, act_dcf, min_dcf
from aasist_deploy.metrics.eer import EqualErrorRate, eer
from aasist_deploy.metrics.polarity import Polarity, check_polarity
from aasist_deploy.metrics.resampling import named_speakers
from aasist_deploy.metrics.tdcf_2019 import (
    AsvErrorRates,
    AsvScoresLike,
    MinTdcf2019,
    asv_error_rates,
    min_tdcf_2019,
)
from aasist_deploy.metrics.tdcf_2021 import FixedAsvRates, MinTdcf2021, min_tdcf_2021

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.metrics.rates import Compat
    from aasist_deploy.metrics.resampling import Speakers

_NO_ASV_SCORES: Final = "There are no ASV scores, which the t-DCF needs."
_NO_ATTACK: Final = "-"
NOT_CALIBRATED: Final = (
    "actDCF and Cllr take the scores for log-likelihood ratios, and nothing says that these are; "
    "calibrate them first, or read both as a measure of how far they are from that."
)


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
    confidence: Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSummary:
    """What `summarize` found; the t-DCF and the ASV rates are None without ASV scores or rates."""

    compat: Compat
    n_bonafide: int
    n_spoof: int
    eer: EqualErrorRate
    auc: float
    min_dcf: DetectionCost
    act_dcf: DetectionCost
    cllr_bits: float
    min_cllr_bits: float
    scores_are_llr: bool
    min_tdcf_2019: MinTdcf2019 | None
    min_tdcf_2021: MinTdcf2021 | None
    asv: AsvErrorRates | None
    asv_fixed_rates: FixedAsvRates | None
    attacks: Mapping[str, AttackMetrics]
    polarity: Polarity
    confidence: Confidence | None = None
    conditions: Mapping[str, Mapping[str, ConditionMetrics]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON; rates in percent say so."""
        old, new, fixed = self.min_tdcf_2019, self.min_tdcf_2021, self.asv_fixed_rates
        return {
            "compat": self.compat,
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "eer_percent": self.eer.eer * 100,
            "eer_threshold": self.eer.threshold,
            "auc": self.auc,
            "min_dcf": self.min_dcf.value,
            "min_dcf_threshold": self.min_dcf.threshold,
            "act_dcf": self.act_dcf.value,
            "act_dcf_threshold": self.act_dcf.threshold,
            "cllr_bits": self.cllr_bits,
            "min_cllr_bits": self.min_cllr_bits,
            "scores_are_llr": self.scores_are_llr,
            "calibration_note": None if self.scores_are_llr else NOT_CALIBRATED,
            "min_tdcf_2019": old.value if old else None,
            "min_tdcf_2019_note": None if old else _NO_ASV_SCORES,
            "min_tdcf_2019_costs": {"c1": old.c1, "c2": old.c2} if old else None,
            "min_tdcf_2021": new.value if new else None,
            "min_tdcf_2021_note": None if new else _NO_ASV_SCORES,
            "min_tdcf_2021_costs": {"c0": new.c0, "c1": new.c1, "c2": new.c2} if new else None,
            "attacks": {
                name: {
                    "eer_percent": attack.eer.eer * 100,
                    "n_spoof": attack.n_spoof,
                    "confidence": attack.confidence and attack.confidence.to_dict(),
                }
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
            "asv_fixed_rates": None
            if fixed is None
            else {"pfa": fixed.pfa, "pmiss": fixed.pmiss, "pfa_spoof": fixed.pfa_spoof},
            "confidence": None if self.confidence is None else self.confidence.to_dict(),
            "conditions": {
                name: {value: of.to_dict() for value, of in values.items()}
                for name, values in self.conditions.items()
            },
        }


def summarize(
    table: LabelledScores,
    asv: AsvScoresLike | FixedAsvRates | None = None,
    *,
    compat: Compat = "corrected",
    conditions: Mapping[str, Sequence[str]] | None = None,
    bootstrap: Bootstrap | None = None,
    speakers: Speakers | None = None,
    scores_are_llr: bool = False,
) -> MetricsSummary:
    """Compute all metrics of a score table.

    Args:
        table: Scores with their truth. Spoofed trials whose attack is "-" are in the pooled
            figures and in no attack of their own.
        asv: Scores of the speaker verification system on the same split, or fixed rates
            (`ASVSPOOF5_ASV`), for the t-DCF.
        compat: corrected or official; see docs/metrics.md. Intervals are of corrected figures.
        conditions: Name of a condition -> its value for each trial; see `metrics_by_condition`.
        bootstrap: How to resample; no intervals unless given.
        speakers: (n,) speaker of each trial, to resample by speaker.
        scores_are_llr: The scores are calibrated log-likelihood ratios. Otherwise the result says
            that actDCF and Cllr take them for such.

    Raises:
        MetricError: The truth is not known, a class is empty, the t-DCF has no meaning, or
            conditions or speakers are not one for each trial.
    """
    if table.is_bonafide is None:
        raise MetricError(
            f"The truth of the {len(table.scores)} scores is not known.",
            fix="Give the protocol of the split that was scored (--protocol).",
        )
    is_bonafide = table.is_bonafide
    bonafide, spoof = table.scores[is_bonafide], table.scores[~is_bonafide]
    fixed, own = None, None
    if isinstance(asv, FixedAsvRates):
        fixed = asv
    elif asv is not None:
        own = asv_error_rates(asv, compat=compat)
    rates = own or fixed
    named = None if speakers is None else named_speakers(speakers)
    if named is not None and named.shape != is_bonafide.shape:
        raise MetricError(f"There are {named.size} speakers for {is_bonafide.size} trials.")
    by_class = None if named is None else (named[is_bonafide], named[~is_bonafide])
    return MetricsSummary(
        compat=compat,
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        eer=eer(bonafide, spoof, compat=compat),
        auc=auc(bonafide, spoof),
        min_dcf=min_dcf(bonafide, spoof, compat=compat),
        act_dcf=act_dcf(bonafide, spoof),
        cllr_bits=cllr(bonafide, spoof),
        min_cllr_bits=min_cllr(bonafide, spoof),
        scores_are_llr=scores_are_llr,
        min_tdcf_2019=None
        if rates is None
        else min_tdcf_2019(bonafide, spoof, rates, compat=compat),
        min_tdcf_2021=None
        if rates is None
        else min_tdcf_2021(bonafide, spoof, rates, compat=compat),
        asv=own,
        asv_fixed_rates=fixed,
        attacks=_by_attack(table, is_bonafide, compat, bootstrap, named),
        polarity=check_polarity(bonafide, spoof, compat=compat),
        confidence=None
        if bootstrap is None
        else confidence(bonafide, spoof, bootstrap, speakers=by_class, asv=rates),
        conditions=metrics_by_condition(
            table.scores,
            is_bonafide,
            conditions or {},
            compat=compat,
            how=bootstrap,
            speakers=named,
        ),
    )


def _by_attack(
    table: LabelledScores,
    is_bonafide: NDArray[np.bool_],
    compat: Compat,
    how: Bootstrap | None,
    speakers: NDArray[np.str_] | None,
) -> dict[str, AttackMetrics]:
    if table.attacks is None:
        return {}
    bonafide = table.scores[is_bonafide]
    attacks = np.asarray(table.attacks)
    result = {}
    for name in sorted(set(attacks[~is_bonafide].tolist()) - {_NO_ATTACK}):
        chosen = ~is_bonafide & (attacks == name)
        spoof = table.scores[chosen]
        intervals, _ = eer_confidence(table.scores, is_bonafide, chosen, how, speakers)
        result[name] = AttackMetrics(
            eer=eer(bonafide, spoof, compat=compat), n_spoof=spoof.size, confidence=intervals
        )
    return result
