"""Graph attention, heterogeneous graph attention and graph pooling of AASIST and RawGAT-ST.

Source: Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", ICASSP 2022, sections 2 and 3. Parameter names are those of the published state dicts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Nodes = tuple[Tensor, Tensor, Tensor]  # type-1 nodes, type-2 nodes, master node


def node_batch_norm(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch normalisation over the last (feature) axis of (B, N, D)."""
    normed: Tensor = norm(x.flatten(0, 1))
    return normed.view_as(x)


def attention_weight(dim: int) -> nn.Parameter:
    """A (dim, 1) weight that turns the features of a pair of nodes into one logit."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(dim, 1)))


def pairwise_products(x: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, N, D), the product of every pair of nodes."""
    return x.unsqueeze(2) * x.unsqueeze(1)


class GraphAttention(nn.Module):
    """Attention of each node over all nodes of one graph; RawGAT-ST's has no temperature."""

    def __init__(self, in_dim: int, out_dim: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_weight = attention_weight(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(0.2)
        self.act = nn.SELU()
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        x = self.input_drop(x)
        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (B, N, N, out)
        logits = (pairs @ self.att_weight).squeeze(-1) / self.temperature  # (B, N, N)
        attended = torch.softmax(logits, dim=-1) @ x  # (B, N, in)
        y = self.proj_with_att(attended) + self.proj_without_att(x)
        out: Tensor = self.act(node_batch_norm(self.bn, y))
        return out


class HeterogeneousGraphAttention(nn.Module):
    """Attention over the union of two graphs: one weight per kind of pair, and a master node."""

    def __init__(self, in_dim: int, out_dim: int, temperature: float) -> None:
        super().__init__()
        self.proj_type1 = nn.Linear(in_dim, in_dim)
        self.proj_type2 = nn.Linear(in_dim, in_dim)
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_projM = nn.Linear(in_dim, out_dim)
        self.att_weight11 = attention_weight(out_dim)
        self.att_weight22 = attention_weight(out_dim)
        self.att_weight12 = attention_weight(out_dim)
        self.att_weightM = attention_weight(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.proj_with_attM = nn.Linear(in_dim, out_dim)
        self.proj_without_attM = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(0.2)
        self.act = nn.SELU()
        self.temperature = temperature

    def forward(self, x1: Tensor, x2: Tensor, master: Tensor) -> Nodes:
        """(B, N1, in), (B, N2, in), (B or 1, 1, in) -> the same three with `out` features."""
        n1 = x1.shape[1]
        x = self.input_drop(torch.cat([self.proj_type1(x1), self.proj_type2(x2)], dim=1))
        # The master reads the nodes after dropout and before their own update.
        new_master = self._update_master(x, master)

        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (B, N, N, out)
        weights = torch.cat([self.att_weight11, self.att_weight12, self.att_weight22], dim=1)
        kinds = (pairs @ weights) / self.temperature  # (B, N, N, 3)
        top = torch.cat([kinds[:, :n1, :n1, 0], kinds[:, :n1, n1:, 1]], dim=2)
        bottom = torch.cat([kinds[:, n1:, :n1, 1], kinds[:, n1:, n1:, 2]], dim=2)
        attention = torch.softmax(torch.cat([top, bottom], dim=1), dim=-1)  # (B, N, N)

        y = self.proj_with_att(attention @ x) + self.proj_without_att(x)
        y = self.act(node_batch_norm(self.bn, y))  # (B, N, out)
        return y[:, :n1], y[:, n1:], new_master

    def _update_master(self, x: Tensor, master: Tensor) -> Tensor:
        logits = torch.tanh(self.att_projM(x * master)) @ self.att_weightM  # (B, N, 1)
        attention = torch.softmax(logits / self.temperature, dim=1)
        attended = attention.transpose(1, 2) @ x  # (B, 1, in)
        updated: Tensor = self.proj_with_attM(attended) + self.proj_without_attM(master)
        return updated


def n_kept(n_nodes: int, ratio: float, at_least: int = 1) -> int:
    """How many nodes graph pooling keeps: int(N * ratio), and `at_least` of them."""
    return max(int(n_nodes * ratio), at_least)


class NodeOrder(nn.Module):
    """Indices of the k highest scores in descending order; equal scores keep the lower index first.

    A module of its own so that a parity check can observe which nodes were taken.
    """

    def forward(self, scores: Tensor, k: int) -> Tensor:
        """(B, N) -> (B, k) int64."""
        return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]


class PublishedOrder(nn.Module):
    """The same with equal scores in the order of torch.topk, which is defined by its code alone.

    Sigmoids saturate: in the reference outputs of RawGAT-ST, of random weights, most scores of a
    graph are exactly 1, so that this order decides them. No other runtime gives it.
    """

    def forward(self, scores: Tensor, k: int) -> Tensor:
        """(B, N) -> (B, k) int64."""
        return torch.topk(scores, k, dim=1).indices


class GraphPool(nn.Module):
    """Keep the nodes with the highest scores, best first, each multiplied by its score."""

    def __init__(
        self,
        ratio: float,
        in_dim: int,
        dropout: float = 0.3,
        *,
        at_least: int = 1,
        order: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.proj = nn.Linear(in_dim, 1)
        self.drop = nn.Dropout(dropout)
        self.order = NodeOrder() if order is None else order
        self.ratio = ratio
        self.at_least = at_least

    def forward(self, h: Tensor) -> Tensor:
        """(B, N, D) -> (B, k, D) with k = max(int(N * ratio), at_least)."""
        scores = torch.sigmoid(self.proj(self.drop(h)))  # (B, N, 1)
        taken = self.order(scores.squeeze(-1), n_kept(h.shape[1], self.ratio, self.at_least))
        return torch.gather(h * scores, 1, taken.unsqueeze(-1).expand(-1, -1, h.shape[2]))
