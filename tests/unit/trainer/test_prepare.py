"""What is loaded and checked before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from aasist_deploy.errors import OutputError
from aasist_deploy.trainer import load_recipe, train
from aasist_deploy.trainer.distributed import World
from aasist_deploy.trainer.prepare import prepare_corpus, prepare_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.trainer import Recipe
    from aasist_deploy.trainer.precheck import DataReport

    MakeRecipe = Callable[..., Recipe]

CPU = torch.device("cpu")
ANY_LENGTH = """
from torch import nn


class AnyLength(nn.Module):
    any_length = True
    min_samples = 100

    def __init__(self, config):
        super().__init__()
        self.out = nn.Linear(1, 2)

    def forward(self, wave):
        embedding = wave.abs().mean(dim=1, keepdim=True)
        return embedding, self.out(embedding)
"""


def reports(corpus: Path, folder: Path, *overrides: str) -> tuple[DataReport, ...]:
    (folder / "network.py").write_text(ANY_LENGTH)
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
[model]
architecture = "custom"
code = "{folder / "network.py"}:AnyLength"
n_samples = 2200
[data]
root = "{corpus}"
workers = 0
[training]
batch_size = 4
"""
    )
    loaded = load_recipe(recipe, overrides)
    found = prepare_corpus(loaded, prepare_model(loaded, CPU, World()), CPU, World())
    found.close()
    return found.reports


def test_dev_is_checked_at_the_length_that_it_is_scored_at(corpus: Path, tmp_path: Path) -> None:
    train_report, dev_report = reports(corpus, tmp_path, "data.crop_samples=1200")
    assert (train_report.n_samples, dev_report.n_samples) == (1200, 2200)
    assert train_report.n_short == 0  # clips have 1200 to 2400 samples
    assert dev_report.n_short > 0


def test_files_outside_a_limit_are_not_called_unlisted(corpus: Path, tmp_path: Path) -> None:
    extra = corpus / "ASVspoof2019_LA_dev" / "flac" / "extra.flac"
    extra.touch()
    try:
        limits = ("data.limit_train=8", "data.limit_dev=6")
        assert [each.n_unlisted for each in reports(corpus, tmp_path, *limits)] == [0, 0]
        assert [each.n_unlisted for each in reports(corpus, tmp_path)] == [0, 1]
    finally:
        extra.unlink()


def test_a_place_that_cannot_hold_a_run_is_refused_before_the_corpus_is_read(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    recipe = tiny_recipe(**{"data.root": str(tmp_path / "no corpus")})
    with pytest.raises(OutputError, match="file is a file") as caught:
        train(recipe, tmp_path / "file" / "run")
    assert caught.value.fix is not None


def test_a_folder_without_the_right_to_write_is_refused(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(**{"data.root": str(tmp_path / "no corpus")})
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match="is not writable"):
        train(recipe, tmp_path / "run")
