"""Where a recipe comes from: a built-in name, a TOML file, a published `.conf`, `--set`."""

from __future__ import annotations

import tomllib
import typing
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, Final

from aasist_deploy.errors import RecipeError
from aasist_deploy.textfile import json_of, read_text
from aasist_deploy.trainer.recipe import SECTIONS
from aasist_deploy.trainer.recipe_model import CUSTOM, SETTINGS, Model
from aasist_deploy.trainer.recipe_published import from_published
from aasist_deploy.trainer.recipe_values import parse, toml_value, unknown_key

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

Sections = dict[str, dict[str, Any]]

BUILT_IN: Final = ("aasist", "aasist-l", "aasist-l-mini", "rawgat-st", "rawnet2")
_MAX_BYTES: Final = 1024**2


def read_source(name_or_path: str | Path) -> Sections:
    """The sections of a recipe as they are written, with known keys only.

    Raises:
        RecipeError: There is no such recipe, it cannot be read, or has an unknown key.
    """
    if name_or_path in BUILT_IN:
        file = resources.files("aasist_deploy.trainer") / "recipes" / f"{name_or_path}.toml"
        return tomllib.loads(file.read_text(encoding="utf-8"))
    path = Path(name_or_path)
    if path.suffix not in {".toml", ".conf", ".json"}:
        raise RecipeError(
            f"There is no recipe '{name_or_path}'; built in are {', '.join(BUILT_IN)}.",
            fix="give one of these names, a .toml file, or a published .conf file",
        )
    text = read_text(path, RecipeError, max_bytes=_MAX_BYTES)
    if path.suffix != ".toml":
        return from_published(_json_object(text, path), path.name)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # more than 4,300 digits; brackets in brackets
        raise RecipeError(f"{path} is no TOML: {error}.") from error
    _check_keys(content, path.name)
    _find_code(content, path.parent)
    return content


def with_overrides(content: Sections, overrides: Sequence[str]) -> Sections:
    """The sections with each `[section.]key=value` put in, later ones last.

    Raises:
        RecipeError: No `=`, a key that is not known or that several sections have, or a value of
            another type.
    """
    changed = {section: dict(values) for section, values in content.items()}
    for text in overrides:
        name, equals, value = text.partition("=")
        path = [part.strip() for part in name.split(".")]
        if not equals or not all(path):
            raise RecipeError(
                f"--set {text} is not key=value.", fix="for example --set training.epochs=1"
            )
        section, key, *deeper = path if path[0] in SECTIONS and path[1:] else _found(path, changed)
        known = _keys(section, changed.get(section, {}))
        if key not in known:
            raise unknown_key(key, known, f"--set: [{section}]", _elsewhere(key, section, changed))
        place = changed.setdefault(section, {})
        if section != "model" or key == "code":
            if deeper:
                raise RecipeError(f"--set {name}: {section}.{key} holds nothing further.")
            place[key] = parse(value.strip(), known[key], f"{section}.{key}")
            continue
        _set_deep(place, [key, *deeper], _free_value(value.strip()), name)
    return changed


def _json_object(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json_of(text)
    except ValueError as error:
        raise RecipeError(f"{path} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no JSON object.")
    return content


def _check_keys(content: dict[str, Any], name: str) -> None:
    for section, values in content.items():
        if section not in SECTIONS:
            where = [f"[{each}]" for each in SECTIONS if section in _keys(each, {})]
            raise unknown_key(section, SECTIONS, name, where)
        if not isinstance(values, dict):
            raise RecipeError(f"{name}: {section} is {values!r}; it must be a section [{section}].")
        known = _keys(section, values)
        for key in values:
            if key not in known:
                where = _elsewhere(key, section, content)
                raise unknown_key(key, known, f"{name}: [{section}]", where)


def _find_code(content: Sections, folder: Path) -> None:
    """Code that lies beside a recipe is found from everywhere.

    All other paths, as those on the command line, are relative to the current folder: a run's own
    copy of its recipe then means the same files.
    """
    code = content.get("model", {}).get("code")
    if isinstance(code, str):
        file, _, name = code.rpartition(":")
        if file and (folder / file).is_file():
            content["model"]["code"] = f"{folder / file}:{name}"


def _keys(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """Key -> type of a section; a key of the network's settings has none."""
    kind = SECTIONS[section]
    if kind is not Model:
        hints = typing.get_type_hints(kind)
        return {each.name: hints[each.name] for each in fields(kind)}
    architecture = values.get("architecture")
    settings = SETTINGS.get(architecture if isinstance(architecture, str) else "", SETTINGS[CUSTOM])
    return {"code": str | None, "architecture": None, **dict.fromkeys([*settings, *values])}


def _elsewhere(key: str, section: str, content: Sections) -> list[str]:
    return [
        f"{each}.{key}"
        for each in SECTIONS
        if each != section and key in _keys(each, content.get(each, {}))
    ]


def _found(path: list[str], content: Sections) -> list[str]:
    """A key without its section -> with the one section that has it."""
    having = [each for each in SECTIONS if path[0] in _keys(each, content.get(each, {}))]
    if len(having) == 1:
        return [having[0], *path]
    if having:
        names = " and ".join(f"{each}.{path[0]}" for each in having)
        raise RecipeError(f"--set {path[0]} is ambiguous: there are {names}.", fix="name one")
    every = [key for each in SECTIONS for key in _keys(each, content.get(each, {}))]
    if path[1:]:
        raise unknown_key(path[0], SECTIONS, "--set: the recipe")
    raise unknown_key(path[0], every, "--set: the recipe")


def _free_value(text: str) -> Any:  # noqa: ANN401
    try:
        return toml_value(text)
    except (ValueError, RecursionError):
        return text  # a bare word


def _set_deep(place: dict[str, Any], path: list[str], value: object, name: str) -> None:
    *folders, last = path
    for folder in folders:
        inner = place.get(folder, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {name}: {folder} is {inner!r}, not a table.")
        place[folder] = dict(inner)
        place = place[folder]
    place[last] = value
