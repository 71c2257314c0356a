"""The baseline: AASIST computed step by step as its published project computes it.

Same weights (they load strictly) and same logits as ours, without any of our rewrites: each block
normalises and activates its input and throws that away, the heterogeneous attention fills a map of
zeros by slices with three products, and graph pooling is a top-k and a gather. Benchmarks compare
with this, so that a speed-up means "against what users run today".

One thing is kinder to the baseline than to ours: its filters lie on the device already.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, max_pool2d, selu

from aasist_deploy.models.aasist import FREQUENCY_POOL, Aasist, AasistConfig
from aasist_deploy.models.graph import (
    GraphAttention,
    GraphPool,
    HeterogeneousGraphAttention,
    Nodes,
    n_kept,
    node_batch_norm,
)
from aasist_deploy.models.residual import ResidualBlock

if TYPE_CHECKING:
    from pathlib import Path


class PublishedResidualBlock(ResidualBlock):
    """The block with the work whose result nobody reads."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, F, T) -> (B, out, F, T // 3)."""
        if self.bn1 is not None:
            selu(self.bn1(x), inplace=True)  # thrown away, as published
        y = self.conv1(x)
        y = selu(self.bn2(y), inplace=True)
        y = self.conv2(y)
        if self.conv_downsample is not None:
            x = self.conv_downsample(x)
        y += x
        return max_pool2d(y, (1, 3))


class PublishedGraphAttention(GraphAttention):
    """Attention over explicitly expanded pairs."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        x = self.input_drop(x)
        pairs = torch.tanh(self.att_proj(_expanded_pairs(x)))  # (B, N, N, out)
        logits = torch.matmul(pairs, self.att_weight) / self.temperature  # (B, N, N, 1)
        attention = torch.softmax(logits, dim=-2)
        y = self.proj_with_att(torch.matmul(attention.squeeze(-1), x)) + self.proj_without_att(x)
        return selu(node_batch_norm(self.bn, y), inplace=True)


class PublishedHeterogeneousGraphAttention(HeterogeneousGraphAttention):
    """One product for each kind of pair, written into a map of zeros."""

    def forward(self, x1: Tensor, x2: Tensor, master: Tensor) -> Nodes:
        """(B, N1, in), (B, N2, in), (B, 1, in) -> the same three with `out` features."""
        n1, n2 = x1.shape[1], x2.shape[1]
        x = torch.cat([self.proj_type1(x1), self.proj_type2(x2)], dim=1)
        x = self.input_drop(x)
        pairs = torch.tanh(self.att_proj(_expanded_pairs(x)))  # (B, N, N, out)
        board = torch.zeros_like(pairs[..., 0]).unsqueeze(-1)  # (B, N, N, 1)
        board[:, :n1, :n1, :] = torch.matmul(pairs[:, :n1, :n1, :], self.att_weight11)
        board[:, n1:, n1:, :] = torch.matmul(pairs[:, n1:, n1:, :], self.att_weight22)
        board[:, :n1, n1:, :] = torch.matmul(pairs[:, :n1, n1:, :], self.att_weight12)
        board[:, n1:, :n1, :] = torch.matmul(pairs[:, n1:, :n1, :], self.att_weight12)
        attention = torch.softmax(board / self.temperature, dim=-2)

        to_master = torch.matmul(torch.tanh(self.att_projM(x * master)), self.att_weightM)
        to_master = torch.softmax(to_master / self.temperature, dim=-2)  # (B, N, 1)
        attended = torch.matmul(to_master.squeeze(-1).unsqueeze(1), x)  # (B, 1, in)
        master = self.proj_with_attM(attended) + self.proj_without_attM(master)

        y = self.proj_with_att(torch.matmul(attention.squeeze(-1), x)) + self.proj_without_att(x)
        y = selu(node_batch_norm(self.bn, y), inplace=True)
        return y.narrow(1, 0, n1), y.narrow(1, n1, n2), master


class PublishedGraphPool(GraphPool):
    """Top-k of the scores after the sigmoid, then a gather."""

    def forward(self, h: Tensor) -> Tensor:
        """(B, N, D) -> (B, k, D)."""
        scores = torch.sigmoid(self.proj(self.drop(h)))  # (B, N, 1)
        _, taken = torch.topk(scores, n_kept(h.shape[1], self.ratio), dim=1)
        return torch.gather(h * scores, 1, taken.expand(-1, -1, h.shape[2]))


class PublishedAasist(Aasist):
    """`Aasist` with every step as published; its state dict is the same."""

    def __init__(self, config: AasistConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Sequential(
            *[
                nn.Sequential(PublishedResidualBlock(i, o, first=index == 0))
                for index, (i, o) in enumerate(config.block_channels)
            ]
        )
        for name, layer in list(self.named_children()):
            if isinstance(layer, (GraphAttention, HeterogeneousGraphAttention)):
                n_in, n_out = layer.att_proj.in_features, layer.att_proj.out_features
                kind: Any = (
                    PublishedGraphAttention
                    if isinstance(layer, GraphAttention)
                    else PublishedHeterogeneousGraphAttention
                )
                setattr(self, name, kind(n_in, n_out, layer.temperature))
            elif isinstance(layer, GraphPool):
                setattr(self, name, PublishedGraphPool(layer.ratio, layer.proj.in_features))

    def encode(self, wave: Tensor, *, mask_filters: bool = False) -> Tensor:
        """(B, N) -> the encoder's map (B, C, 23, T)."""
        if mask_filters:
            raise NotImplementedError("the baseline is for inference")
        filters = self.sinc.filters.clone()  # a fresh copy in every forward, as published
        x = conv1d(wave.unsqueeze(1), filters).unsqueeze(1)
        x = max_pool2d(torch.abs(x), (FREQUENCY_POOL, FREQUENCY_POOL))
        e: Tensor = self.encoder(selu(self.first_bn(x), inplace=True))
        return e

    def _branch(self, branch: int, t: Tensor, s: Tensor, master: Tensor) -> Nodes:
        return super()._branch(branch, t, s, master.expand(t.shape[0], -1, -1))


def as_published(model: nn.Module) -> PublishedAasist:
    """The baseline with the weights of an AASIST, in evaluation mode."""
    if not isinstance(model, Aasist):
        raise TypeError(f"the baseline is an AASIST, not a {type(model).__name__}")
    baseline = PublishedAasist(model.config)
    baseline.load_state_dict(model.state_dict(), strict=True)
    return baseline.eval()


def published_or_trained(model: nn.Module) -> nn.Module:
    """The baseline of an AASIST; of another network, that network: it is written as published."""
    return as_published(model) if isinstance(model, Aasist) else model


def plain_onnx(model: nn.Module, path: Path, *, opset: int = 18) -> Path:
    """Export as a one-off script does: trace, dynamic batch, write; no pass of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecations
        torch.onnx.export(
            model,
            (torch.zeros(2, 64_600),),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=opset,
            input_names=["wave"],
            output_names=["embedding", "logits"],
            external_data=False,
            verbose=False,
        )
    return path


def _expanded_pairs(x: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, N, D), products of every pair."""
    wide = x.unsqueeze(2).expand(-1, -1, x.shape[1], -1)
    return wide * wide.transpose(1, 2)
