from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import RecipeError
from aasist_deploy.trainer.recipe import Recipe, load_recipe
from aasist_deploy.trainer.recipe_values import quoted, toml_value

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED_LIKE: dict[str, Any] = {
    "database_path": "./LA/",
    "asv_score_path": "asv.txt",
    "model_path": "AASIST.pth",
    "batch_size": 12,
    "num_epochs": 7,
    "loss": "CCE",
    "track": "LA",
    "eval_all_best": "True",
    "eval_output": "scores.txt",
    "freq_aug": "True",
    "cudnn_deterministic_toggle": "False",
    "cudnn_benchmark_toggle": "False",
    "model_config": {
        "architecture": "RawNetGatSpoofST", "nb_samp": 64600, "first_conv": 128,
        "filts": [70, [1, 32], [32, 32], [32, 64], [64, 64]],
    },
    "optim_config": {
        "optimizer": "adam", "amsgrad": "True", "base_lr": 0.001, "lr_min": 0.0001,
        "betas": [0.8, 0.9], "weight_decay": 0.01, "scheduler": "cosine",
    },
}  # fmt: skip


def conf(folder: Path, **changes: Any) -> Path:
    """A file like the published ones; None removes a key, `optim_...` changes that object."""
    content = {**PUBLISHED_LIKE, "optim_config": dict(PUBLISHED_LIKE["optim_config"])}
    for key, value in changes.items():
        inner = key.startswith("optim_") and key != "optim_config"
        place = content["optim_config"] if inner else content
        place[key.removeprefix("optim_") if inner else key] = value
        if value is None:
            del place[key.removeprefix("optim_") if inner else key]
    path = folder / "AASIST.conf"
    path.write_text(json.dumps(content))
    return path


def toml(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_of_a_published_file_lands_where_it_belongs(tmp_path: Path) -> None:
    recipe = load_recipe(conf(tmp_path))
    assert recipe.model.settings == PUBLISHED_LIKE["model_config"]
    assert (recipe.data.root, recipe.data.dataset) == ("./LA/", "asvspoof2019-la")
    training = recipe.training
    assert (training.batch_size, training.epochs) == (12, 7)
    assert training.freq_mask
    assert not training.deterministic
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.betas) == ("adam", 0.001, (0.8, 0.9))
    assert (optimizer.weight_decay, optimizer.amsgrad) == (0.01, True)
    assert (recipe.schedule.name, recipe.schedule.lr_min) == ("cosine", 0.0001)


def test_keys_of_a_published_file_without_effect_are_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_recipe(conf(tmp_path))
    (record,) = caplog.records
    idle = ("asv_score_path", "model_path", "eval_output", "eval_all_best")
    assert all(key in record.message for key in (*idle, "cudnn_benchmark_toggle"))
    assert "batch_size" not in record.message


@pytest.mark.parametrize(
    ("file", "built_in"),
    [("AASIST", "aasist"), ("AASIST-L", "aasist-l"), ("RawNet2_baseline", "rawnet2"),
     ("RawGATST_baseline", "rawgat-st")],
)  # fmt: skip
def test_published_files_unchanged_are_the_built_in_recipes(
    shared: Path, file: str, built_in: str
) -> None:
    theirs = load_recipe(shared / "models" / "clovaai" / f"{file}.conf")
    ours = load_recipe(built_in)
    spelling = ["model.architecture"] if built_in.startswith("raw") else []
    assert ours.differences(theirs) == spelling
    assert theirs.data.root == "./LA/"


def test_booleans_of_json_are_taken_too(tmp_path: Path) -> None:
    assert not load_recipe(conf(tmp_path, freq_aug=False)).training.freq_mask


def test_published_file_without_a_scheduler_keeps_the_rate(tmp_path: Path) -> None:
    assert load_recipe(conf(tmp_path, optim_scheduler=None)).schedule.name == "constant"


