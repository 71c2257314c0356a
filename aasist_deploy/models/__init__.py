"""The networks in PyTorch, and checkpoints that load into them.

An architecture is found by the name its configuration gives (`model_config.architecture`).
"""

from aasist_deploy.models.aasist import Aasist, AasistConfig
from aasist_deploy.models.checkpoints import Checkpoint, load_checkpoint, read_config

__all__ = ["Aasist", "AasistConfig", "Checkpoint", "load_checkpoint", "read_config"]
