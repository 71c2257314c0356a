"""The deployed form of RawNet2.

Each rewrite is exact in real arithmetic; the export's own parity check bounds what rounding does.

- The unused `bn1` and its activation are gone; `bn2` is folded into the convolution before it.
- Of the first normalisation (one scale a filter) the magnitude of each scale moves through max-pool
  and abs into the sinc filters; the signs stay where one is negative, and the offset.
- The normalisation before the GRU is folded into the last gate, which has one value a channel.
- The GRU is one ONNX operator a layer, and of the last layer its final state alone is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv1d,
    leaky_relu,
    linear,
    log_softmax,
    max_pool1d,
    max_pool2d,
    selu,
)

from aasist_deploy.export.inference_layers import (
    FixedLinear,
    InferenceNetwork,
    TopK,
    batch_norm_scale_and_offset,
)
from aasist_deploy.models.rawnet2 import N_BLOCKS
from aasist_deploy.models.residual import LEAKY_SLOPE, TIME_POOL, ResidualBlock1d

if TYPE_CHECKING:
    from aasist_deploy.models.rawnet2 import RawNet2


class InferenceRawNet2(InferenceNetwork):
    """The deployed form of a `RawNet2`: waves to score, log-probabilities and embedding.

    Args:
        model: The trained network.
        method: Not used: there is no graph pooling in it.
    """

    def __init__(self, model: RawNet2, method: TopK) -> None:  # noqa: ARG002  # as all forms
        super().__init__()
        self.front_end = FrontEnd1d(model.sinc.filters, model.first_bn)
        for index in range(N_BLOCKS):
            block = next(
                module
                for module in model.get_submodule(f"block{index}").modules()
                if isinstance(module, ResidualBlock1d)
            )
            self.add_module(f"block{index}", Block1d(block))
            projection = model.get_submodule(f"fc_attention{index}.0")
            assert isinstance(projection, nn.Linear)
            after = model.bn_before_gru if index == N_BLOCKS - 1 else None
            self.add_module(f"fc_attention{index}", Gate(projection, after))
        layers = range(model.gru.num_layers)
        self.gru = nn.Sequential(*[GruLayer(model.gru, layer) for layer in layers])
        self.fc1_gru = FixedLinear.of(model.fc1_gru)
        self.fc2_gru = FixedLinear.of(model.fc2_gru)

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, N) -> score (B,), log-probabilities (B, 2), embedding."""
        x = self.front_end(wave)  # (B, filters, N')
        for index in range(N_BLOCKS):
            x = self.get_submodule(f"block{index}")(x)  # (B, C, T)
            x = self.get_submodule(f"fc_attention{index}")(x)
        state = self.gru(selu(x).permute(2, 0, 1))  # (T, B, C) -> (B, gru_node)
        embedding = self.fc1_gru(state)  # (B, nb_fc_node)
        output = log_softmax(self.fc2_gru(embedding), dim=1)
        return output[:, 1], output, embedding