def test_track_chooses_the_corpus(tmp_path: Path) -> None:
    assert load_recipe(conf(tmp_path, track="PA")).data.dataset == "asvspoof2019-pa"


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"batchsize": 3}, "AASIST.conf has no key 'batchsize'", "did you mean batch_size?"),
        ({"optim_base_rl": 3}, "AASIST.conf: optim_config has no key 'base_rl'", "base_lr"),
        ({"loss": "focal"}, "loss is 'focal'; offered here: CCE", "TOML"),
        ({"optim_optimizer": "sgd"}, "optimizer is 'sgd'; offered here: adam", "TOML"),
        ({"optim_scheduler": "multistep"}, "scheduler is 'multistep'", "TOML"),
        ({"track": "DF"}, "track is 'DF'; offered here: LA, PA", "TOML"),
        ({"freq_aug": "yes"}, "freq_aug is 'yes'", None),
        ({"freq_aug": 1}, "freq_aug is 1", None),
        ({"model_config": None}, "has no object model_config", "TOML"),
        ({"optim_config": []}, "has no object optim_config", "TOML"),
        ({"num_epochs": "7"}, 'training.epochs is "7"; it must be a whole number', None),
    ],
)
def test_published_file_that_asks_for_something_else_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str, fix: str | None
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(conf(tmp_path, **changes))
    assert message in str(raised.value)
    assert fix is None or fix in str(raised.value.fix)


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("[training]\nepoch = 3", "my.toml: [training] has no key 'epoch'", "did you mean epochs?"),
        ("[training]\nlr = 3", "my.toml: [training] has no key 'lr'", "it is optimizer.lr"),
        ("[trainings]\nepochs = 3", "my.toml has no key 'trainings'", "did you mean training?"),
        ("epochs = 3", "my.toml has no key 'epochs'", "it is [training]"),
        ("training = 3", "it must be a section [training]", None),
        ("[training]\nepochs = '3'", 'training.epochs is "3"; it must be a whole number', None),
        ("[model]\narchitecture = 'AASIST'\nfilt = 1", "no key 'filt'", "did you mean filts?"),
        ("[model]\narchitecture = 3", "model.architecture is 3", None),
        ("[model]\nnb_samp = 3", "model.architecture is None", None),
        ("[training", "is no TOML", None),
        ("[optimizer]\nlr = 1979-05-27", "optimizer.lr is 1979-05-27", None),
        ("[optimizer]\nlr = nan", "optimizer.lr is nan; it must be a number", None),
    ],
)
def test_wrong_toml_is_refused_with_the_nearest_right_one(
    tmp_path: Path, text: str, message: str, fix: str | None
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(toml(tmp_path, text))
    assert message in str(raised.value)
    assert fix is None or fix in str(raised.value.fix)


def test_recipe_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="built in are aasist, aasist-l, aasist-l-mini, "):
        load_recipe("aasist-xl")
    with pytest.raises(RecipeError, match=r"none\.toml"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "list.conf").write_text("[1]")
    with pytest.raises(RecipeError, match="holds no JSON object"):
        load_recipe(tmp_path / "list.conf")
    (tmp_path / "broken.conf").write_text("{")
    with pytest.raises(RecipeError, match="is no JSON"):
        load_recipe(tmp_path / "broken.conf")


def test_empty_recipe_is_the_published_one(tmp_path: Path) -> None:
    assert load_recipe(toml(tmp_path, "")) == Recipe()


def test_code_beside_the_recipe_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").touch()
    text = "[model]\narchitecture = 'custom'\ncode = 'net.py:Net'\n[training]\ninit = 'net.py'\n"
    path = toml(tmp_path, text)
    monkeypatch.chdir(tmp_path.parent)
    recipe = load_recipe(path)
    assert recipe.model.code == f"{tmp_path / 'net.py'}:Net"
    assert recipe.training.init == "net.py"  # of the current folder


