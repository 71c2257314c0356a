from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tomlkit", reason="needs the extra train")

from hypothesis import given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import RecipeError, UsageError
from aasist_deploy.published import PUBLISHED
from aasist_deploy.trainer import recipe_model
from aasist_deploy.trainer.recipe import (
    FREE_ON_RESUME,
    SECTIONS,
    Augmentation,
    Data,
    Model,
    Optimizer,
    Recipe,
    Run,
    Schedule,
    Training,
    load_recipe,
)
from aasist_deploy.trainer.recipe_sources import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CUSTOM: Mapping[str, Any] = {"architecture": "custom"}


def finite(low: float, high: float, **options: Any) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False, **options)


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
free = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite(-1e30, 1e30) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
recipes = st.builds(
    Recipe,
    model=st.builds(
        Model,
        settings=st.builds(lambda config: {**CUSTOM, "config": config, "n_samples": 800},
                           st.dictionaries(st.text(max_size=6), free, max_size=3)),
        code=text.map(lambda name: f"{name}.py:Net"),
    ),
    data=st.builds(
        Data,
        root=st.none() | text,
        dataset=st.just("manifest"),
        train_split=text.map(lambda name: f"a{name}"),
        crop_samples=st.none() | st.integers(1, 10**6),
        limit_dev=st.none() | st.integers(2, 10),
    ),
    training=st.builds(
        Training,
        epochs=st.integers(1, 10**6),
        class_weights=st.tuples(finite(1e-6, 10), finite(1e-6, 10)),
        clip_norm=st.none() | finite(1e-6, 1e6),
        freeze=st.lists(text, max_size=3).map(tuple),
        swa=st.booleans(),
        precision=st.sampled_from(["fp32", "bf16"]),
        teacher=st.none() | text,
        distill_weight=finite(1e-6, 1),
    ),
    optimizer=st.builds(Optimizer, lr=finite(1e-2, 1), weight_decay=finite(0, 1)),
    schedule=st.builds(Schedule, lr_min=finite(0, 1e-2), warmup_steps=st.integers(0, 100)),
    augmentation=st.builds(
        Augmentation,
        rawboost=st.sampled_from(["none", "4", "8"]),
        gain_db=st.none() | st.tuples(finite(-60, 0), finite(0, 60)),
    ),
    run=st.builds(Run, save_every_steps=st.none() | st.integers(1, 9), tensorboard=st.booleans()),
)  # fmt: skip


@given(recipe=recipes)
@settings(max_examples=60, deadline=None)
def test_recipe_as_toml_is_the_same_recipe(
    recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8", newline="")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipe_as_toml_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_toml_of_a_recipe_holds_every_key_that_has_a_value() -> None:
    content = tomllib.loads(load_recipe("aasist").to_toml())
    assert content.keys() == SECTIONS.keys()
    for name, kind in SECTIONS.items():
        if kind is not Model:
            always = {f.name for f in dataclasses.fields(kind) if f.default is not None}
            assert content[name].keys() == always


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_built_in_networks_are_the_published_ones(name: str) -> None:
    assert load_recipe(name).model.settings == dict(PUBLISHED[name].model_config)


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    # Counts of the published checkpoints, and of the published code for the two baselines.
    [
        ("aasist", 297_866),
        ("aasist-l", 85_306),
        ("aasist-l-mini", 85_306),
        ("rawgat-st", 437_034),
        ("rawnet2", 17_621_410),
    ],
)
def test_built_in_recipe_builds_the_network_of_the_published_size(
    name: str, n_parameters: int
) -> None:
    from aasist_deploy.models import build_model

    model = build_model(load_recipe(name).model.settings)
    assert sum(each.numel() for each in model.parameters()) == n_parameters


def test_default_recipe_is_the_published_one_of_aasist() -> None:
    assert load_recipe("aasist") == Recipe()


