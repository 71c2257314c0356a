"""A CSV manifest: one's own audio, with any further columns as conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt
from aasist_deploy.trials._parsing import (
    Names,
    SharedConditions,
    checked_label,
    relative_path,
    table_rows,
)
from aasist_deploy.trials._types import NO_ATTACK, NOT_APPLICABLE, Dataset, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLUMNS: Final = ("path", "label")
_KNOWN: Final = (*COLUMNS, "attack", "speaker", "utterance")
_FIX: Final = (
    "Start with the header path,label[,attack,speaker,utterance,split] and any columns "
    "of conditions."
)


def load(root: Path, split: str) -> Dataset:
    """Load `root`, a CSV file or the folder of a manifest.csv; the split is a value or all."""
    manifest = root / "manifest.csv" if root.is_dir() else root
    return Dataset(
        name="manifest",
        split=split,
        trials=parse_manifest(manifest, split),
        asv_scores=None,
        protocol=manifest,
    )


def parse_manifest(path: Path, split: str = "all") -> tuple[Trial, ...]:
    """Read a CSV manifest.

    Args:
        path: Has the columns path and label, and optionally attack, speaker, utterance, split.
            Every further column is a condition; an empty value is "-".
        split: A value of the column split, or all.

    Raises:
        TrialsError: The file is not like that, or a path leaves its folder.
    """
    trials = []
    names, shared = Names(path), SharedConditions()
    seen_splits = set()
    for number, row in table_rows(path, COLUMNS, _FIX):
        where = f"{path}:{number}"
        if split != "all" and "split" not in row:
            raise TrialsError(
                f"{path} has no column split to take {split!r} from.",
                fix="Use the split all, or add the column.",
            )
        seen_splits.add(row.get("split", ""))
        if split in {"all", row.get("split")}:
            trials.append(_trial(row, path.parent, where, shared))
            names.add(trials[-1].utterance, number)
    if not trials:
        held = f" with split {split!r}; it has {excerpt(', '.join(sorted(seen_splits)))}"
        raise TrialsError(f"{path} has no line{held if seen_splits else ''}.")
    return tuple(trials)


def _trial(row: Mapping[str, str], folder: Path, where: str, shared: SharedConditions) -> Trial:
    relative = relative_path(row["path"], folder, where)
    utterance = row.get("utterance") or relative.stem
    attack = row.get("attack") or NO_ATTACK
    for column, value in (("utterance", utterance), ("attack", attack)):
        if len(value.split()) != 1 or value != value.strip():
            raise TrialsError(
                f"{where}: the {column} {excerpt(value)} holds blanks, "
                "which score files use between columns.",
                fix=f"Give each line a value without blanks in the column {column}.",
            )
    label, attack = checked_label(row["label"], attack, where)
    further = [name for name in row if name not in _KNOWN]
    return Trial(
        utterance=utterance,
        path=folder / relative,
        label=label,
        attack=attack,
        speaker=row.get("speaker") or None,
        conditions=shared.of(further, [row[name].strip() or NOT_APPLICABLE for name in further]),
    )
