"""The weights that lie in the package, and what their card says of them."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.metrics import asv_error_rates, eer, min_tdcf_2019
from aasist_deploy.models import Checkpoint, load_checkpoint
from aasist_deploy.published import PACKAGED, PUBLISHED, pull_from
from aasist_deploy.scores import read_asv_scores
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "aasist-l-mini"
WEIGHTS = PACKAGED[NAME].path.parent
CARD = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")
# The card has two decimals of a percent; a clip that changes places moves an EER by 2 % and more.
EER_ATOL_PERCENT = 0.006
TDCF_ATOL = 1e-3  # rounding moves a threshold by less than a clip


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(pull_from(NAME).path)


@pytest.fixture(scope="module")
def exported(packaged_onnx: Callable[[], Path]) -> Path:
    return packaged_onnx()


def test_they_are_the_bytes_of_the_registry() -> None:
    assert pull_from(NAME).source == "package"
    assert PACKAGED[NAME].path.stat().st_size == PACKAGED[NAME].n_bytes


def test_they_load_as_aasist_l(checkpoint: Checkpoint) -> None:
    assert checkpoint.path.suffix == ".safetensors"  # loading runs no code
    assert sum(each.numel() for each in checkpoint.model.parameters()) == 85_306
    assert checkpoint.config == dict(PUBLISHED["aasist-l"].model_config)


def test_their_recipe_lies_beside_them_and_names_no_machine(checkpoint: Checkpoint) -> None:
    text = (WEIGHTS / f"{NAME}.recipe.toml").read_text(encoding="utf-8")
    assert checkpoint.recipe == text
    recipe = tomllib.loads(text)
    assert "root" not in recipe["data"]
    assert not {"init", "teacher"} & recipe["training"].keys()


@pytest.mark.parametrize("split", [pytest.param("dev", marks=pytest.mark.long), "eval"])
def test_figures_of_the_card_are_those_of_the_weights(
    exported: Path, shared: Path, split: str
) -> None:
    row = re.search(rf"^\\| {split}.*$", CARD, re.MULTILINE)
    assert row is not None
    _, clips, people, spoofs, error, tdcf = (cell.strip() for cell in row[0].strip("|").split("|"))
    dataset = load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", split)
    waves = np.stack([fit_length(read_audio(t.path).wave[:64_600]) for t in dataset.trials])
    with open_engine(exported, "onnx") as engine:  # four times as fast as PyTorch
        scores = np.concatenate([engine.score(waves[i : i + 8]) for i in range(0, len(waves), 8)])
    bonafide = np.array([trial.label == "bonafide" for trial in dataset.trials])
    classes = scores[bonafide].astype(np.float64), scores[~bonafide].astype(np.float64)
    assert (int(clips), int(people), int(spoofs)) == (len(waves), *map(len, classes))
    found = 100 * eer(*classes).eer
    assert found == pytest.approx(float(error.removesuffix(" %")), abs=EER_ATOL_PERCENT)
    if tdcf:
        assert dataset.asv_scores is not None
        asv = asv_error_rates(read_asv_scores(dataset.asv_scores))
        assert min_tdcf_2019(*classes, asv).value == pytest.approx(float(tdcf), abs=TDCF_ATOL)


def test_they_export_by_their_name(exported: Path) -> None:
    from aasist_deploy.contract import read_contract
    from aasist_deploy.resolve import model_file

    contract, _ = read_contract(exported)
    assert contract.checkpoint_sha256 == PACKAGED[NAME].sha256
    assert model_file(NAME, "torch") == PACKAGED[NAME].path
