"""A recipe: everything that decides what a training run does, checked before anything is loaded.

It is read from a built-in name, a TOML file or a published `.conf` file, changed by `--set`, and
written as TOML into the run and into every checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.trainer.recipe_augmentation import Augmentation
from aasist_deploy.trainer.recipe_model import Model
from aasist_deploy.trainer.recipe_sections import (
    Data,
    Optimizer,
    Run,
    Schedule,
    Training,
    check_together,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Augmentation",
    "Data",
    "Model",
    "Optimizer",
    "Recipe",
    "Run",
    "Schedule",
    "Training",
    "load_recipe",
]

# They may differ when a run is resumed: they change where and how fast it goes, not its result.
FREE_ON_RESUME: Final = frozenset(
    {
        "data.root", "data.cache", "data.cache_dir", "data.workers",
        "training.device", "training.keep_last",
        "run.save_every_steps", "run.log_every_steps", "run.tensorboard",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training run does; the default is the published recipe of AASIST."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        """Check what one section says against another."""
        check_together(self.data, self.training, self.optimizer, self.schedule)

    def to_mapping(self) -> dict[str, dict[str, Any]]:
        """The sections as plain types; keys that have no value are left out."""
        content: dict[str, dict[str, Any]] = {}
        for section in fields(self):
            values = getattr(self, section.name)
            given = {each.name: getattr(values, each.name) for each in fields(values)}
            given |= given.pop("settings", {})
            content[section.name] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in given.items()
                if value is not None
            }
        return content

    def to_toml(self) -> str:
        """The whole recipe as TOML; `load_recipe` makes an equal one of it.

        Raises:
            EnvironmentLacks: The package that writes TOML is not installed.
        """
        try:
            import tomlkit
        except ImportError as error:
            raise EnvironmentLacks(
                "Writing a recipe needs the package tomlkit, which is not installed.",
                fix="pip install 'aasist-deploy[train]'",
            ) from error
        return tomlkit.dumps(self.to_mapping())

    def differences(self, other: Recipe) -> list[str]:
        """Keys like "training.epochs" whose values differ and decide over the result of a run."""
        mine, theirs = self.to_mapping(), other.to_mapping()
        return [
            key
            for section, values in mine.items()
            for name in dict.fromkeys([*values, *theirs[section]])
            if (key := f"{section}.{name}") not in FREE_ON_RESUME
            and values.get(name) != theirs[section].get(name)
        ]


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Args:
        name_or_path: A built-in name (aasist, aasist-l, rawgat-st, rawnet2), a `.toml` file, or a
            published `.conf` file (JSON).
        overrides: "section.key=value" in the syntax of TOML, later ones win; the section may be
            left out where only one has the key.

    Raises:
        RecipeError: There is no such recipe, it cannot be read, has an unknown key, a value that
            cannot be, or values that do not go together.
    """
    from aasist_deploy.trainer.recipe_sources import read_source, with_overrides

    return recipe_from(with_overrides(read_source(name_or_path), overrides))


def recipe_from(content: dict[str, dict[str, Any]]) -> Recipe:
    """A recipe of sections whose keys are known (see `recipe_sources`)."""
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        values = dict(content.get(name, {}))
        if kind is Model:
            code = values.pop("code", None)
            sections[name] = Model(settings=values, code=code) if values else Model(code=code)
        else:
            sections[name] = kind(**values)
    return Recipe(**sections)


SECTIONS: Final[dict[str, type[Any]]] = {
    "model": Model,
    "data": Data,
    "training": Training,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "augmentation": Augmentation,
    "run": Run,
}
