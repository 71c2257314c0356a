"""Waves, contexts, a dataset and an engine that hears loudness alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.degradations.base import Context
from aasist_deploy.trials import Dataset, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ = 16_000


@pytest.fixture(scope="session")
def speech() -> Callable[..., NDArray[np.float32]]:
    """(seconds, seed) -> three harmonics under a slow envelope, peak 0.5, on a faint floor."""

    def make(seconds: float = 2.0, seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        pitch = random.uniform(90, 220)
        phase = 2 * np.pi * np.cumsum(pitch + 25 * np.sin(2 * np.pi * 1.1 * time + seed)) / RATE_HZ
        tone = sum(np.sin(k * phase) / k for k in (1, 3, 7))
        sound = tone * (0.05 + np.sin(2 * np.pi * 1.7 * time + seed) ** 2)
        sound += 1e-3 * random.standard_normal(len(time))
        wave: NDArray[np.float32] = (0.5 * sound / np.abs(sound).max()).astype(np.float32)
        return wave

    return make


@pytest.fixture
def context() -> Callable[..., Context]:
    def make(utterance: str = "u1", **fields: Any) -> Context:
        given: dict[str, Any] = {"sample_rate_hz": RATE_HZ, "n_samples": 64_600, **fields}
        return Context(utterance=utterance, **given)

    return make


@pytest.fixture
def dataset(tmp_path: Path, speech: Callable[..., NDArray[np.float32]]) -> Callable[..., Dataset]:
    """(loudness in dB by name, seconds) -> a manifest of clips; good* are bona fide."""

    def make(levels: dict[str, float], seconds: float = 1.0) -> Dataset:
        lines = ["path,label,attack"]
        for seed, (name, level_db) in enumerate(levels.items()):
            wave = speech(seconds, seed)
            wave = wave * np.float32(10 ** (level_db / 20) / np.sqrt(np.mean(wave**2)))
            soundfile.write(tmp_path / f"{name}.wav", wave, RATE_HZ, subtype="FLOAT")
            lines.append(f"{name}.wav,{'bonafide,-' if name.startswith('good') else 'spoof,A01'}")
        (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
        return load_dataset("manifest", tmp_path, "all")

    return make


@pytest.fixture(scope="session")
def loudness_engine(fake_engine: Any) -> Callable[..., Any]:
    """An engine whose score is the loudness of the window in dB relative to full scale."""

    class Loudness(fake_engine):  # type: ignore[misc]
        def _run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            super()._run(waves)
            power = np.mean(np.square(waves, dtype=np.float64), axis=1)
            return {"score": (10 * np.log10(power + 1e-12)).astype(np.float32)}

    def make(**options: Any) -> Any:
        return Loudness(**{"n_samples": RATE_HZ, "min_samples": RATE_HZ, **options})

    return make
