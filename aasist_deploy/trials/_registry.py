"""The datasets by name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import asvspoof5, asvspoof2019, asvspoof2021, in_the_wild, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aasist_deploy.trials._types import Dataset


class _Kind(NamedTuple):
    load: Callable[[Path, str], Dataset]
    splits: tuple[str, ...]
    default: str = "eval"


_KINDS: Final[Mapping[str, _Kind]] = {
    "asvspoof2019-la": _Kind(partial(asvspoof2019.load, "LA"), asvspoof2019.SPLITS),
    "asvspoof2019-pa": _Kind(partial(asvspoof2019.load, "PA"), asvspoof2019.SPLITS),
    "asvspoof2021-la": _Kind(partial(asvspoof2021.load, "LA"), asvspoof2021.SPLITS),
    "asvspoof2021-df": _Kind(partial(asvspoof2021.load, "DF"), asvspoof2021.SPLITS),
    "asvspoof2021-pa": _Kind(partial(asvspoof2021.load, "PA"), asvspoof2021.SPLITS_PA),
    "asvspoof5-t1": _Kind(partial(asvspoof5.load, 1), asvspoof5.SPLITS_1),
    "asvspoof5-t2": _Kind(partial(asvspoof5.load, 2), asvspoof5.SPLITS_2),
    "in-the-wild": _Kind(in_the_wild.load, in_the_wild.SPLITS, "all"),
    "manifest": _Kind(manifest.load, ("all",), "all"),
}


def load_dataset(name: str, root: Path, split: str) -> Dataset:
    """Load the trials of one split of a dataset.

    Args:
        name: One of `dataset_names()`.
        root: Where the dataset lies, in its official layout (docs/datasets.md).
        split: One of `dataset_splits(name)`; for a manifest also a value of its column split.

    Raises:
        TrialsError: The name is not known, or the dataset is not as it should be.
    """
    return _kind(name).load(root, split)


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(_KINDS)


def dataset_splits(name: str) -> tuple[str, ...]:
    """Return the splits of a dataset.

    Raises:
        TrialsError: The name is not known.
    """
    return _kind(name).splits


def default_split(name: str) -> str:
    """Return the split that is taken when none is named: eval, or all where there is no other.

    Raises:
        TrialsError: The name is not known.
    """
    return _kind(name).default


def _kind(name: str) -> _Kind:
    kind = _KINDS.get(name)
    if kind is None:
        raise TrialsError(
            f"There is no dataset {name!r}; known are {', '.join(_KINDS)}.",
            fix="Use one of these names, or write a CSV manifest and use the name manifest.",
        )
    return kind
