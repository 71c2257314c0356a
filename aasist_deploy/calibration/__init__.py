"""Scores to log-likelihood ratios, thresholds for a wanted cost or rate, and fusion; numpy alone.

A score says which of two trials is more likely bona fide. Only a calibrated one, a log-likelihood
ratio (LLR, natural logarithm, positive for bona fide), says by how much, and only with a prior is
it a probability. The formulas, their sources and what was measured: docs/calibration.md.
"""

from aasist_deploy.calibration._affine import Calibration, fit_affine, p_spoof
from aasist_deploy.calibration._figures import LlrFigures, llr_figures
from aasist_deploy.calibration._fusion import (
    Fusion,
    MatchedScores,
    fit_fusion,
    fit_mean,
    match_scores,
)
from aasist_deploy.calibration._logistic import PSEUDO_TRIALS
from aasist_deploy.calibration._pav import pav_llr
from aasist_deploy.calibration._result import CalibrationResult, Measured, calibrate
from aasist_deploy.calibration._thresholds import (
    CONFIDENCE,
    OperatingPoint,
    operating_point,
    rate_upper_bound,
    threshold_for_false_alarms,
    threshold_for_misses,
    trials_to_show,
)

__all__ = [
    "CONFIDENCE",
    "PSEUDO_TRIALS",
    "Calibration",
    "CalibrationResult",
    "Fusion",
    "LlrFigures",
    "MatchedScores",
    "Measured",
    "OperatingPoint",
    "calibrate",
    "fit_affine",
    "fit_fusion",
    "fit_mean",
    "llr_figures",
    "match_scores",
    "operating_point",
    "p_spoof",
    "pav_llr",
    "rate_upper_bound",
    "threshold_for_false_alarms",
    "threshold_for_misses",
    "trials_to_show",
]