def test_keys_of_the_networks_are_those_that_their_configurations_have() -> None:
    from aasist_deploy.models import AasistConfig
    from aasist_deploy.models.rawgat_st import RawGatStConfig
    from aasist_deploy.models.rawnet2 import RawNet2Config

    kinds: dict[str, Any] = {
        "AASIST": AasistConfig, "RawGAT-ST": RawGatStConfig, "RawNet2": RawNet2Config,
    }  # fmt: skip
    for name, kind in kinds.items():
        names = {each.name for each in dataclasses.fields(kind)} - {"architecture"}
        assert set(recipe_model.SETTINGS[name]) == names


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Training(epochs=0), "training.epochs is 0; it must be 1 or more"),
    (lambda: Training(epochs=True), "training.epochs is True; it must be a whole number"),
    (lambda: Training(epochs=1.0), "training.epochs is 1.0; it must be a whole number"),  # type: ignore[arg-type]
    (lambda: Training(accumulate=0), "training.accumulate is 0"),
    (lambda: Training(class_weights=(0.0, 1.0)), "training.class_weights"),
    (lambda: Training(precision="fp16"), 'one of "fp32", "bf16"'),  # type: ignore[arg-type]
    (lambda: Training(clip_norm=0.0), "training.clip_norm is 0.0; it must be above 0"),
    (lambda: Training(clip_norm=float("nan")), "training.clip_norm is nan"),
    (lambda: Training(ema_decay=1.0), "training.ema_decay is 1.0"),
    (lambda: Training(seed=-1), "training.seed is -1"),
    (lambda: Training(distill_weight=1.5), "training.distill_weight is 1.5"),
    (lambda: Training(teacher="t.pth", distill_weight=0.0), "run for nothing"),
    (lambda: Training(tf32=True, device="cpu"), "has no TF32"),
    (lambda: Training(freeze="encoder*"), "training.freeze is"),  # type: ignore[arg-type]
    (lambda: Optimizer(lr=0.0), "optimizer.lr is 0.0"),
    (lambda: Optimizer(betas=(0.9, 1.0)), "optimizer.betas"),
    (lambda: Optimizer(weight_decay=-1.0), "optimizer.weight_decay"),
    (lambda: Schedule(lr_min=-1.0), "schedule.lr_min is -1.0"),
    (lambda: Schedule(warmup_steps=-1), "schedule.warmup_steps is -1"),
    (lambda: Recipe(schedule=Schedule(lr_min=1e-3)), "the rate would rise"),
    (lambda: Data(dataset="asvspoof2020"), "data.dataset is 'asvspoof2020'"),
    (lambda: Data(dev_split="eval"), "data.dev_split is 'eval': a model that has seen"),
    (lambda: Data(dataset="manifest", train_split="eval"), "data.train_split is 'eval'"),
    (lambda: Data(dev_split="test"), "asvspoof2019-la has train, dev, eval"),
    (lambda: Data(cache="disk"), "data.cache_dir is left out"),
    (lambda: Data(cache_dir="x"), "data.cache is 'none' and data.cache_dir is x"),
    (lambda: Data(workers=-1), "data.workers is -1"),
    (lambda: Data(limit_train=1), "data.limit_train is 1"),
    (lambda: Recipe(data=Data(dataset="manifest"), training=Training(select="min_tdcf")),
     "manifest has no scores of a speaker verification system"),
    (lambda: Augmentation(rawboost="9"), 'one of "none", "1"'),  # type: ignore[arg-type]
    (lambda: Augmentation(rawboost_probability=1.1), "rawboost_probability is 1.1"),
    (lambda: Augmentation(conditions_probability=-0.1), "conditions_probability is -0.1"),
    (lambda: Augmentation(gain_db=(3.0, -3.0)), "the lower end comes first"),
    (lambda: Augmentation(rawboost_center_hz=(20.0, 9000.0)), "within 0 to 8000"),
    (lambda: Augmentation(rawboost_taps=(1, 5)), "rawboost_taps is [1, 5]"),
    (lambda: Augmentation(rawboost_bandwidth_hz=(0.0, 5.0)), "rawboost_bandwidth_hz"),
    (lambda: Augmentation(rawboost_impulse_percent=101.0), "rawboost_impulse_percent"),
    (lambda: Augmentation(rawboost_impulse_gain=-1.0), "rawboost_impulse_gain"),
    (lambda: Augmentation(rawboost_bands=0), "rawboost_bands is 0"),
    (lambda: Augmentation(conditions=("nosie",)), "no condition or family 'nosie'"),
    (lambda: Run(save_every_steps=0), "run.save_every_steps is 0"),
    (lambda: Run(log_every_steps=0), "run.log_every_steps is 0"),
    (lambda: Model(settings={}), "model.architecture is None"),
    (lambda: Model(settings={"architecture": "AASIST", "pool_ratio": [1]}), "no key 'pool_ratio'"),
    (lambda: Model(settings=CUSTOM), "model.code is missing"),
    (lambda: Model(code="net.py:Net"), "model.code is 'net.py:Net'"),
    (lambda: Model(settings=CUSTOM, code="net.py"), "module:Class"),
    (lambda: Model(settings={**CUSTOM, "config": {"a": None}}, code="n:N"),
     "model.config.a is None"),
    (lambda: Model(settings={**CUSTOM, "config": {"a": [float("inf")]}}, code="n:N"),
     "model.config.a[0] is inf"),
    (lambda: Model(settings={**CUSTOM, "config": {1: 2}}, code="n:N"), "keys are strings"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[m for _, m in WRONG])
def test_value_that_cannot_be_is_refused_by_its_name(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        make()
    assert message in str(raised.value)


def test_error_of_a_recipe_is_wrong_usage() -> None:
    assert issubclass(RecipeError, UsageError)
    assert RecipeError.exit_code == 2


def test_numbers_and_lists_become_the_declared_types() -> None:
    given: dict[str, Any] = {"class_weights": [1, 9], "freeze": ["a*"], "init": Path("x")}
    training = Training(**given, clip_norm=5)
    assert (training.class_weights, training.freeze) == ((1.0, 9.0), ("a*",))
    assert isinstance(training.clip_norm, float)
    assert training.init == "x"


def test_settings_given_are_not_shared_with_the_caller() -> None:
    config = {"widths": [1, 2]}
    model = Model(settings={**CUSTOM, "config": config}, code="n:N")
    config["widths"].append(3)
    assert model.settings["config"] == {"widths": [1, 2]}


def test_differences_name_what_decides_over_the_result() -> None:
    ours = load_recipe("aasist", ["ema_decay=0.9", "workers=1", "root=a"])
    theirs = load_recipe("aasist-l", ["workers=2", "root=b", "epochs=3"])
    assert ours.differences(theirs) == [
        "model.filts", "model.gat_dims", "model.pool_ratios", "training.epochs",
        "training.ema_decay",
    ]  # fmt: skip
    assert theirs.differences(theirs) == []


def test_keys_that_are_free_on_resume_exist() -> None:
    every = {f"{n}.{f.name}" for n, kind in SECTIONS.items() for f in dataclasses.fields(kind)}
    assert every > FREE_ON_RESUME


def test_every_key_and_its_default_is_in_the_document() -> None:
    document = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", document, re.MULTILINE | re.DOTALL))
    assert sections.keys() == SECTIONS.keys()
    for name, kind in SECTIONS.items():
        if kind is Model:
            continue
        rows = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`)? *\|", sections[name], re.MULTILINE)
        shown = {key: tomllib.loads(f"v = {value}")["v"] if value else None for key, value in rows}
        defaults = {each.name: each.default for each in dataclasses.fields(kind)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
        assert shown == plain
