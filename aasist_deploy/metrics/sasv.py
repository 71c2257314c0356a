"""All metrics of spoofing-aware speaker verification (ASVspoof 5, track 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.a_dcf import MinADcf, min_a_dcf
from aasist_deploy.metrics.t_eer import t_eer
from aasist_deploy.metrics.tdcf_2019 import AsvScoresLike, asv_error_rates
from aasist_deploy.metrics.tdcf_2021 import (
    ASVSPOOF5_ASV,
    FixedAsvRates,
    MinTdcf2021,
    min_tdcf_2021,
)
from aasist_deploy.metrics.three_classes import ThreeClasses, split_by_label

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from aasist_deploy.metrics.rates import Compat


@dataclass(frozen=True, slots=True, kw_only=True)
class SasvSummary:
    """What `summarize_sasv` found.

    Attributes:
        compat: corrected or official.
        n_target: Bona fide trials of the claimed speaker.
        n_nontarget: Bona fide trials of other speakers.
        n_spoof: Spoofed trials.
        a_dcf: Minimum a-DCF of the scores of the whole system; None without them.
        t_eer: Concurrent t-EER in [0, 1]; None without scores of both parts, or when there is none.
        min_tdcf_2021: Minimum t-DCF of the countermeasure; None without its scores.
        asv: Rates that the t-DCF was computed with.
        notes: Key of a missing figure -> why it is missing.
    """

    compat: Compat
    n_target: int
    n_nontarget: int
    n_spoof: int
    a_dcf: MinADcf | None
    t_eer: float | None
    min_tdcf_2021: MinTdcf2021 | None
    asv: FixedAsvRates
    notes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON; rates in percent say so."""
        tdcf = self.min_tdcf_2021
        return {
            "compat": self.compat,
            "n_target": self.n_target,
            "n_nontarget": self.n_nontarget,
            "n_spoof": self.n_spoof,
            "min_a_dcf": self.a_dcf.value if self.a_dcf else None,
            "min_a_dcf_note": self.notes.get("a_dcf"),
            "min_a_dcf_threshold": self.a_dcf.threshold if self.a_dcf else None,
            "t_eer_percent": None if self.t_eer is None else self.t_eer * 100,
            "t_eer_note": self.notes.get("t_eer"),
            "min_tdcf_2021": tdcf.value if tdcf else None,
            "min_tdcf_2021_note": self.notes.get("min_tdcf_2021"),
            "min_tdcf_2021_costs": {"c0": tdcf.c0, "c1": tdcf.c1, "c2": tdcf.c2} if tdcf else None,
            "asv_rates": {
                "pfa": self.asv.pfa,
                "pmiss": self.asv.pmiss,
                "pfa_spoof": self.asv.pfa_spoof,
            },
        }


def summarize_sasv(
    labels: ArrayLike,
    *,
    sasv_scores: ArrayLike | None = None,
    cm_scores: ArrayLike | None = None,
    asv_scores: ArrayLike | None = None,
    reference_asv: AsvScoresLike | None = None,
    compat: Compat = "corrected",
) -> SasvSummary:
    """Compute a-DCF, and t-EER and min t-DCF where the parts have scores of their own.

    Args:
        labels: (n,) "target", "nontarget" or "spoof".
        sasv_scores: (n,) scores of the whole system, for a-DCF; higher means a bona fide target.
        cm_scores: (n,) scores of the countermeasure, for t-EER and min t-DCF.
        asv_scores: (n,) scores of the speaker verification system, for t-EER.
        reference_asv: Scores of the speaker verification system that the countermeasure of the
            t-DCF is in tandem with. Without them the fixed rates of ASVspoof 5 are taken.
        compat: corrected or official. With `reference_asv`, official takes the rate of spoofs
            rejected where the rate of spoofs accepted is meant, as the package does.

    Raises:
        MetricError: A class is empty, a label is not known, lengths differ, or a score is NaN.
    """
    names = np.asarray(labels)
    counts = [int(np.count_nonzero(names == name)) for name in ThreeClasses._fields]
    a_dcf: MinADcf | None = None
    notes: dict[str, str] = {}
    rate: float | None = None
    tdcf: MinTdcf2021 | None = None
    asv = asv_rates_of_track_2(reference_asv, compat=compat)
    if sasv_scores is None:
        notes["a_dcf"] = "There are no scores of the whole system."
    else:
        a_dcf = min_a_dcf(*split_by_label(sasv_scores, names), compat=compat)
    cm = None if cm_scores is None else split_by_label(cm_scores, names)
    if cm is None:
        notes["min_tdcf_2021"] = notes["t_eer"] = "There are no countermeasure scores."
    else:
        bonafide = np.concatenate((cm.target, cm.nontarget))
        tdcf = min_tdcf_2021(bonafide, cm.spoof, asv, compat=compat)
        if asv_scores is None:
            notes["t_eer"] = "There are no scores of the speaker verification system."
        else:
            parts = cm, split_by_label(asv_scores, names)
            try:
                rate = t_eer(*parts, compat=compat)
            except MetricError as error:
                notes["t_eer"] = str(error)
    return SasvSummary(
        compat=compat,
        n_target=counts[0],
        n_nontarget=counts[1],
        n_spoof=counts[2],
        a_dcf=a_dcf,
        t_eer=rate,
        min_tdcf_2021=tdcf,
        asv=asv,
        notes=notes,
    )


def asv_rates_of_track_2(
    reference_asv: AsvScoresLike | None, *, compat: Compat = "corrected"
) -> FixedAsvRates:
    """The rates that track 2 computes its t-DCF with.

    official: the package gives `compute_tDCF` the share of spoofs rejected as the share accepted
    when it is handed scores of the ASV system; without such scores both modes are the same.

    Source: ASVspoof 5 evaluation package, calculate_aDCF_tdcf_tEER (arithmetic, not code).
    """
    if reference_asv is None:
        return ASVSPOOF5_ASV
    rates = asv_error_rates(reference_asv, compat=compat)
    return FixedAsvRates(
        pfa=rates.pfa,
        pmiss=rates.pmiss,
        pfa_spoof=rates.pmiss_spoof if compat == "official" else rates.pfa_spoof,
    )
