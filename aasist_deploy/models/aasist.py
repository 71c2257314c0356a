"""AASIST and AASIST-L: one network, two configurations (297,866 and 85,306 parameters).

Source: Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", ICASSP 2022. Module names are those of the published state dicts, which load strictly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from aasist_deploy.contract import LOGIT_SCORE
from aasist_deploy.errors import CheckpointError
from aasist_deploy.models.config import NetworkConfig, channels
from aasist_deploy.models.graph import (
    GraphAttention,
    GraphPool,
    HeterogeneousGraphAttention,
    Nodes,
)
from aasist_deploy.models.network import Network
from aasist_deploy.models.residual import encoder
from aasist_deploy.models.sinc import SincFrontEnd, odd_taps

FREQUENCY_POOL = 3  # both axes of the map after the sinc filters
SAMPLES_PER_NODE = 3**7  # max-pool by three in the front end and in six blocks
MIN_NODES = 3  # fewer leave the pooled graphs one node and attention nothing to attend to


@dataclass(frozen=True, slots=True, kw_only=True)
class AasistConfig(NetworkConfig):
    """The `model_config` object of a published `.conf` file: the keys of all, and these.

    Attributes:
        gat_dims: Features of the graph attention and of the heterogeneous layers.
        pool_ratios: Kept part of the spectral, temporal and heterogeneous graphs; the fourth of the
            published files is not used.
        temperatures: Of the spectral, temporal and all heterogeneous attentions; likewise.
    """

    network: ClassVar[str] = "AASIST"
    published_file: ClassVar[str] = "AASIST.conf"
    n_filts: ClassVar[int] = 5

    architecture: str = "AASIST"
    gat_dims: tuple[int, int]
    pool_ratios: tuple[float, ...]
    temperatures: tuple[float, ...]

    @classmethod
    def _parsed_own(cls, name: str, value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
        if name == "gat_dims":
            return channels(value)
        return tuple(float(number) for number in value)

    def _check(self) -> None:
        if len(self.pool_ratios) < 3 or len(self.temperatures) < 3:
            raise CheckpointError(
                f"The model configuration has {len(self.pool_ratios)} pool_ratios and "
                f"{len(self.temperatures)} temperatures; AASIST takes at least 3 of each."
            )
        if not all(0 < ratio <= 1 for ratio in self.pool_ratios) or not all(
            0 < temperature < math.inf for temperature in self.temperatures
        ):
            raise CheckpointError(
                "The configured pool_ratios must be in (0, 1] and the temperatures above 0."
            )

    @property
    def min_samples(self) -> int:
        """The shortest wave whose graphs leave attention something to attend to."""
        return samples_of_nodes(MIN_NODES, odd_taps(self.first_conv))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Frequency nodes and features, each at least one."""
        return (self.filts[0] // FREQUENCY_POOL, *self.gat_dims)


def samples_of_nodes(n_nodes: int, n_taps: int) -> int:
    """Shortest wave with `n_nodes` nodes on the time axis, after sinc filters of `n_taps` taps."""
    return n_nodes * SAMPLES_PER_NODE + n_taps - 1


class Aasist(Network):
    """Waves to (embedding, logits); logits[:, 1] is the detection score.

    Args:
        config: The configuration; `AasistConfig.from_mapping` makes it from a published file.
    """

    architecture = "AASIST"
    any_length = True  # pooling follows the number of nodes
    score = LOGIT_SCORE

    def __init__(self, config: AasistConfig) -> None:
        super().__init__()
        self.config = config
        self.settings = config.settings()
        self.n_samples = config.nb_samp
        n_filters = config.filts[0]
        n_channels = config.block_channels[-1][1]
        gat, hgat = config.gat_dims
        self.n_features = 5 * hgat
        ratios, temperatures = config.pool_ratios, config.temperatures

        self.sinc = SincFrontEnd(n_filters, config.first_conv)
        self.first_bn = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.5)
        self.drop_way = nn.Dropout(0.2)
        self.act = nn.SELU()
        self.encoder = encoder(config.block_channels)
        self.pos_S = nn.Parameter(torch.randn(1, n_filters // FREQUENCY_POOL, n_channels))
        self.master1 = nn.Parameter(torch.randn(1, 1, gat))
        self.master2 = nn.Parameter(torch.randn(1, 1, gat))
        self.GAT_layer_S = GraphAttention(n_channels, gat, temperatures[0])
        self.GAT_layer_T = GraphAttention(n_channels, gat, temperatures[1])
        self.pool_S = GraphPool(ratios[0], gat)
        self.pool_T = GraphPool(ratios[1], gat)
        for branch in (1, 2):
            self.add_module(
                f"HtrgGAT_layer_ST{branch}1",
                HeterogeneousGraphAttention(gat, hgat, temperatures[2]),
            )
            self.add_module(
                f"HtrgGAT_layer_ST{branch}2",
                HeterogeneousGraphAttention(hgat, hgat, temperatures[2]),
            )
            self.add_module(f"pool_hS{branch}", GraphPool(ratios[2], hgat))
            self.add_module(f"pool_hT{branch}", GraphPool(ratios[2], hgat))
        self.out_layer = nn.Linear(self.n_features, 2)

    @property
    def min_samples(self) -> int:
        """The shortest wave that the network is run on."""
        return self.config.min_samples

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        """Score waves.

        Args:
            wave: (B, N) float samples at 16 kHz in [-1, 1].
            mask_filters: Zero a random band of sinc filters (training-time augmentation).

        Returns:
            (B, 5 * gat_dims[1]) embedding and (B, 2) logits of spoof and bona fide.
        """
        e = self.encode(wave, mask_filters=mask_filters)
        nodes = torch.amax(e.abs(), dim=3).transpose(1, 2) + self.pos_S  # (B, 23, C)
        spectral = self.pool_S(self.GAT_layer_S(nodes))
        nodes = torch.amax(e.abs(), dim=2).transpose(1, 2)  # (B, T, C)
        temporal = self.pool_T(self.GAT_layer_T(nodes))

        branch1 = self._branch(1, temporal, spectral, self.master1)
        branch2 = self._branch(2, temporal, spectral, self.master2)
        t, s, m = (
            torch.maximum(self.drop_way(a), self.drop_way(b))
            for a, b in zip(branch1, branch2, strict=True)
        )
        embedding = torch.cat(
            [t.abs().amax(1), t.mean(1), s.abs().amax(1), s.mean(1), m.squeeze(1)], dim=1
        )
        return embedding, self.out_layer(self.drop(embedding))

    def encode(self, wave: Tensor, *, mask_filters: bool = False) -> Tensor:
        """(B, N) -> the encoder's map (B, C, 23, T), one T per 2,187 samples."""
        x = self.sinc(wave, mask_filters=mask_filters).abs().unsqueeze(1)  # (B, 1, filters, N')
        x = max_pool2d(x, (FREQUENCY_POOL, FREQUENCY_POOL))
        e: Tensor = self.encoder(self.act(self.first_bn(x)))
        return e

    def _branch(self, branch: int, t: Tensor, s: Tensor, master: Tensor) -> Nodes:
        first, second = (self.get_submodule(f"HtrgGAT_layer_ST{branch}{i}") for i in (1, 2))
        t, s, master = first(t, s, master)
        s = self.get_submodule(f"pool_hS{branch}")(s)
        t = self.get_submodule(f"pool_hT{branch}")(t)
        t_more, s_more, master_more = second(t, s, master)
        return t + t_more, s + s_more, master + master_more
