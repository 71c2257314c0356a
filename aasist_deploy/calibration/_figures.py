"""How good log-likelihood ratios are: the figures that calibration changes, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aasist_deploy.metrics.cllr import cllr, min_cllr
from aasist_deploy.metrics.dcf import DetectionCosts, act_dcf, min_dcf
from aasist_deploy.metrics.eer import eer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LlrFigures:
    """Figures of scores that are taken for log-likelihood ratios.

    Attributes:
        n_bonafide: Bona fide trials.
        n_spoof: Spoofed trials.
        eer: Rate in [0, 1]; no calibration changes it.
        cllr: In bits.
        min_cllr: Cllr after the best monotone calibration; the rest is loss of calibration.
        act_dcf: Normalised cost of deciding at the threshold of Bayes.
        min_dcf: Normalised cost at the best threshold.
    """

    n_bonafide: int
    n_spoof: int
    eer: float
    cllr: float
    min_cllr: float
    act_dcf: float
    min_dcf: float

    def to_dict(self) -> dict[str, Any]:
        """The figures in plain JSON types; rates in percent say so."""
        return {
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "eer_percent": self.eer * 100,
            "cllr": self.cllr,
            "min_cllr": self.min_cllr,
            "act_dcf": self.act_dcf,
            "min_dcf": self.min_dcf,
        }


def llr_figures(
    llr: NDArray[np.float64], is_bonafide: NDArray[np.bool_], costs: DetectionCosts
) -> LlrFigures:
    """Compute the figures of (n,) ratios with their (n,) truth.

    Raises:
        MetricError: A class is missing, or a ratio is NaN or infinite.
    """
    bonafide, spoof = llr[is_bonafide], llr[~is_bonafide]
    return LlrFigures(
        n_bonafide=len(bonafide),
        n_spoof=len(spoof),
        eer=eer(bonafide, spoof).eer,
        cllr=cllr(bonafide, spoof),
        min_cllr=min_cllr(bonafide, spoof),
        act_dcf=act_dcf(bonafide, spoof, costs=costs).value,
        min_dcf=min_dcf(bonafide, spoof, costs=costs).value,
    )
