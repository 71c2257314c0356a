"""RawGAT-ST: a graph of frequency and a graph of time, joined by a product (437,034 parameters).

Source: Tak et al., "End-to-end spectro-temporal graph attention networks for speaker verification
anti-spoofing and speech deepfake detection", ASVspoof 2021 workshop. Module names are those of the
published state dicts, which load strictly. Its "S" and "T" name the axis that is pooled away, so
they are the other way round than AASIST's: encoder_T gives the nodes of frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from aasist_deploy.contract import LOGIT_SCORE
from aasist_deploy.models.aasist import FREQUENCY_POOL, SAMPLES_PER_NODE, samples_of_nodes
from aasist_deploy.models.config import NetworkConfig
from aasist_deploy.models.graph import GraphAttention, GraphPool, PublishedOrder, n_kept
from aasist_deploy.models.network import Network
from aasist_deploy.models.residual import encoder
from aasist_deploy.models.sinc import SincFrontEnd, odd_taps

# None of these is in the published configuration; they are the sizes of its state dict.
GAT_DIM: Final = 32  # features of the first two graph attentions
JOINT_DIM: Final = 16  # features of the attention over the joint graph
JOINT_NODES: Final = 12  # both graphs are projected to so many nodes
FREQUENCY_RATIO, TIME_RATIO, JOINT_RATIO = 0.64, 0.81, 0.64  # kept part of each graph
MIN_KEPT: Final = 2  # graph pooling keeps at least two nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class RawGatStConfig(NetworkConfig):
    """The `model_config` object of the published `RawGATST_baseline.conf`: the keys of all.

    The architecture is called "RawNetGatSpoofST" there. The network takes waves of `nb_samp`
    samples and of no other length.
    """

    network: ClassVar[str] = "RawGAT-ST"
    published_file: ClassVar[str] = "RawGATST_baseline.conf"
    n_filts: ClassVar[int] = 5

    architecture: str = "RawGAT-ST"

    @property
    def min_samples(self) -> int:
        """The smallest `nb_samp`: so many nodes on the time axis as pooling keeps at least."""
        return samples_of_nodes(MIN_KEPT, odd_taps(self.first_conv))

    @property
    def n_frequency_nodes(self) -> int:
        """Nodes of the graph of frequency."""
        return int(self.filts[0]) // FREQUENCY_POOL

    @property
    def n_time_nodes(self) -> int:
        """Nodes of the graph of time."""
        return (self.nb_samp - odd_taps(self.first_conv) + 1) // SAMPLES_PER_NODE

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pooling keeps two nodes of frequency: there must be two."""
        return (self.n_frequency_nodes - MIN_KEPT + 1,)


class RawGatSt(Network):
    """Waves of one length to (embedding, logits); logits[:, 1] is the detection score.

    The projections over nodes are made for the node counts at `nb_samp` samples, so it takes that
    length and no other. They also read the pooled nodes one by one, so that the order of equal
    scores counts.

    Args:
        config: The configuration; `RawGatStConfig.from_mapping` makes it from a published file.
    """

    architecture = "RawGAT-ST"
    any_length = False
    score = LOGIT_SCORE

    def __init__(self, config: RawGatStConfig) -> None:
        super().__init__()
        self.config = config
        self.settings = config.settings()
        self.n_samples = config.nb_samp
        n_channels = config.block_channels[-1][1]
        kept_frequency = n_kept(config.n_frequency_nodes, FREQUENCY_RATIO, MIN_KEPT)
        kept_time = n_kept(config.n_time_nodes, TIME_RATIO, MIN_KEPT)
        self.n_features = n_kept(JOINT_NODES, JOINT_RATIO, MIN_KEPT)

        self.sinc = SincFrontEnd(config.filts[0], config.first_conv)
        self.first_bn = nn.BatchNorm2d(1)
        self.act = nn.SELU()
        self.encoder_T = encoder(config.block_channels)
        self.encoder_S = encoder(config.block_channels)
        self.GAT_layer_T = GraphAttention(n_channels, GAT_DIM)
        self.GAT_layer_S = GraphAttention(n_channels, GAT_DIM)
        self.GAT_layer_ST = GraphAttention(GAT_DIM, JOINT_DIM)
        self.pool_T = _pool(FREQUENCY_RATIO, GAT_DIM)
        self.pool_S = _pool(TIME_RATIO, GAT_DIM)
        self.pool_ST = _pool(JOINT_RATIO, JOINT_DIM)
        self.proj_T = nn.Linear(kept_frequency, JOINT_NODES)
        self.proj_S = nn.Linear(kept_time, JOINT_NODES)
        self.proj_ST = nn.Linear(JOINT_DIM, 1)
        self.out_layer = nn.Linear(self.n_features, 2)

    @property
    def min_samples(self) -> int:
        """The one length that it takes."""
        return self.n_samples

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        """Score waves.

        Args:
            wave: (B, nb_samp) float samples at 16 kHz in [-1, 1].
            mask_filters: Zero a random band of sinc filters (training-time augmentation).

        Returns:
            (B, 7) embedding and (B, 2) logits of spoof and bona fide.
        """
        x = self.sinc(wave, mask_filters=mask_filters).abs().unsqueeze(1)  # (B, 1, filters, N')
        x = max_pool2d(x, (FREQUENCY_POOL, FREQUENCY_POOL))
        x = self.act(self.first_bn(x))

        nodes = torch.amax(self.encoder_T(x).abs(), dim=3).transpose(1, 2)  # (B, 23, C)
        kept = self.pool_T(self.GAT_layer_T(nodes))  # (B, 14, 32)
        frequency = self.proj_T(kept.transpose(1, 2))  # (B, 32, 12)
        nodes = torch.amax(self.encoder_S(x).abs(), dim=2).transpose(1, 2)  # (B, 29, C)
        kept = self.pool_S(self.GAT_layer_S(nodes))  # (B, 23, 32)
        time = self.proj_S(kept.transpose(1, 2))  # (B, 32, 12)

        joint = self.GAT_layer_ST((frequency * time).transpose(1, 2))  # (B, 12, 16)
        embedding = self.proj_ST(self.pool_ST(joint)).flatten(1)  # (B, 7)
        return embedding, self.out_layer(embedding)


def _pool(ratio: float, dim: int) -> GraphPool:
    return GraphPool(ratio, dim, at_least=MIN_KEPT, order=PublishedOrder())
