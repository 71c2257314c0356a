"""The deployed form of AASIST and AASIST-L."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aasist_deploy.export.inference_graph import (
    GraphAttentionInference,
    GraphPoolInference,
    HeterogeneousGraphAttentionInference,
)
from aasist_deploy.export.inference_layers import (
    FixedLinear,
    FrontEnd2d,
    InferenceNetwork,
    TopK,
    encoder_2d,
)
from aasist_deploy.models.graph import GraphPool, HeterogeneousGraphAttention, Nodes

if TYPE_CHECKING:
    from aasist_deploy.models.aasist import Aasist


class InferenceAasist(InferenceNetwork):
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
        self.front_end = FrontEnd2d(model.sinc.filters, model.first_bn)
        self.encoder = encoder_2d(model.encoder)
        for name in ("pos_S", "master1", "master2"):
            self.register_buffer(name, getattr(model, name).detach())
        self.GAT_layer_S = GraphAttentionInference(model.GAT_layer_S)
        self.GAT_layer_T = GraphAttentionInference(model.GAT_layer_T)
        for name, layer in model.named_children():
            if isinstance(layer, HeterogeneousGraphAttention):
                self.add_module(name, HeterogeneousGraphAttentionInference(layer))
            elif isinstance(layer, GraphPool):
                self.add_module(name, GraphPoolInference(layer, method))
        self.out_layer = FixedLinear.of(model.out_layer)
        self.pool_names = tuple(
            name for name, m in self.named_children() if isinstance(m, GraphPoolInference)
        )

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, N) -> score (B,), logits (B, 2), embedding, then one order for each pooling."""
        return self.from_frames(self.encoder(self.front_end(wave)))

    def from_frames(self, frames: Tensor) -> tuple[Tensor, ...]:
        """The encoder's map (B, C, 23, T) -> what `forward` gives."""
        e = frames.abs()
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
