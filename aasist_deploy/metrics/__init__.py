"""Metrics of countermeasure scores, in numpy alone: one file for each metric.

Scores are higher for bona fide. Pmiss is the rate of bona fide trials rejected, Pfa the rate of
spoofed trials accepted; a trial is accepted when its score is at or above the threshold.

Each metric has two forms: `corrected` treats equal scores as one, `official` repeats the
arithmetic of the evaluation package of its challenge to the last digit (docs/metrics.md).
"""

from aasist_deploy.metrics.a_dcf import MinADcf, min_a_dcf
from aasist_deploy.metrics.auc import auc
from aasist_deploy.metrics.bootstrap import Bootstrap, Confidence, bootstrap_replicates, confidence
from aasist_deploy.metrics.cllr import cllr, min_cllr
from aasist_deploy.metrics.compare import (
    Comparison,
    Difference,
    McNemar,
    compare,
    compare_tables,
    mcnemar,
)
from aasist_deploy.metrics.conditions import ConditionMetrics, metrics_by_condition
from aasist_deploy.metrics.dcf import DetectionCost, DetectionCosts, act_dcf, min_dcf
from aasist_deploy.metrics.eer import EqualErrorRate, eer
from aasist_deploy.metrics.pav import PavBins, pav
from aasist_deploy.metrics.polarity import Polarity, check_polarity
from aasist_deploy.metrics.rates import Compat, det_curve
from aasist_deploy.metrics.resampling import Unit
from aasist_deploy.metrics.sasv import SasvSummary, asv_rates_of_track_2, summarize_sasv
from aasist_deploy.metrics.summary import AttackMetrics, MetricsSummary, summarize
from aasist_deploy.metrics.t_eer import t_eer
from aasist_deploy.metrics.tandem import TandemRates
from aasist_deploy.metrics.tdcf_2019 import (
    AsvErrorRates,
    MinTdcf2019,
    TandemCosts,
    asv_error_rates,
    min_tdcf_2019,
)
from aasist_deploy.metrics.tdcf_2021 import (
    ASVSPOOF5_ASV,
    FixedAsvRates,
    MinTdcf2021,
    TandemCosts2021,
    min_tdcf_2021,
)
from aasist_deploy.metrics.three_classes import ThreeClasses, split_by_label, three_classes

__all__ = [
    "ASVSPOOF5_ASV",
    "AsvErrorRates",
    "AttackMetrics",
    "Bootstrap",
    "Comparison",
    "Compat",
    "ConditionMetrics",
    "Confidence",
    "DetectionCost",
    "DetectionCosts",
    "Difference",
    "EqualErrorRate",
    "FixedAsvRates",
    "McNemar",
    "MetricsSummary",
    "MinADcf",
    "MinTdcf2019",
    "MinTdcf2021",
    "PavBins",
    "Polarity",
    "SasvSummary",
    "TandemCosts",
    "TandemCosts2021",
    "TandemRates",
    "ThreeClasses",
    "Unit",
    "act_dcf",
    "asv_error_rates",
    "asv_rates_of_track_2",
    "auc",
    "bootstrap_replicates",
    "check_polarity",
    "cllr",
    "compare",
    "compare_tables",
    "confidence",
    "det_curve",
    "eer",
    "mcnemar",
    "metrics_by_condition",
    "min_a_dcf",
    "min_cllr",
    "min_dcf",
    "min_tdcf_2019",
    "min_tdcf_2021",
    "pav",
    "split_by_label",
    "summarize",
    "summarize_sasv",
    "t_eer",
    "three_classes",
]
