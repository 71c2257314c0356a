"""Values of a recipe: from TOML, JSON or the command line to the type that a field declares."""

from __future__ import annotations

import json
import math
import os
import tomllib
from dataclasses import fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from aasist_deploy.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MANY: Final = 30  # keys that a message still lists
UNSET: Final = "none"  # on the command line: TOML has no word for "no value"


def convert(value: object, kind: Any, key: str) -> Any:  # noqa: ANN401  # a type form, and its type
    """Check that a value has a type, and give it in exactly that type.

    Args:
        value: What a file, a command line or a caller gave.
        kind: bool, int, float, str, None, Literal, tuple and unions of them.
        key: Its name for the message, e.g. "training.epochs".

    Returns:
        The value; an int where a float is declared becomes one, a list becomes a tuple, a path a
        string.

    Raises:
        RecipeError: It does not have the type, or is not finite.
    """
    try:
        return _converted(value, kind)
    except _MismatchError:
        raise RecipeError(
            f"{key} is {_shown(value)}; it must be {described(kind)}.",
            fix=f"write {key} as {described(kind)}",
        ) from None


def described(kind: Any) -> str:  # noqa: ANN401
    """A type in words, for messages and documents: "a whole number", "one of 'a', 'b'"."""
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a string",
        dict: "a table",
    }
    if kind in names:
        return names[kind]
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f'"{word}"' for word in arguments)
    if get_origin(kind) is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each of it {described(arguments[0])}"
        return f"a list of {len(arguments)}, each of it {described(arguments[0])}"
    return f"{described(_without_none(kind))}, or left out"


def parse(text: str, kind: Any, key: str) -> Any:  # noqa: ANN401
    """Read the VALUE of `--set key=VALUE`: TOML, or a bare word where a string is accepted.

    Raises:
        RecipeError: It is not of that type.
    """
    optional = NoneType in get_args(kind)
    if optional and text == UNSET:
        return None
    inner = _without_none(kind) if optional else kind
    try:
        value = toml_value(text)
        return _converted(value, inner)
    except (ValueError, RecursionError, _MismatchError):
        pass
    try:  # a bare word, also one that reads as a number: rawboost=4
        return _converted(text, inner)
    except _MismatchError:
        raise RecipeError(
            f"--set {key}={text}: {key} takes {described(kind)}.",
            fix=f"--set {key}=VALUE in TOML syntax"
            + (f", or {UNSET} to leave it out" if optional else ""),
        ) from None


def toml_value(text: str) -> Any:  # noqa: ANN401
    """The one TOML value that a text is.

    Raises:
        tomllib.TOMLDecodeError: It is no value, or more than one.
    """
    content = tomllib.loads(f"value = {text}")
    if content.keys() != {"value"}:
        raise tomllib.TOMLDecodeError("more than one value", text, 0)
    return content["value"]


def quoted(text: str) -> str:
    """A string in the syntax of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def plain(value: object, key: str) -> Any:  # noqa: ANN401
    """A free value, as plain JSON types that TOML can hold too.

    Raises:
        RecipeError: It is a date, None, not finite, or of another type.
    """
    if isinstance(value, dict):
        return {_name(k, key): plain(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise RecipeError(
        f"{key} is {_shown(value)}; settings are strings, finite numbers, true or false, "
        "and lists and tables of them.",
        fix="leave the key out where there is no value",
    )


def unknown_key(
    key: str, known: Iterable[str], where: str, elsewhere: Iterable[str] = ()
) -> RecipeError:
    """The error for a key that does not exist, with the nearest one that does.

    Args:
        key: What was written.
        known: Keys of the same place.
        where: The section, for the message.
        elsewhere: Names like "optimizer.lr" of keys that are spelt so in other sections.
    """
    known, elsewhere = list(known), list(elsewhere)
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    if elsewhere:
        fix = f"it is {' and '.join(elsewhere)}"
    elif near:
        fix = f"did you mean {near[0]}?"
    else:
        fix = f"known are {', '.join(known)}" if len(known) < _MANY else "docs/training.md has all"
    return RecipeError(f"{where} has no key '{key}'.", fix=fix)


def typed(section: Any, name: str) -> None:  # noqa: ANN401  # any of the dataclasses above
    """Give every field of a section exactly its declared type.

    Raises:
        RecipeError: A value does not have it.
    """
    kinds = get_type_hints(type(section))
    for each in fields(section):
        value = convert(getattr(section, each.name), kinds[each.name], f"{name}.{each.name}")
        object.__setattr__(section, each.name, value)


def at_least(name: str, section: object, **limits: int) -> None:
    """Check fields of a section against their lowest value; None passes.

    Raises:
        RecipeError: One is lower.
    """
    for key, limit in limits.items():
        value = getattr(section, key)
        if value is not None and value < limit:
            raise RecipeError(f"{name}.{key} is {value}; it must be {limit} or more.")


def positive(name: str, section: object, *keys: str) -> None:
    """Check that fields of a section are above 0; None passes.

    Raises:
        RecipeError: One is not.
    """
    for key in keys:
        value = getattr(section, key)
        if value is not None and value <= 0:
            raise RecipeError(f"{name}.{key} is {value}; it must be above 0.")


class _MismatchError(Exception):
    """A value does not have the type."""


def _converted(value: object, kind: Any) -> Any:  # noqa: ANN401
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _converted(value, _without_none(kind))
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise _MismatchError
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _MismatchError
        if arguments[-1] is Ellipsis:
            return tuple(_converted(item, arguments[0]) for item in value)
        if len(value) != len(arguments):
            raise _MismatchError
        return tuple(_converted(v, k) for v, k in zip(value, arguments, strict=True))
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
        raise _MismatchError
    return value


def _without_none(kind: Any) -> Any:  # noqa: ANN401
    (inner,) = (argument for argument in get_args(kind) if argument is not NoneType)
    return inner


def _name(key: object, where: str) -> str:
    if isinstance(key, str):
        return key
    raise RecipeError(f"{where} has the key {key!r}; keys are strings.")


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