@pytest.mark.parametrize("code", ["package.module:Net", "other/net.py:Net"])
def test_code_that_is_not_beside_the_recipe_stays_as_it_is(tmp_path: Path, code: str) -> None:
    text = f"[model]\narchitecture = 'custom'\ncode = '{code}'\n"
    assert load_recipe(toml(tmp_path, text)).model.code == code


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("training.epochs=3", lambda r: r.training.epochs, 3),
        ("epochs = 3", lambda r: r.training.epochs, 3),
        ("lr=1e-3", lambda r: r.optimizer.lr, 1e-3),
        ("lr=1", lambda r: r.optimizer.lr, 1.0),
        ("precision=bf16", lambda r: r.training.precision, "bf16"),
        ('precision="bf16"', lambda r: r.training.precision, "bf16"),
        ("rawboost=4", lambda r: r.augmentation.rawboost, "4"),
        ("swa=false", lambda r: r.training.swa, False),
        ("class_weights=[1, 2.5]", lambda r: r.training.class_weights, (1.0, 2.5)),
        ("freeze=['a*', 'b']", lambda r: r.training.freeze, ("a*", "b")),
        ("gain_db=[-6, 6]", lambda r: r.augmentation.gain_db, (-6.0, 6.0)),
        ("clip_norm=none", lambda r: r.training.clip_norm, None),
        ("root=/data/LA=2", lambda r: r.data.root, "/data/LA=2"),
        ("root=2019", lambda r: r.data.root, "2019"),
        ("schedule.name=constant", lambda r: r.schedule.name, "constant"),
        ("model.pool_ratios=[0.5, 0.5, 0.5]", lambda r: r.model.settings["pool_ratios"], [0.5] * 3),
        ("gat_dims=[8, 4]", lambda r: r.model.settings["gat_dims"], [8, 4]),
    ],
)
def test_any_key_is_set_on_the_command_line(override: str, read: Any, value: Any) -> None:
    found = read(load_recipe("aasist", [override]))
    assert found == value
    assert type(found) is type(value)


def test_later_setting_wins_and_the_file_is_below_both(tmp_path: Path) -> None:
    path = toml(tmp_path, "[training]\nepochs = 5\nbatch_size = 7")
    training = load_recipe(path, ["epochs=6", "epochs=8"]).training
    assert (training.epochs, training.batch_size) == (8, 7)


def test_key_inside_the_configuration_of_a_custom_network_is_set(tmp_path: Path) -> None:
    text = "[model]\narchitecture = 'custom'\ncode = 'a.b:Net'\n[model.config]\nwidth = 3\n"
    path = toml(tmp_path, text)
    recipe = load_recipe(path, ["model.config.width=4", "config.more.kind=wide"])
    assert recipe.model.settings["config"] == {"width": 4, "more": {"kind": "wide"}}


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        ("epochs", "--set epochs is not key=value", "training.epochs=1"),
        ("=3", "--set =3 is not key=value", None),
        ("training.=3", "is not key=value", None),
        ("epoch=3", "--set: the recipe has no key 'epoch'", "did you mean epochs?"),
        ("training.epoch=3", "--set: [training] has no key 'epoch'", "did you mean epochs?"),
        ("schedule.lr=3", "--set: [schedule] has no key 'lr'", "it is optimizer.lr"),
        ("trainings.epochs=3", "has no key 'trainings'", "did you mean training?"),
        ("name=adam", "ambiguous: there are optimizer.name and schedule.name", "name one"),
        ("epochs=1.5", "training.epochs takes a whole number", None),
        ("epochs=none", "training.epochs takes a whole number", None),
        ("epochs=true", "training.epochs takes a whole number", None),
        ("swa=1", "training.swa takes true or false", None),
        ("precision=fp16", 'training.precision takes one of "fp32", "bf16"', None),
        ("class_weights=[1]", "takes a list of 2, each of it a number", None),
        ("clip_norm=abc", "training.clip_norm takes a number, or left out", "none to leave it out"),
        ("training.epochs.x=1", "training.epochs holds nothing further", None),
        ("model.blocks=1", "--set: [model] has no key 'blocks'", None),
        ("model.first_conv.x=1", "first_conv is 128, not a table", None),
        ("epochs=3\nseed = 4", "training.epochs takes a whole number", None),
        ("epochs=0", "training.epochs is 0; it must be 1 or more", None),
    ],
)
def test_wrong_setting_is_refused_with_its_key_and_the_accepted_type(
    override: str, message: str, fix: str | None
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("aasist", [override])
    assert message in str(raised.value)
    assert fix is None or fix in str(raised.value.fix)


@given(st.text(st.characters(codec="utf-8")))
def test_quoted_text_is_that_text_in_toml(text: str) -> None:
    assert toml_value(quoted(text)) == text
