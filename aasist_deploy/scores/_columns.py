"""Columns of text score files: the known orders, names in a header, and wrong orders recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import ScoresError
from aasist_deploy.textfile import excerpt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABELS: Final = ("bonafide", "spoof")


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a text layout by position."""

    columns: str
    utterance: int
    key: int | None = None
    attack: int | None = None
    score: int = -1


# By number of columns. ASVspoof 2019 evaluation package: 4; ASVspoof 2021: 2; the first ASVspoof 5
# package: 4 with the key behind. The others are in the wild: protocol lines with a score behind
# them, whole (6) or with a column cut (5, 3).
FIVE_DASH: Final = Layout("utterance - attack key score", 0, 3, 2)
_TWO: Final = Layout("utterance score", 0)
_LAYOUTS: Final = (
    _TWO,
    Layout("utterance key score", 0, 1),
    Layout("utterance attack key score", 0, 2, 1),
    Layout("speaker utterance score key", 1, 3, None, 2),
    FIVE_DASH,
    Layout("speaker utterance attack key score", 1, 3, 2),
    Layout("speaker utterance - attack key score", 1, 4, 3),
)
_KNOWN: Final = (
    "Known layouts: " + "; ".join(layout.columns for layout in _LAYOUTS) + "; any of these columns "
    "under a header with their names (ASVspoof 5: filename cm-score); CSV with the header "
    "path,score,error,seconds or utterance,attack,key,score; JSONL with the same names. "
    "Keys are bonafide or spoof."
)

_HEADER_NAMES: Final = {
    "utterance": {"utterance", "utterance-id", "utt", "utt-id", "filename", "file", "trial"},
    "score": {"score", "scores", "cm-score", "llr"},
    "key": {"key", "label", "cm-label", "cm-key"},
    "attack": {"attack", "attack-id", "system", "system-id"},
    "speaker": {"speaker", "speaker-id", "spk"},
    "-": {"-"},
}
_SASV_SCORE: Final = {"asv-score", "sasv-score"}
_ATTACK: Final = re.compile(r"[A-Z]{1,3}\d{1,2}|[A-C]{2}")
_NUMBER: Final = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)


def meaning(name: str) -> str | None:
    """What a column of this name holds: utterance, score, key, attack, speaker, or None."""
    plain = name.strip().lstrip("#").lower().replace("_", "-")
    return next((kind for kind, names in _HEADER_NAMES.items() if plain in names), None)


def header_layout(fields: Sequence[str], path: Path) -> Layout | None:
    """The layout that a header names, or None when the line is no header.

    Raises:
        ScoresError: It is the header of a file of ASV or SASV scores.
    """
    if _SASV_SCORE & set(fields):
        raise ScoresError(
            f"{path} has the columns {excerpt(' '.join(fields))}: scores of pairs of a speaker and "
            "a file, with a countermeasure in front of speaker verification.",
            fix="Read it with its key as ASVspoof 5 track 2: metrics --sasv-key, read_sasv_scores.",
        )
    kinds = [meaning(field) for field in fields]
    if None in kinds or kinds.count("utterance") != 1 or kinds.count("score") != 1:
        return None
    return Layout(
        " ".join(fields),
        kinds.index("utterance"),
        kinds.index("key") if "key" in kinds else None,
        kinds.index("attack") if "attack" in kinds else None,
        kinds.index("score"),
    )


def detect(fields: Sequence[str], path: Path, number: int) -> Layout:
    """The layout of a line without a header.

    Raises:
        ScoresError: No layout is like that; the message says which columns these seem to be.
    """
    keys = {index for index, field in enumerate(fields) if field in LABELS}
    of_width = [layout for layout in _LAYOUTS if len(layout.columns.split()) == len(fields)]
    for layout in of_width:
        # The key alone, or the attack too: "bonafide" is the attack of bona fide lines in 2021.
        if (keys - {layout.attack}) != (set() if layout.key is None else {layout.key}):
            continue
        if (layout is FIVE_DASH) != (len(fields) == 5 and fields[1] == "-"):
            continue
        if _swapped(fields, layout):
            order = likely_order(fields)
            wanted = _same_columns(order, of_width) or layout
            raise ScoresError(
                f"{path}:{number} is {excerpt(' '.join(fields))}, which looks like {order}; "
                f"expected {wanted.columns}.",
                fix=f"Write the columns in the order {wanted.columns}.",
            )
        return layout
    order = likely_order(fields)
    hint = f" They look like {order}." if "score" in order.split() else ""
    raise ScoresError(
        f"{path}:{number} has {len(fields)} columns"
        f"{'' if keys else ' and no key'}: {excerpt(' '.join(fields))}; "
        f"no known layout is like that.{hint}",
        fix=_KNOWN,
    )


def _same_columns(order: str, layouts: Sequence[Layout]) -> Layout | None:
    """The layout that has these columns in its own order."""
    columns = sorted(order.split())
    return next((one for one in layouts if sorted(one.columns.split()) == columns), None)


def _swapped(fields: Sequence[str], layout: Layout) -> bool:
    """Whether a number is where the name should be, and no number where the score should be.

    A name may be a whole number (In-the-Wild); one with a decimal point before a whole number is
    a score before a name.
    """
    name, score = fields[layout.utterance], fields[layout.score]
    if not is_number(score):
        return any(is_number(field) for field in fields)
    return layout is _TWO and is_number(name) and not name.isdigit() and score.isdigit()


def likely_order(fields: Sequence[str]) -> str:
    """The columns that these fields seem to be, e.g. "score utterance"."""
    guesses = [_guess(field) for field in fields]
    scores = [i for i, guess in enumerate(guesses) if guess == "score"]
    if len(scores) > 1:  # whole numbers may be names
        for index in scores:
            if fields[index].isdigit():
                guesses[index] = "name"
    n_names = guesses.count("name")
    if n_names == 2:
        guesses[guesses.index("name")] = "speaker"
    return " ".join("utterance" if guess == "name" else guess for guess in guesses)


def _guess(field: str) -> str:
    if field in LABELS:
        return "key"
    if field == "-":
        return "-"
    if is_number(field):
        return "score"
    return "attack" if _ATTACK.fullmatch(field) else "name"


def is_number(field: str) -> bool:
    """Whether the field is written as a number, NaN or infinity."""
    return _NUMBER.fullmatch(field) is not None
