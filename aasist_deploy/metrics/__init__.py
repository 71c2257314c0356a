"""Metrics of countermeasure scores, in numpy alone: one file for each metric.

Scores are higher for bona fide. Pmiss is the rate of bona fide trials rejected, Pfa the rate of
spoofed trials accepted; a trial is accepted when its score is at or above the threshold.

Each metric has two forms: `corrected` treats equal scores as one, `official` repeats the
arithmetic of the evaluation package of its challenge to the last digit (docs/metrics.md).
"""

from aasist_deploy.metrics.eer import EqualErrorRate, eer
from aasist_deploy.metrics.polarity import Polarity, check_polarity
from aasist_deploy.metrics.rates import Compat, det_curve
from aasist_deploy.metrics.summary import AttackMetrics, MetricsSummary, summarize
from aasist_deploy.metrics.tdcf_2019 import (
    AsvErrorRates,
    MinTdcf2019,
    TandemCosts,
    asv_error_rates,
    min_tdcf_2019,
)

__all__ = [
    "AsvErrorRates",
    "AttackMetrics",
    "Compat",
    "EqualErrorRate",
    "MetricsSummary",
    "MinTdcf2019",
    "Polarity",
    "TandemCosts",
    "asv_error_rates",
    "check_polarity",
    "det_curve",
    "eer",
    "min_tdcf_2019",
    "summarize",
]
