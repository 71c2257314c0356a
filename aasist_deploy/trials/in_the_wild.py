"""In-the-Wild: politicians and other public figures, real and deepfaked, from the open web."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt
from aasist_deploy.trials._parsing import (
    Names,
    check_split,
    find_in_corpus,
    relative_path,
    table_rows,
)
from aasist_deploy.trials._types import NO_ATTACK, Dataset, Label, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SPLITS: Final = ("all",)
COLUMNS: Final = ("file", "speaker", "label")
_LABELS: Final[Mapping[str, Label]] = {
    "bona-fide": "bonafide",
    "bonafide": "bonafide",
    "spoof": "spoof",
}
_FIX: Final = "Give the folder release_in_the_wild, which holds meta.csv and the WAV files."


def load(root: Path, split: str) -> Dataset:
    """Load `root`, the folder release_in_the_wild or its parent; the split is all."""
    check_split("in-the-wild", split, SPLITS)
    meta = find_in_corpus(root, ("meta.csv", "release_in_the_wild/meta.csv"), fix=_FIX)
    return Dataset(
        name="in-the-wild", split=split, trials=parse_meta(meta), asv_scores=None, protocol=meta
    )


def parse_meta(path: Path) -> tuple[Trial, ...]:
    """Read meta.csv with the columns file, speaker, label.

    Returns:
        One trial for each line, in the file's order; attacks are not known.

    Raises:
        TrialsError: The file is not like that, or a path leaves its folder.

    Source: Müller et al., Does audio deepfake detection generalize?, Interspeech 2022.
    """
    trials = []
    names = Names(path)
    for number, row in table_rows(path, COLUMNS, _FIX):
        where = f"{path}:{number}"
        label = _LABELS.get(row["label"])
        if label is None:
            raise TrialsError(
                f"{where}: the label is {excerpt(row['label'])}; expected bona-fide or spoof."
            )
        file = relative_path(row["file"], path.parent, where)
        names.add(file.stem, number)
        trials.append(
            Trial(
                utterance=file.stem,
                path=path.parent / file,
                label=label,
                attack=NO_ATTACK,
                speaker=row["speaker"] or None,
            )
        )
    if not trials:
        raise TrialsError(f"{path} lists no utterances.")
    return tuple(trials)
