"""The fixed sinc filter bank that all four architectures begin with.

Source: Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", 2018; here with
band edges equally spaced on the mel scale and never trained, as in RawNet2 for anti-spoofing
(Tak et al., ICASSP 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from aasist_deploy.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MASKED_FILTERS = 20  # training-time frequency masking draws 0 to 19 filters


def odd_taps(kernel_size: int) -> int:
    """Taps of the filters that a configured kernel size gives: an even one becomes odd."""
    return kernel_size + 1 if kernel_size % 2 == 0 else kernel_size


def sinc_filters(n_filters: int, kernel_size: int) -> NDArray[np.float32]:
    """Band-pass filters between neighbouring mel-spaced edges from 0 to 8 kHz.

    Args:
        n_filters: Number of filters C; the C + 1 edges are equally spaced on the scale
            mel(f) = 2595 log10(1 + f/700).
        kernel_size: Taps K of the configuration; an even K becomes K + 1.

    Returns:
        (C, K) float32: Hamming window times the difference of two ideal low-pass responses.
    """
    n_taps = odd_taps(kernel_size)
    top_mel = 2595.0 * np.log10(1.0 + SAMPLE_RATE_HZ / 2 / 700.0)
    edges_hz = 700.0 * (10.0 ** (np.linspace(0.0, top_mel, n_filters + 1) / 2595.0) - 1.0)
    # The published filters were made with this mix of single and double precision. It matters: with
    # doubles throughout, the published AASIST-L's logits move by up to 1.1e-4 (measured).
    taps = np.arange(-(n_taps - 1) // 2, (n_taps - 1) // 2 + 1, dtype=np.float32)
    arguments = (2.0 * edges_hz[:, None]).astype(np.float32) * taps / np.float32(SAMPLE_RATE_HZ)
    low_pass = 2.0 * edges_hz[:, None] / SAMPLE_RATE_HZ * np.sinc(arguments)  # (C + 1, K) float64
    band_pass = (low_pass[1:] - low_pass[:-1]).astype(np.float32)
    filters: NDArray[np.float32] = np.hamming(n_taps).astype(np.float32) * band_pass
    return filters


class SincFrontEnd(nn.Module):
    """Convolution of the wave with the fixed filters; nothing of it is in a state dict."""

    filters: Tensor

    def __init__(self, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        filters = torch.from_numpy(sinc_filters(n_filters, kernel_size)).unsqueeze(1)
        self.register_buffer("filters", filters, persistent=False)  # (C, 1, K)

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> Tensor:
        """(B, N) wave -> (B, C, N - K + 1); `mask_filters` zeroes a random band (training)."""
        filters = self.filters
        if mask_filters:
            width = min(int(torch.rand(()).item() * MAX_MASKED_FILTERS), len(filters))
            start = int(torch.randint(0, len(filters) - width + 1, ()).item())
            filters = filters.clone()
            filters[start : start + width] = 0.0
        return torch.nn.functional.conv1d(wave.unsqueeze(1), filters)