class FrontEnd1d(nn.Module):
    """Sinc filters, magnitude, max-pool, a normalisation with one scale a filter, SELU."""

    filters: Tensor
    sign: Tensor
    offset: Tensor

    def __init__(self, filters: Tensor, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(norm)
        folded = filters.double() * scale.abs().view(-1, 1, 1)
        self.register_buffer("filters", folded.float())  # (C, 1, K)
        self.all_positive = bool((scale >= 0).all())  # s * max|x| = max|s * x| needs s >= 0
        self.register_buffer("sign", torch.sign(scale).float().view(-1, 1))
        self.register_buffer("offset", offset.float().view(-1, 1))

    def forward(self, wave: Tensor) -> Tensor:
        """(B, N) -> (B, C, N')."""
        x = pool_by_three(conv1d(wave.unsqueeze(1), self.filters).abs())
        if not self.all_positive:
            x = x * self.sign
        return selu(x + self.offset)


def pool_by_three(x: Tensor) -> Tensor:
    """(B, C, T) -> (B, C, T // 3); the tracer takes max_pool1d as being of one length."""
    n_steps: int | torch.SymInt = x.shape[2]
    if isinstance(n_steps, int):
        return max_pool1d(x, TIME_POOL)
    return max_pool2d(x.unsqueeze(2), (1, TIME_POOL)).squeeze(2)


class FixedConv1d(nn.Module):
    """A 1-D convolution with fixed weights, an odd kernel and the length of its input."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float())
        self.register_buffer("bias", bias.detach().float())
        self.padding = weight.shape[2] // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T)."""
        return conv1d(x, self.weight, self.bias, padding=self.padding)


class Block1d(nn.Module):
    """A residual block with its normalisation folded away."""

    def __init__(self, block: ResidualBlock1d) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(block.bn2)
        self.conv1 = _conv(block.conv1, scale, offset)
        self.conv2 = _conv(block.conv2)
        self.conv_downsample = (
            None if block.conv_downsample is None else _conv(block.conv_downsample)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T // 3)."""
        y = self.conv2(leaky_relu(self.conv1(x), LEAKY_SLOPE))
        skip = x if self.conv_downsample is None else self.conv_downsample(x)
        return pool_by_three(y + skip)


def _conv(
    conv: nn.Conv1d, scale: Tensor | None = None, offset: Tensor | float = 0.0
) -> FixedConv1d:
    """The convolution followed by the scale and offset of a batch normalisation."""
    assert conv.bias is not None  # every convolution of the architecture has one
    if scale is None:
        return FixedConv1d(conv.weight, conv.bias)
    return FixedConv1d(
        conv.weight.double() * scale.view(-1, 1, 1), conv.bias.double() * scale + offset
    )


class Gate(nn.Module):
    """x * y + y with one y a channel from the mean over time; then a normalisation, if one follows.

    scale * (x * y + y) + offset = x * (scale * y) + (scale * y + offset).
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, projection: nn.Linear, norm: nn.BatchNorm1d | None) -> None:
        super().__init__()
        self.projection = FixedLinear.of(projection)
        self.normalises = norm is not None
        if norm is not None:
            scale, offset = batch_norm_scale_and_offset(norm)
            self.register_buffer("scale", scale.float())
            self.register_buffer("offset", offset.float())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        factor = torch.sigmoid(self.projection(x.mean(dim=2)))  # (B, C)
        if not self.normalises:
            factor = factor.unsqueeze(2)
            return x * factor + factor
        factor = factor * self.scale
        return x * factor.unsqueeze(2) + (factor + self.offset).unsqueeze(2)


class GruLayer(nn.Module):
    """One layer of a GRU over (T, B, in) from a state of zeros: the ONNX operator when traced.

    The weights are held as ONNX has them: gates in the order update, reset, candidate (PyTorch:
    reset, update, candidate), and the reset gate applied after the projection of the state
    (linear_before_reset). Source: onnx.ai, operator GRU; torch.nn.GRU.
    """

    W: Tensor
    R: Tensor
    B: Tensor

    def __init__(self, gru: nn.GRU, layer: int) -> None:
        super().__init__()
        self.size = gru.hidden_size
        self.last = layer == gru.num_layers - 1
        biases = [self._reordered(getattr(gru, f"bias_{kind}_l{layer}")) for kind in ("ih", "hh")]
        W = self._reordered(getattr(gru, f"weight_ih_l{layer}"))
        R = self._reordered(getattr(gru, f"weight_hh_l{layer}"))
        self.register_buffer("W", W.unsqueeze(0))  # (1, 3 * size, in)
        self.register_buffer("R", R.unsqueeze(0))  # (1, 3 * size, size)
        self.register_buffer("B", torch.cat(biases).unsqueeze(0))  # (1, 6 * size)

    def _reordered(self, stacked: Tensor) -> Tensor:
        reset, update, candidate = torch.split(stacked.detach(), self.size)
        return torch.cat([update, reset, candidate])

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) -> (T, B, size), or the final state (B, size) from the last layer."""
        if torch.compiler.is_exporting():
            return self._operator(x)
        bias_x, bias_h = torch.split(self.B[0], 3 * self.size)
        state = x.new_zeros(x.shape[1], self.size)
        states = []
        for gates in linear(x, self.W[0], bias_x):  # one step: (B, 3 * size)
            update, reset, candidate = torch.split(gates, self.size, dim=1)
            parts = torch.split(linear(state, self.R[0], bias_h), self.size, dim=1)
            z = torch.sigmoid(update + parts[0])
            n = torch.tanh(candidate + torch.sigmoid(reset + parts[1]) * parts[2])
            state = (1 - z) * n + z * state
            states.append(state)
        return state if self.last else torch.stack(states)

    def _operator(self, x: Tensor) -> Tensor:
        n_steps, batch, _ = x.shape
        every, final = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (x, self.W, self.R, self.B),
            attrs={"hidden_size": self.size, "linear_before_reset": 1},
            dtypes=(x.dtype, x.dtype),
            shapes=((n_steps, 1, batch, self.size), (1, batch, self.size)),
        )
        return final.squeeze(0) if self.last else every.squeeze(1)
