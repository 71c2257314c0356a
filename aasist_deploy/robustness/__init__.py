"""Robustness: what a model's scores do when the audio is not that of the laboratory.

Each trial is scored as it is and under conditions that production brings: another loudness, a
codec, noise, a room, silence, another start. All that is random follows from the utterance's name
and a seed, so two sweeps, on whatever machine and in whatever order, change the audio alike.
"""

from aasist_deploy.robustness.files import run_into
from aasist_deploy.robustness.results import (
    SCHEMA,
    ConditionResult,
    RobustnessLimits,
    RobustnessReport,
    TrialScores,
)
from aasist_deploy.robustness.sweep import balanced, sweep

__all__ = [
    "SCHEMA",
    "ConditionResult",
    "RobustnessLimits",
    "RobustnessReport",
    "TrialScores",
    "balanced",
    "run_into",
    "sweep",
]
