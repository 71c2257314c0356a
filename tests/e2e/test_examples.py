"""The examples run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = REPOSITORY / "examples" / "demo_clips" / "human-numbers.flac"


def score_of(model: Path) -> float:
    with open_engine(model, "onnx") as engine:  # as the documents do
        return float(engine.score(fit_length(read_audio(CLIP).wave)[None])[0])


def test_embed_prints_the_score_of_each_file(small_onnx: Callable[..., Path]) -> None:
    model = small_onnx(n_samples=64_600)
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "embed.py"), str(model), str(CLIP)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown, path = done.stdout.split()
    assert path == str(CLIP)
    assert float(shown) == pytest.approx(score_of(model), abs=1e-3)


@pytest.mark.parametrize("document", ["README.md", "docs/embedding.md"])
def test_python_of_the_documents_gives_the_score(
    small_onnx: Callable[..., Path], document: str
) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    model = small_onnx(n_samples=64_600)
    code = code.replace('"aasist.onnx"', repr(str(model))).replace('"call.wav"', repr(str(CLIP)))
    names: dict[str, object] = {}
    exec(compile(code, document, "exec"), names)
    assert isinstance(names["score"], np.float32)
    assert float(names["score"]) == pytest.approx(score_of(model), abs=1e-6)
