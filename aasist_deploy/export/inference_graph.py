"""Deployed graph attention and graph pooling, of AASIST and RawGAT-ST.

Each rewrite is exact in real arithmetic; the export's own parity check bounds what rounding does.

- Batch normalisation is folded into the projections before it, temperatures into the weights of the
  attention.
- The number of pooled nodes is computed from the shape, so that a graph with a variable length
  stays right at every length.
- Graph pooling ranks nodes by the score before the sigmoid: the sigmoid is monotone, but saturates
  and makes ties.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aasist_deploy.export.inference_layers import FixedLinear, TopK, batch_norm_scale_and_offset
from aasist_deploy.models.graph import n_kept, pairwise_products

if TYPE_CHECKING:
    from aasist_deploy.models.graph import (
        GraphAttention,
        GraphPool,
        HeterogeneousGraphAttention,
        Nodes,
    )


class GraphAttentionInference(nn.Module):
    """Attention of each node over all nodes of one graph."""

    att_weight: Tensor

    def __init__(self, layer: GraphAttention) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(layer.bn)
        self.att_proj = FixedLinear.of(layer.att_proj)
        self.register_buffer("att_weight", layer.att_weight.detach() / layer.temperature)
        self.proj_with_att = _scaled(layer.proj_with_att, scale, offset)
        self.proj_without_att = _scaled(layer.proj_without_att, scale)
        self.act = nn.SELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (B, N, N, D)
        attention = torch.softmax((pairs @ self.att_weight).squeeze(-1), dim=-1)  # (B, N, N)
        y: Tensor = self.act(self.proj_with_att(attention @ x) + self.proj_without_att(x))
        return y


class HeterogeneousGraphAttentionInference(nn.Module):
    """Attention over the union of two graphs, and a master node."""

    att_weights: Tensor
    att_weightM: Tensor  # noqa: N815  # as in the state dict

    def __init__(self, layer: HeterogeneousGraphAttention) -> None:
        super().__init__()
        scale, offset = batch_norm_scale_and_offset(layer.bn)
        self.proj_type1 = FixedLinear.of(layer.proj_type1)
        self.proj_type2 = FixedLinear.of(layer.proj_type2)
        self.att_proj = FixedLinear.of(layer.att_proj)
        self.att_projM = FixedLinear.of(layer.att_projM)
        weights = torch.cat([layer.att_weight11, layer.att_weight12, layer.att_weight22], 1)
        self.register_buffer("att_weights", weights.detach() / layer.temperature)
        self.register_buffer("att_weightM", layer.att_weightM.detach() / layer.temperature)
        self.proj_with_att = _scaled(layer.proj_with_att, scale, offset)
        self.proj_without_att = _scaled(layer.proj_without_att, scale)
        self.proj_with_attM = FixedLinear.of(layer.proj_with_attM)
        self.proj_without_attM = FixedLinear.of(layer.proj_without_attM)
        self.act = nn.SELU()

    def forward(self, x1: Tensor, x2: Tensor, master: Tensor) -> Nodes:
        """(B, N1, in), (B, N2, in), (B or 1, 1, in) -> the same three with `out` features."""
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


def _scaled(layer: nn.Linear, scale: Tensor, offset: Tensor | None = None) -> FixedLinear:
    """The projection followed by the scale (and offset) of a batch normalisation."""
    bias = layer.bias.detach().double() * scale
    return FixedLinear(
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
        self.proj = FixedLinear.of(pool.proj)
        self.method = method
        self.ratio = pool.ratio
        self.at_least = pool.at_least

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
            return n_kept(n_nodes, self.ratio, self.at_least)
        # `int(n * ratio)` would be traced as a constant here. This is traced, but in float32, which
        # is not always what Python computes (90 * 0.7): the exporter makes it a table look-up.
        kept = math.trunc(torch.sym_float(n_nodes) * self.ratio)  # type: ignore[no-untyped-call]
        enough: int = torch.sym_max(kept, self.at_least)  # type: ignore[no-untyped-call]
        return enough
