from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import (
    Conditions,
    Trial,
    dataset_names,
    dataset_splits,
    default_split,
    load_dataset,
)


def test_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    for ask in (dataset_splits, default_split, lambda name: load_dataset(name, tmp_path, "eval")):
        with pytest.raises(TrialsError, match=r"known are asvspoof2019-la, .*, manifest"):
            ask("asvspoof2020")


def test_every_dataset_has_its_default_among_its_splits() -> None:
    assert len(dataset_names()) == 9
    for name in dataset_names():
        assert default_split(name) in dataset_splits(name)


@pytest.mark.parametrize("name", [n for n in dataset_names() if n != "manifest"])
def test_split_that_is_not_known_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match=f"{name} has no split 'test'") as error:
        load_dataset(name, tmp_path, "test")
    assert error.value.fix == f"Use {', '.join(dataset_splits(name))}."


@pytest.mark.parametrize("name", dataset_names())
def test_empty_folder_says_what_was_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match=r"manifest\.csv cannot be read|it holds nothing"):
        load_dataset(name, tmp_path, default_split(name))


def test_long_listing_is_cut(tmp_path: Path) -> None:
    for letter in "abcdefgh":
        (tmp_path / letter).touch()
    with pytest.raises(TrialsError, match="it holds a, b, c, d, e and 3 more"):
        load_dataset("in-the-wild", tmp_path, "all")


def test_trials_are_immutable_hashable_and_travel_between_processes() -> None:
    given = {"codec": "opus"}
    trial = Trial(
        utterance="u",
        path=Path("u.flac"),
        label="spoof",
        attack="-",
        speaker=None,
        conditions=given,
    )
    given["codec"] = "gsm"
    assert trial.conditions == {"codec": "opus"} == Conditions({"codec": "opus"})
    assert pickle.loads(pickle.dumps(trial)) == copy.deepcopy(trial) == trial
    assert len({trial, copy.deepcopy(trial)}) == 1
    with pytest.raises(TypeError):
        trial.conditions["codec"] = "gsm"  # type: ignore[index]
    assert repr(trial.conditions) == "Conditions({'codec': 'opus'})"
