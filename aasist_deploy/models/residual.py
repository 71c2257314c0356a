"""The residual blocks: 2-D in AASIST and RawGAT-ST, 1-D in RawNet2.

Sources: Jung et al., "AASIST", ICASSP 2022, section 3.1; Tak et al., "End-to-end anti-spoofing with
RawNet2", ICASSP 2021. Parameter names are those of the published state dicts.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import max_pool1d, max_pool2d

LEAKY_SLOPE = 0.3  # of RawNet2's activations
TIME_POOL = 3  # each block shortens the time axis by three


class ResidualBlock(nn.Module):
    """Two convolutions, a skip connection, and max-pooling of the time axis by three."""

    def __init__(self, in_channels: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        # The published network computes SELU(bn1(x)) and throws it away. Its parameters are in the
        # checkpoints and its running statistics follow the training data; the output ignores both.
        self.bn1 = None if first else nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, (2, 3), padding=(0, 1))
        self.conv_downsample = (
            nn.Conv2d(in_channels, out_channels, (1, 3), padding=(0, 1))
            if in_channels != out_channels
            else None
        )
        self.act = nn.SELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, F, T) -> (B, out, F, T // 3)."""
        if self.training and self.bn1 is not None:
            self.bn1(x)
        y = self.conv2(self.act(self.bn2(self.conv1(x))))  # (B, out, F, T)
        skip = x if self.conv_downsample is None else self.conv_downsample(x)
        return max_pool2d(y + skip, (1, TIME_POOL))


class ResidualBlock1d(nn.Module):
    """The block of RawNet2: the same over time alone, with LeakyReLU and the same unused `bn1`."""

    def __init__(self, in_channels: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        self.bn1 = None if first else nn.BatchNorm1d(in_channels)
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm1d(out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 3, padding=1)
        self.conv_downsample = (
            nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )
        self.act = nn.LeakyReLU(LEAKY_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T // 3)."""
        if self.training and self.bn1 is not None:
            self.bn1(x)
        y = self.conv2(self.act(self.bn2(self.conv1(x))))  # (B, out, T)
        skip = x if self.conv_downsample is None else self.conv_downsample(x)
        return max_pool1d(y + skip, TIME_POOL)


def encoder(channels: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """2-D blocks one after another; each is wrapped once more, as in the published state dicts."""
    return nn.Sequential(
        *[
            nn.Sequential(ResidualBlock(i, o, first=index == 0))
            for index, (i, o) in enumerate(channels)
        ]
    )
