"""Recordings whose scores are known, and the rows that a scan makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

if TYPE_CHECKING:
    from pathlib import Path

HOP = ("--hop-s", "0.025")  # half of the fake engine's window of 800 samples
N_WINDOWS = 39  # of a second


def write_wave(path: Path, seconds: float = 1.0, rate_hz: int = 16_000) -> Path:
    """A wave whose level falls from 0.5 to -0.5: the fake engine says 5 to -5."""
    n_samples = round(seconds * rate_hz)
    soundfile.write(path, np.linspace(0.5, -0.5, n_samples), rate_hz, subtype="FLOAT")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
