"""`scan` on real speech: each row is the score of that window alone, and `stream` says the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from typer.testing import CliRunner

from aasist_deploy.audio import read_audio
from aasist_deploy.cli import app
from aasist_deploy.engines import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Windows of one push are scored as a batch, whose sums may be rounded otherwise than those of one:
# up to 1e-5 on the published networks (tests/parity/test_onnx_golden.py).
BATCH_ATOL = 2e-5
HOP_S, WINDOW = 1.5, 64_600


def test_rows_are_the_scores_of_their_windows(
    exported: Callable[..., Path], shared: Path, tmp_path: Path
) -> None:
    clips = sorted((shared / "data" / "LA_mini" / "ASVspoof2019_LA_dev" / "flac").glob("*.flac"))
    wave = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips[:5]])
    recording = tmp_path / "call.flac"
    soundfile.write(recording, np.stack([wave, wave], axis=1)[: 8 * 16_000], 16_000)
    model = exported()
    options = ["--backend", "onnx", "--hop-s", str(HOP_S)]
    printed = {
        verb: CliRunner().invoke(app, [verb, str(model), str(recording), *options]).stdout
        for verb in ("scan", "stream")
    }
    whole = read_audio(recording).wave
    with open_engine(model, "onnx") as engine:
        for text in printed.values():
            rows = [json.loads(line) for line in text.splitlines()]
            assert len(rows) == 1 + (len(whole) - WINDOW) // round(HOP_S * 16_000)
            for row in rows:
                start = round(row["start_s"] * 16_000)
                alone = engine.score(whole[None, start : start + WINDOW])[0]
                np.testing.assert_allclose(row["score"], alone, rtol=0, atol=BATCH_ATOL)
