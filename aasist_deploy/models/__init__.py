"""The networks in PyTorch, and checkpoints that load into them.

An architecture is found by the name its configuration gives (`model_config.architecture`).
"""

from aasist_deploy.models.aasist import Aasist, AasistConfig
from aasist_deploy.models.allocator import keep_freed_memory
from aasist_deploy.models.build import build_model
from aasist_deploy.models.checkpoints import Checkpoint, load_checkpoint, read_config, save_weights
from aasist_deploy.models.custom import CustomNetwork
from aasist_deploy.models.network import Network
from aasist_deploy.models.rawgat_st import RawGatSt, RawGatStConfig
from aasist_deploy.models.rawnet2 import RawNet2, RawNet2Config

__all__ = [
    "Aasist",
    "AasistConfig",
    "Checkpoint",
    "CustomNetwork",
    "Network",
    "RawGatSt",
    "RawGatStConfig",
    "RawNet2",
    "RawNet2Config",
    "build_model",
    "keep_freed_memory",
    "load_checkpoint",
    "read_config",
    "save_weights",
]
