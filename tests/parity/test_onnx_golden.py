"""Exported files on ONNX Runtime against the reference outputs of the published code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# The rewritten graph rounds in another order: measured max 5.7e-6 over the 412 clips, logits and
# embedding, both models and forms. Another CPU's kernels round in yet another way.
ATOL = 1e-4
EMBEDDING_ATOL = 1e-4
BATCH_ATOL = 2e-5  # batch 1 against 16, on one machine
STEP = 26
# Each from here on every STEP-th: 16 of the 412 clips, of each form and batch, and as many others;
# `make test-long` takes all clips through one of them.
FIRST = [0, pytest.param(13, marks=pytest.mark.long)]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(shared: Path) -> Callable[[slice], NDArray[np.float32]]:
    """Which of the clips -> their windows."""
    golden = np.load(shared / "golden" / "AASIST.LA_mini.npz")

    def load(chosen: slice) -> NDArray[np.float32]:
        waves = []
        for utterance in golden["utt"][chosen]:
            split = {"D": "dev", "E": "eval", "T": "train"}[str(utterance)[3]]
            folder = shared / "data" / "LA_mini" / f"ASVspoof2019_LA_{split}" / "flac"
            audio = read_audio(folder / f"{utterance}.flac", max_samples=64_600)
            waves.append(fit_length(audio.wave))
        return np.stack(waves)

    return load


def check(outputs: dict[str, NDArray[np.float32]], golden: Path, chosen: slice) -> None:
    expected = np.load(golden)
    worst = {
        name: float(np.abs(outputs[name] - expected[name][chosen]).max())
        for name in ("logits", "embedding")
    }
    print(golden.name, chosen, worst)  # noqa: T201  # shown by -s, for the constants above
    assert worst["logits"] <= ATOL
    assert worst["embedding"] <= EMBEDDING_ATOL
    assert np.array_equal(outputs["score"], outputs["logits"][:, 1])


@pytest.mark.long
@pytest.mark.timeout(1_200)  # a minute on two quiet cores
def test_all_clips_in_batches_of_sixteen(
    shared: Path,
    exported: Callable[..., Path],
    clips: Callable[[slice], NDArray[np.float32]],
) -> None:
    waves = clips(slice(None))
    assert len(waves) == 412
    with open_engine(exported("AASIST"), "onnx", max_batch=16) as engine:
        check(engine.run(waves), shared / "golden" / "AASIST.LA_mini.npz", slice(None))


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize(
    ("name", "topk", "max_batch"),
    [
        ("AASIST", "topk", 1),
        ("AASIST", "rank", 16),
        ("AASIST-L", "topk", 16),
        ("AASIST-L", "rank", 1),
    ],
)
def test_both_forms_at_batch_one_and_sixteen(
    name: str,
    topk: str,
    max_batch: int,
    first: int,
    shared: Path,
    exported: Callable[..., Path],
    clips: Callable[[slice], NDArray[np.float32]],
) -> None:
    chosen = slice(first, None, STEP)
    waves = clips(chosen)
    assert len(waves) == 16
    with open_engine(exported(name, topk), "onnx", max_batch=max_batch) as engine:
        check(engine.run(waves), shared / "golden" / f"{name}.LA_mini.npz", chosen)


def test_batch_one_and_sixteen_agree_with_each_other(
    exported: Callable[..., Path], clips: Callable[[slice], NDArray[np.float32]]
) -> None:
    waves = clips(slice(None, None, STEP))
    with open_engine(exported("AASIST"), "onnx") as engine:
        one_by_one = np.concatenate([engine.score(wave[None]) for wave in waves])
        assert np.abs(engine.score(waves) - one_by_one).max() <= BATCH_ATOL
