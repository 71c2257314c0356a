"""Eager PyTorch against the reference outputs of the published code (../shared/golden)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.models import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Made the same way on another CPU: measured max over these clips and lengths 2.9e-6.
ATOL = 2e-5
STEP = 20
# Each from here on every STEP-th: 21 of the 412 clips, in dev, eval and train, and as many others.
FIRST = [0, pytest.param(10, marks=pytest.mark.long)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def wave_of(shared: Path, utterance: str) -> NDArray[np.float32]:
    split = {"D": "dev", "E": "eval", "T": "train"}[utterance[3]]
    folder = shared / "data" / "LA_mini" / f"ASVspoof2019_LA_{split}" / "flac"
    return read_audio(folder / f"{utterance}.flac").wave


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", ["AASIST", "AASIST-L"])
def test_logits_and_embeddings_of_real_clips_are_the_reference(
    name: str, first: int, shared: Path, published_checkpoint: Callable[[str], Path]
) -> None:
    model = load_checkpoint(published_checkpoint(name)).model
    golden = np.load(shared / "golden" / f"{name}.LA_mini.npz")
    chosen = range(first, len(golden["utt"]), STEP)
    assert {str(golden["utt"][i])[3] for i in chosen} == {"D", "E", "T"}
    assert len(chosen) == 21
    for index in chosen:
        wave = fit_length(wave_of(shared, str(golden["utt"][index])))
        with torch.inference_mode():
            embedding, logits = model(torch.from_numpy(wave[None]))
        for got, name_ in ((logits, "logits"), (embedding, "embedding")):
            np.testing.assert_allclose(got[0], golden[name_][index], rtol=0, atol=ATOL)


# Every length is in both halves.
@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["AASIST", "AASIST-L"])
def test_logits_at_other_lengths_are_the_reference(
    name: str, half: int, shared: Path, published_checkpoint: Callable[[str], Path]
) -> None:
    model = load_checkpoint(published_checkpoint(name)).model
    golden = json.loads((shared / "golden" / f"{name}.lengths.json").read_text())
    assert len(golden) == 28
    for key, expected in list(golden.items())[half::2]:
        utterance, _, n_samples = key.partition(":")
        wave = wave_of(shared, utterance)[: int(n_samples)]
        assert len(wave) == int(n_samples)
        with torch.inference_mode():
            logits = model(torch.from_numpy(wave[None]))[1][0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=ATOL, err_msg=key)


# Measured 3.4e-5 and 5.9e-5: the weights are random, and features of up to 50 reach its end.
RAWGAT_ATOL = 2e-4
RANDOM_INIT = {"RawGAT-ST": RAWGAT_ATOL, "RawNet2-small": ATOL}


@pytest.mark.parametrize("name", RANDOM_INIT)
def test_outputs_of_random_weights_are_the_reference(name: str, shared: Path) -> None:
    folder = shared / "golden"
    config = json.loads((folder / f"{name}.model_config.json").read_text())
    model = load_checkpoint(folder / f"{name}.random-init.pth", config).model
    golden = np.load(folder / f"{name}.golden.npz")
    waves = np.stack([fit_length(wave_of(shared, str(utt))) for utt in golden["utt"]])
    assert len(waves) == 6
    with torch.inference_mode():
        one_by_one = [model(torch.from_numpy(wave[None])) for wave in waves]
        together = model(torch.from_numpy(waves))
    for number, key in enumerate(("embedding", "output")):
        alone = np.concatenate([given[number].numpy() for given in one_by_one])
        assert np.ptp(golden[key], axis=0).max() > 50 * RANDOM_INIT[name]  # the clips differ
        for found in (alone, together[number]):
            np.testing.assert_allclose(found, golden[key], rtol=0, atol=RANDOM_INIT[name])
        np.testing.assert_allclose(together[number], alone, rtol=0, atol=RANDOM_INIT[name])
