"""What may happen to audio between a mouth and a model: loudness, codecs, noise, rooms, silence.

The sweep of `robustness` scores under them, and training augments with them. All that is random
follows from a name and a seed, so the same clip is changed alike on every machine.
"""

from aasist_deploy.degradations.base import Condition, Context, NotApplicableError, Wave
from aasist_deploy.degradations.conditions import FAMILIES, all_conditions, select

__all__ = [
    "FAMILIES",
    "Condition",
    "Context",
    "NotApplicableError",
    "Wave",
    "all_conditions",
    "select",
]
