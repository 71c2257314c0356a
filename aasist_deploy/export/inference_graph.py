"""The trained AASIST rewritten as the network that is deployed: same function, less work.

Each rewrite is exact in real arithmetic; the export's own parity check bounds what rounding does.

- The unused `bn1` and its activation are gone.
- Batch normalisation is folded into the convolution or projection before it.
- SELU(x) = lambda * ELU(x, alpha), and lambda is folded into the next convolution, because runtimes
  fuse ELU into a convolution and do not fuse SELU.
- The first batch normalisation has one channel: a positive scale moves through max-pool and abs
  into the sinc filters; the offset stays.
- Attention temperatures are folded into the attention weights.
- The number of pooled nodes is computed from the shape, so that a graph with a variable length
  stays right at every length.
- Graph pooling ranks nodes by the score before the sigmoid: the sigmoid is monotone, but saturates
  and makes ties.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu, linear, max_pool2d

from aasist_deploy.errors import ModelFileError
from aasist_deploy.models.aasist import FREQUENCY_POOL, Aasist, ResidualBlock
from aasist_deploy.models.graph import (
    GraphAttention,
    GraphPool,
    HeterogeneousGraphAttention,
    Nodes,
    n_kept,
    pairwise_products,
)

TopK = Literal["topk", "rank"]

# Klambauer et al., "Self-normalizing neural networks", 2017; the values torch uses.
SELU_ALPHA: Final = 1.6732632423543772
SELU_LAMBDA: Final = 1.0507009873554805


def batch_norm_scale_and_offset(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, offset) in float64 so that norm(x) = scale * x + offset, channel by channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - scale * norm.running_mean.double()


class _Linear(nn.Module):
    """A projection with fixed weights; its name becomes the name of its nodes."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def of(cls, layer: nn.Linear) -> _Linear:
        return cls(layer.weight.detach(), layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class _Conv(nn.Module):
    """A 2-D convolution with fixed weights."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, padding=self.padding)


class _FrontEnd(nn.Module):
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
        x = nn.functional.conv1d(wave.unsqueeze(1), self.filters)  # (B, C, N')
        x = max_pool2d(x.abs().unsqueeze(1), (FREQUENCY_POOL, FREQUENCY_POOL))
        if not self.scale_folds:
            x = x * self.scale
        return elu(x + self.offset, SELU_ALPHA)


class _Block(nn.Module):
    """A residual block with normalisation and SELU's scale folded away."""

    def __init__(self, block: ResidualBlock, *, input_scale: float) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(block.bn2)
        weight, bias = block.conv1.weight.double(), _bias(block.conv1)
        self.conv1 = _Conv(
            weight * scale.view(-1, 1, 1, 1) * input_scale, bias * scale + offset, (1, 1)
        )
        self.conv2 = _Conv(block.conv2.weight.double() * SELU_LAMBDA, _bias(block.conv2), (0, 1))
        self.conv_downsample = (
            _Conv(
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
        y = self.conv2(elu(self.conv1(x), SELU_ALPHA))
        skip = x if self.conv_downsample is None else self.conv_downsample(x)
        return max_pool2d(y + skip, (1, 3))


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution of the architecture has one
    return conv.bias.detach().double()


class _GraphAttention(nn.Module):
    att_weight: Tensor

    def __init__(self, layer: GraphAttention) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(layer.bn)
        self.att_proj = _Linear.of(layer.att_proj)
        self.register_buffer("att_weight", layer.att_weight.detach() / layer.temperature)
        self.proj_with_att = _scaled(layer.proj_with_att, scale, offset)
        self.proj_without_att = _scaled(layer.proj_without_att, scale)
        self.act = nn.SELU()

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (B, N, N, D)
        attention = torch.softmax((pairs @ self.att_weight).squeeze(-1), dim=-1)  # (B, N, N)
        y: Tensor = self.act(self.proj_with_att(attention @ x) + self.proj_without_att(x))
        return y


class _HeterogeneousGraphAttention(nn.Module):
    att_weights: Tensor
    att_weightM: Tensor  # noqa: N815  # as in the state dict

    def __init__(self, layer: HeterogeneousGraphAttention) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(layer.bn)
        self.proj_type1 = _Linear.of(layer.proj_type1)
        self.proj_type2 = _Linear.of(layer.proj_type2)
        self.att_proj = _Linear.of(layer.att_proj)
        self.att_projM = _Linear.of(layer.att_projM)
        weights = torch.cat([layer.att_weight11, layer.att_weight12, layer.att_weight22], 1)
        self.register_buffer("att_weights", weights.detach() / layer.temperature)
        self.register_buffer("att_weightM", layer.att_weightM.detach() / layer.temperature)
        self.proj_with_att = _scaled(layer.proj_with_att, scale, offset)
        self.proj_without_att = _scaled(layer.proj_without_att, scale)
        self.proj_with_attM = _Linear.of(layer.proj_with_attM)
        self.proj_without_attM = _Linear.of(layer.proj_without_attM)
        self.act = nn.SELU()

    def forward(self, x1: Tensor, x2: Tensor, master: Tensor) -> Nodes:
        n1 = x1.shape[1]
        x = torch.cat([self.proj_type1(x1), self.proj_type2(x2)], dim=1)  # (B, N, D)
        to_master = torch.tanh(self.att_projM(x * master)) @ self.att_weightM  # (B, N, 1)
        attended = torch.softmax(to_master, dim=1).transpose(1, 2) @ x  # (B, 1, D)
        new_master = self.proj_with_attM(attended) + self.proj_without_attM(master)

        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (B, N, N, D')
        kinds = pairs @ self.att_weights  # (B, N, N, 3)
        top = torch.cat([kinds[:, :n1, :n1, 0], kinds[:, :n1, n1:, 1]], dim=2)
        bottom = torch.cat([kinds[:, n1:, :n1, 1], kinds[:, n1:, n1:, 2]], dim=2)
        attention = torch.softmax(torch.cat([top, bottom], dim=1), dim=-1)  # (B, N, N)
        y = self.act(self.proj_with_att(attention @ x) + self.proj_without_att(x))
        return y[:, :n1], y[:, n1:], new_master


def _scaled(layer: nn.Linear, scale: Tensor, offset: Tensor | None = None) -> _Linear:
    """The projection followed by the scale (and offset) of a batch normalisation."""
    bias = layer.bias.detach().double() * scale
    return _Linear(
        layer.weight.detach().double() * scale.view(-1, 1),
        bias if offset is None else bias + offset,
    )


class GraphPoolInference(nn.Module):
    """Graph pooling in one of two exact forms; both give equal scores to the lower index first.

    `topk`: TopK and a gather; ONNX defines that equal values keep the lower index first.
    `rank`: rank_i = #{j: s_j > s_i} + #{j < i: s_j = s_i}, then a one-hot selection by matrix
    product; no TopK, no gather, and nothing left to the runtime.
    """

    def __init__(self, pool: GraphPool, method: TopK) -> None:
        super().__init__()
        self.proj = _Linear.of(pool.proj)
        self.method = method
        self.ratio = pool.ratio

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> (B, k, D) and the order: indices taken (topk) or each node's rank (rank)."""
        k = self._n_kept(h.shape[1])
        scores = self.proj(h)  # (B, N, 1)
        h = h * torch.sigmoid(scores)
        if self.method == "topk":
            taken = torch.topk(scores.squeeze(-1), k, dim=1, sorted=True).indices  # (B, k)
            return torch.gather(h, 1, taken.unsqueeze(-1).expand(-1, -1, h.shape[2])), taken
        row = scores.transpose(1, 2)  # (B, 1, N); scores is a column
        node = torch.arange(h.shape[1], device=h.device)
        lower = node.unsqueeze(0) < node.unsqueeze(1)  # (N, N): j < i
        before = (row > scores) | ((row == scores) & lower)  # (B, N, N): j comes before i
        rank = before.to(torch.float32).sum(dim=2)  # (B, N), whole numbers
        wanted = torch.arange(k, device=h.device, dtype=torch.float32).view(1, -1, 1)
        selection = (rank.unsqueeze(1) == wanted).to(h.dtype)  # (B, k, N) one-hot rows
        return selection @ h, rank

    def _n_kept(self, n_nodes: int | torch.SymInt) -> int:
        if isinstance(n_nodes, int):
            return n_kept(n_nodes, self.ratio)
        # `int(n * ratio)` would be traced as a constant here. This is traced, but in float32, which
        # is not always what Python computes (90 * 0.7): the exporter makes it a table look-up.
        kept = math.trunc(torch.sym_float(n_nodes) * self.ratio)  # type: ignore[no-untyped-call]
        at_least_one: int = torch.sym_max(kept, 1)  # type: ignore[no-untyped-call]
        return at_least_one


class InferenceAasist(nn.Module):
    """The deployed form of an `Aasist`: waves to score, logits, embedding and pooling orders.

    Args:
        model: The trained network.
        method: Which exact form of graph pooling to write.
    """

    pos_S: Tensor  # noqa: N815  # as in the state dict
    master1: Tensor
    master2: Tensor

    def __init__(self, model: Aasist, method: TopK) -> None:
        super().__init__()
        self.front_end = _FrontEnd(model.sinc.filters, model.first_bn)
        blocks = [m for m in model.encoder.modules() if isinstance(m, ResidualBlock)]
        self.encoder = nn.Sequential(
            *[
                _Block(block, input_scale=SELU_LAMBDA if index == 0 else 1.0)
                for index, block in enumerate(blocks)
            ]
        )
        for name in ("pos_S", "master1", "master2"):
            self.register_buffer(name, getattr(model, name).detach())
        self.GAT_layer_S = _GraphAttention(model.GAT_layer_S)
        self.GAT_layer_T = _GraphAttention(model.GAT_layer_T)
        for name, layer in model.named_children():
            if isinstance(layer, HeterogeneousGraphAttention):
                self.add_module(name, _HeterogeneousGraphAttention(layer))
            elif isinstance(layer, GraphPool):
                self.add_module(name, GraphPoolInference(layer, method))
        self.out_layer = _Linear.of(model.out_layer)
        self.pool_names = [n for n, m in self.named_children() if isinstance(m, GraphPoolInference)]

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, N) -> score (B,), logits (B, 2), embedding, then one order for each pooling."""
        e = self.encoder(self.front_end(wave)).abs()  # (B, C, 23, T)
        orders: dict[str, Tensor] = {}
        s = self.GAT_layer_S(torch.amax(e, dim=3).transpose(1, 2) + self.pos_S)
        s = self._pool("pool_S", s, orders)
        t = self.GAT_layer_T(torch.amax(e, dim=2).transpose(1, 2))
        t = self._pool("pool_T", t, orders)
        t1, s1, m1 = self._branch(1, t, s, self.master1, orders)
        t2, s2, m2 = self._branch(2, t, s, self.master2, orders)
        t, s, m = torch.maximum(t1, t2), torch.maximum(s1, s2), torch.maximum(m1, m2)
        embedding = torch.cat(
            [t.abs().amax(1), t.mean(1), s.abs().amax(1), s.mean(1), m.squeeze(1)], dim=1
        )
        logits = self.out_layer(embedding)
        return logits[:, 1], logits, embedding, *(orders[name] for name in self.pool_names)

    def _branch(
        self, branch: int, t: Tensor, s: Tensor, master: Tensor, orders: dict[str, Tensor]
    ) -> Nodes:
        first, second = (self.get_submodule(f"HtrgGAT_layer_ST{branch}{i}") for i in (1, 2))
        t, s, master = first(t, s, master)
        s = self._pool(f"pool_hS{branch}", s, orders)
        t = self._pool(f"pool_hT{branch}", t, orders)
        t_more, s_more, master_more = second(t, s, master)
        return t + t_more, s + s_more, master + master_more

    def _pool(self, name: str, nodes: Tensor, orders: dict[str, Tensor]) -> Tensor:
        kept: Tensor
        kept, orders[name] = self.get_submodule(name)(nodes)
        return kept
