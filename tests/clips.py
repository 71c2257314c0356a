"""Audio of equal samples as bytes: an engine that scores the mean says what the level is."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def wav_of(level: float = 0.1, n_samples: int = 800, rate_hz: int = 16_000) -> bytes:
    """A WAV file in float32."""
    stream = io.BytesIO()
    wave = np.full(n_samples, level, np.float32)
    soundfile.write(stream, wave, rate_hz, format="WAV", subtype="FLOAT")
    return stream.getvalue()
