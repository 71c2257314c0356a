"""What every architecture gives to the exporter, the trainer and the engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


class Network(nn.Module, ABC):
    """Waves to (embedding, output); `output[:, 1]` is the detection score, bona fide high.

    Attributes:
        architecture: Its name for people and in the contract, e.g. "AASIST".
        settings: Its configuration as plain JSON types, `architecture` among them; `build_model`
            makes the same network of it.
        n_samples: Samples of the window it is trained on and, where nothing else is said, scored
            on.
        min_samples: The shortest wave it can be run on.
        any_length: Whether it takes any length from `min_samples` on; otherwise `n_samples` alone.
        score: What `output[:, 1]` is: `contract.LOGIT_SCORE` or `contract.LOG_PROBABILITY_SCORE`.
        n_features: Width of the embedding.
    """

    architecture: str
    settings: Mapping[str, Any]
    n_samples: int
    any_length: bool
    score: str
    n_features: int

    @property
    @abstractmethod
    def min_samples(self) -> int:
        """The shortest wave that the network can be run on."""

    @abstractmethod
    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        """Score waves.

        Args:
            wave: (B, N) float samples at 16 kHz in [-1, 1].
            mask_filters: Zero a random band of the sinc filters (training-time augmentation);
                networks without such filters ignore it.

        Returns:
            (B, n_features) embedding and (B, 2) output, columns spoof and bona fide.
        """
