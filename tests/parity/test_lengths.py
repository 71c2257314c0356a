"""Variable-length exports against the reference outputs at every length."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import read_audio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ATOL = 1e-4  # measured max 6.7e-6, of both models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# Every length is in both halves.
@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(("name", "topk"), [("AASIST", "rank"), ("AASIST-L", "topk")])
def test_logits_at_every_length_are_the_reference(
    name: str, topk: str, half: int, shared: Path, exported: Callable[..., Path]
) -> None:
    golden = json.loads((shared / "golden" / f"{name}.lengths.json").read_text())
    lengths = {key.partition(":")[2] for key in golden}
    chosen = list(golden.items())[half::2]
    assert {key.partition(":")[2] for key, _ in chosen} == lengths
    worst = 0.0
    with open_engine(exported(name, topk, variable=True), "onnx") as engine:
        for key, expected in chosen:
            utterance, _, n_samples = key.partition(":")
            split = {"D": "dev", "E": "eval", "T": "train"}[utterance[3]]
            folder = shared / "data" / "LA_mini" / f"ASVspoof2019_LA_{split}" / "flac"
            wave = read_audio(folder / f"{utterance}.flac").wave[: int(n_samples)]
            logits = engine.run(wave[None])["logits"][0]
            worst = max(worst, float(np.abs(logits - np.float32(expected)).max()))
            np.testing.assert_allclose(logits, expected, rtol=0, atol=ATOL, err_msg=key)
    print(name, topk, worst)  # noqa: T201  # shown by -s
