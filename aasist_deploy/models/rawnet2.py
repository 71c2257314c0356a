"""RawNet2 for anti-spoofing: 1-D residual blocks, gates and a GRU (17,621,410 parameters).

Source: Tak et al., "End-to-end anti-spoofing with RawNet2", ICASSP 2021. Module names are those of
the published state dicts, which load strictly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, max_pool1d

from aasist_deploy.contract import LOG_PROBABILITY_SCORE
from aasist_deploy.errors import CheckpointError
from aasist_deploy.models.config import Channels, NetworkConfig, channels, whole
from aasist_deploy.models.network import Network
from aasist_deploy.models.residual import ResidualBlock1d
from aasist_deploy.models.sinc import SincFrontEnd, odd_taps

N_BLOCKS: Final = 6
MAX_LAYERS: Final = 16  # of the GRU; the published network has 3
SAMPLES_PER_STEP: Final = 3**7  # max-pool by three in the front end and in six blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class RawNet2Config(NetworkConfig):
    """The `model_config` object of the published `RawNet2_baseline.conf`: keys of all, and these.

    The architecture is called "RawNet2Spoof" there.

    Attributes:
        filts: Number of sinc filters, then [in, out] channels: of blocks 0 and 1, of block 2, and
            one pair that the published network does not use.
        gru_node: Features of the GRU.
        nb_gru_layer: Layers of the GRU.
        nb_fc_node: Width of the embedding.
        in_channels: Channels of the wave: 1.
        nb_classes: 2.
        blocks: Of the published file; not used.
    """

    network: ClassVar[str] = "RawNet2"
    published_file: ClassVar[str] = "RawNet2_baseline.conf"
    n_filts: ClassVar[int] = 4

    architecture: str = "RawNet2"
    gru_node: int
    nb_gru_layer: int
    nb_fc_node: int
    in_channels: int = 1
    nb_classes: int = 2
    blocks: Channels = (2, 4)

    @classmethod
    def _parsed_own(cls, name: str, value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
        return channels(value) if name == "blocks" else whole(value)

    def _check(self) -> None:
        if (self.in_channels, self.nb_classes) != (1, 2):
            raise CheckpointError(
                f"The model configuration has in_channels {self.in_channels} and nb_classes "
                f"{self.nb_classes}; RawNet2 takes one channel and gives two classes."
            )

        if self.nb_gru_layer > MAX_LAYERS:
            raise CheckpointError(
                f"The configured nb_gru_layer is {self.nb_gru_layer}; at most {MAX_LAYERS} are "
                f"built."
            )

    @property
    def block_channels(self) -> tuple[Channels, ...]:
        """[in, out] channels of the six residual blocks.

        The published code makes blocks 3 to 5 of `filts[2]` after setting its first entry to its
        second.
        """
        first, third = self.filts[1], self.filts[2]
        last = (third[1], third[1])
        return (first, first, third, last, last, last)

    @property
    def first_channels(self) -> int:
        """The first block reads the sinc filters' outputs as channels."""
        return int(self.filts[0])

    @property
    def min_samples(self) -> int:
        """The shortest wave that leaves the GRU one step."""
        return SAMPLES_PER_STEP + odd_taps(self.first_conv) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Filters, and sizes of the GRU and of the embedding."""
        return (self.filts[0], self.gru_node, self.nb_gru_layer, self.nb_fc_node)


class RawNet2(Network):
    """Waves to (embedding, log-probabilities); column 1 is the detection score.

    Nothing in it is made for one length: convolutions, means over time, and a GRU of which the last
    step is read, one step per 2,187 samples. So it takes any length that leaves one step, although
    it was trained on 29 steps (64,600 samples) and is best used there.

    Args:
        config: The configuration; `RawNet2Config.from_mapping` makes it from a published file.
    """

    architecture = "RawNet2"
    any_length = True
    score = LOG_PROBABILITY_SCORE

    def __init__(self, config: RawNet2Config) -> None:
        super().__init__()
        self.config = config
        self.settings = config.settings()
        self.n_samples = config.nb_samp
        self.n_features = config.nb_fc_node
        n_channels = config.block_channels[-1][1]

        self.sinc = SincFrontEnd(config.filts[0], config.first_conv)
        self.first_bn = nn.BatchNorm1d(config.filts[0])
        self.act = nn.SELU()
        for index, (taken, made) in enumerate(config.block_channels):
            block = ResidualBlock1d(taken, made, first=index == 0)
            self.add_module(f"block{index}", nn.Sequential(block))
            self.add_module(f"fc_attention{index}", nn.Sequential(nn.Linear(made, made)))
        self.bn_before_gru = nn.BatchNorm1d(n_channels)
        self.gru = nn.GRU(n_channels, config.gru_node, config.nb_gru_layer, batch_first=True)
        self.fc1_gru = nn.Linear(config.gru_node, config.nb_fc_node)
        self.fc2_gru = nn.Linear(config.nb_fc_node, config.nb_classes)

    @property
    def min_samples(self) -> int:
        """The shortest wave that the network can be run on."""
        return self.config.min_samples

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        """Score waves.

        Args:
            wave: (B, N) float samples at 16 kHz in [-1, 1].
            mask_filters: Zero a random band of sinc filters (training-time augmentation).

        Returns:
            (B, nb_fc_node) embedding and (B, 2) log-probabilities of spoof and bona fide.
        """
        x = self.sinc(wave, mask_filters=mask_filters).abs()  # (B, filters, N')
        x = self.act(self.first_bn(max_pool1d(x, 3)))
        for index in range(N_BLOCKS):
            x = self.get_submodule(f"block{index}")(x)  # (B, C, T)
            gate = torch.sigmoid(self.get_submodule(f"fc_attention{index}")(x.mean(dim=2)))
            x = x * gate.unsqueeze(2) + gate.unsqueeze(2)
        x = self.act(self.bn_before_gru(x))
        steps, _ = self.gru(x.transpose(1, 2))  # (B, T, gru_node)
        embedding = self.fc1_gru(steps[:, -1])  # (B, nb_fc_node)
        return embedding, log_softmax(self.fc2_gru(embedding), dim=1)
