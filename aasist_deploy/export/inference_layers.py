"""Parts that the deployed forms share: the functions of the trained layers, with less work.

Each rewrite is exact in real arithmetic; the export's own parity check bounds what rounding does.

- The unused `bn1` and its activation are gone.
- Batch normalisation is folded into the convolution or projection before it.
- SELU(x) = lambda * ELU(x, alpha), and lambda is folded into the next convolution, because runtimes
  fuse ELU into a convolution and do not fuse SELU.
- The first batch normalisation has one channel: a positive scale moves through max-pool and abs
  into the sinc filters; the offset stays.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu, linear, max_pool2d

from aasist_deploy.errors import ModelFileError
from aasist_deploy.models.aasist import FREQUENCY_POOL
from aasist_deploy.models.residual import TIME_POOL, ResidualBlock

TopK = Literal["topk", "rank"]

# Klambauer et al., "Self-normalizing neural networks", 2017; the values torch uses.
SELU_ALPHA: Final = 1.6732632423543772
SELU_LAMBDA: Final = 1.0507009873554805


class InferenceNetwork(nn.Module):
    """The deployed form of a network: waves to score, output, embedding and pooling orders.

    Attributes:
        pool_names: Its graph poolings, in the order in which `forward` gives their orders.
        has_embedding: Whether `forward` gives an embedding.
    """

    pool_names: tuple[str, ...] = ()
    has_embedding = True

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, N) -> score (B,), output (B, 2), embedding if any, then one order a pooling."""
        raise NotImplementedError


def batch_norm_scale_and_offset(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, offset) in float64 so that norm(x) = scale * x + offset, channel by channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - scale * norm.running_mean.double()


class FixedLinear(nn.Module):
    """A projection with fixed weights; its name becomes the name of its nodes."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def of(cls, layer: nn.Linear) -> FixedLinear:
        """The same projection as a trained layer."""
        return cls(layer.weight.detach(), layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(x, self.weight, self.bias)


class FixedConv(nn.Module):
    """A 2-D convolution with fixed weights."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, F, T) -> (B, out, F', T')."""
        return conv2d(x, self.weight, self.bias, padding=self.padding)


class FrontEnd2d(nn.Module):
    """Sinc filters, magnitude, 3x3 max-pool, the one-channel normalisation, ELU."""

    filters: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, filters: Tensor, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(norm)
        self.scale_folds = bool(scale > 0)  # max|s * x| = s * max|x| needs s >= 0
        folded = filters.double() * scale if self.scale_folds else filters
        self.register_buffer("filters", folded.float())  # (C, 1, K)
        self.register_buffer("scale", scale.float())
        self.register_buffer("offset", offset.float())

    def forward(self, wave: Tensor) -> Tensor:
        """(B, N) -> (B, 1, filters // 3, N')."""
        x = nn.functional.conv1d(wave.unsqueeze(1), self.filters)  # (B, C, N')
        x = max_pool2d(x.abs().unsqueeze(1), (FREQUENCY_POOL, FREQUENCY_POOL))
        if not self.scale_folds:
            x = x * self.scale
        return elu(x + self.offset, SELU_ALPHA)


class Block2d(nn.Module):
    """A residual block with normalisation and SELU's scale folded away."""

    def __init__(self, block: ResidualBlock, *, input_scale: float) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(block.bn2)
        weight, bias = block.conv1.weight.double(), _bias(block.conv1)
        self.conv1 = FixedConv(
            weight * scale.view(-1, 1, 1, 1) * input_scale, bias * scale + offset, (1, 1)
        )
        self.conv2 = FixedConv(
            block.conv2.weight.double() * SELU_LAMBDA, _bias(block.conv2), (0, 1)
        )
        self.conv_downsample = (
            FixedConv(
                block.conv_downsample.weight.double() * input_scale,
                _bias(block.conv_downsample),
                (0, 1),
            )
            if block.conv_downsample is not None
            else None
        )
        if self.conv_downsample is None and input_scale != 1.0:
            raise ModelFileError("The first residual block has no downsampling convolution.")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, F, T) -> (B, out, F, T // 3)."""
        y = self.conv2(elu(self.conv1(x), SELU_ALPHA))
        skip = x if self.conv_downsample is None else self.conv_downsample(x)
        return max_pool2d(y + skip, (1, TIME_POOL))


def encoder_2d(encoder: nn.Module) -> nn.Sequential:
    """The deployed blocks of an encoder that is given ELU's output, without SELU's scale."""
    blocks = [module for module in encoder.modules() if isinstance(module, ResidualBlock)]
    return nn.Sequential(
        *[
            Block2d(block, input_scale=SELU_LAMBDA if index == 0 else 1.0)
            for index, block in enumerate(blocks)
        ]
    )


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution of the architecture has one
    return conv.bias.detach().double()
