"""The deployed form of RawGAT-ST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aasist_deploy.export.inference_graph import GraphAttentionInference, GraphPoolInference
from aasist_deploy.export.inference_layers import (
    FixedLinear,
    FrontEnd2d,
    InferenceNetwork,
    TopK,
    encoder_2d,
)

if TYPE_CHECKING:
    from aasist_deploy.models.rawgat_st import RawGatSt


class InferenceRawGatSt(InferenceNetwork):
    """The deployed form of a `RawGatSt`; of one length, as its projections over nodes are.

    Args:
        model: The trained network.
        method: Which exact form of graph pooling to write.
    """

    pool_names = ("pool_T", "pool_S", "pool_ST")

    def __init__(self, model: RawGatSt, method: TopK) -> None:
        super().__init__()
        self.front_end = FrontEnd2d(model.sinc.filters, model.first_bn)
        self.encoder_T = encoder_2d(model.encoder_T)
        self.encoder_S = encoder_2d(model.encoder_S)
        self.GAT_layer_T = GraphAttentionInference(model.GAT_layer_T)
        self.GAT_layer_S = GraphAttentionInference(model.GAT_layer_S)
        self.GAT_layer_ST = GraphAttentionInference(model.GAT_layer_ST)
        self.pool_T = GraphPoolInference(model.pool_T, method)
        self.pool_S = GraphPoolInference(model.pool_S, method)
        self.pool_ST = GraphPoolInference(model.pool_ST, method)
        self.proj_T = FixedLinear.of(model.proj_T)
        self.proj_S = FixedLinear.of(model.proj_S)
        self.proj_ST = FixedLinear.of(model.proj_ST)
        self.out_layer = FixedLinear.of(model.out_layer)

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, nb_samp) -> score (B,), logits (B, 2), embedding, then one order a pooling."""
        x = self.front_end(wave)  # (B, 1, 23, N')
        nodes = torch.amax(self.encoder_T(x).abs(), dim=3).transpose(1, 2)  # (B, 23, C)
        kept, order_T = self.pool_T(self.GAT_layer_T(nodes))  # (B, 14, 32)
        frequency = self.proj_T(kept.transpose(1, 2))  # (B, 32, 12)
        nodes = torch.amax(self.encoder_S(x).abs(), dim=2).transpose(1, 2)  # (B, 29, C)
        kept, order_S = self.pool_S(self.GAT_layer_S(nodes))  # (B, 23, 32)
        time = self.proj_S(kept.transpose(1, 2))  # (B, 32, 12)

        joint = self.GAT_layer_ST((frequency * time).transpose(1, 2))  # (B, 12, 16)
        kept, order_ST = self.pool_ST(joint)  # (B, 7, 16)
        embedding = self.proj_ST(kept).squeeze(2)  # (B, 7)
        logits = self.out_layer(embedding)
        return logits[:, 1], logits, embedding, order_T, order_S, order_ST
