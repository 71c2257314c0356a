"""Options that several verbs share but for those of the engine, and how their values are read."""

from __future__ import annotations

from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from aasist_deploy.errors import UsageError
from aasist_deploy.trials import dataset_names

if TYPE_CHECKING:
    from collections.abc import Iterable

_MODEL: Final = "Exported .onnx file, checkpoint, or published name."
ModelArgument = Annotated[str, typer.Argument(help=_MODEL)]
OptionalModelArgument = Annotated[str | None, typer.Argument(help=_MODEL)]

# Of `eval` and `robustness`.
DatasetOption = Annotated[
    str | None, typer.Option(help=f"Kind of dataset: {', '.join(dataset_names())}.")
]
DatasetRootOption = Annotated[Path | None, typer.Option(help="Folder of the dataset.")]


def refuse_overwriting(output: Path, inputs: Iterable[Path]) -> None:
    """Keep an output from replacing a file that it is made from.

    Raises:
        UsageError: it is one of the inputs.
    """
    for path in inputs:
        if output.exists() and output.samefile(path):
            raise UsageError(
                f"-o {output} is the input {path}, which would be lost.",
                fix="give the output another name",
            )


def number_or(text: str, word: str, option: str) -> int | None:
    """A whole number >= 1, or None for the word.

    Raises:
        UsageError: neither.
    """
    if text == word:
        return None
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    instead = f" or '{word}'" if word else ""
    raise UsageError(f"{option} is '{text}'; it must be a whole number >= 1{instead}.")


def n_samples_of(text: str) -> int | Literal["trained"] | None:
    """The value of --samples: a number, "trained", or None for 'variable'."""
    return "trained" if text == "trained" else number_or(text, "variable", "--samples")


def names_of(text: str) -> tuple[str, ...]:
    """Names separated by commas (or |), without repeats."""
    names = (name.strip() for name in text.replace("|", ",").split(","))
    return tuple(dict.fromkeys(name for name in names if name))
