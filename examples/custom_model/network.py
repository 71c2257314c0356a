"""A network of one's own: a light CNN on the waveform, with max-feature-map activations.

The idea of the activation: Wu et al., "A light CNN for deep face representation with noisy labels",
IEEE TIFS 2018, section 3.1. The network itself is an example and no published system.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class MaxFeatureMap(nn.Module):
    """The larger of two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C, T) -> (B, C, T)."""
        one, other = x.chunk(2, dim=1)
        return torch.maximum(one, other)


class SmallCnn(nn.Module):
    """Waves of any length to (embedding, logits).

    Args:
        config: The section [model.config] of the recipe: `channels`, widths of the blocks.
    """

    any_length = True
    min_samples = 4_000  # a quarter of a second; the convolutions would take less

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths = [int(width) for width in config["channels"]]
        # 25 ms every 10 ms at 16 kHz, as the usual spectral features.
        layers: list[nn.Module] = [nn.Conv1d(1, 2 * widths[0], 400, stride=160)]
        for taken, made in pairwise(widths):
            layers += [MaxFeatureMap(), nn.BatchNorm1d(taken)]
            layers += [nn.Conv1d(taken, 2 * made, 3, padding=1)]
        self.frames = nn.Sequential(*layers, MaxFeatureMap())
        self.classes = nn.Linear(2 * widths[-1], 2)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) -> (B, F) embedding and (B, 2) logits, spoof and bona fide."""
        frames = self.frames(wave.unsqueeze(1))  # (B, C, T)
        embedding = torch.cat([frames.mean(2), frames.amax(2)], dim=1)  # (B, 2C)
        return embedding, self.classes(embedding)
