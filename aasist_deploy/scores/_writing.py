"""Score files out, so that they read back exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aasist_deploy.errors import ScoresError
from aasist_deploy.textfile import excerpt, write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One line `utterance attack key score` to write."""

    utterance: str
    attack: str
    label: Literal["bonafide", "spoof"]
    score: float


def write_scores_txt(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write lines `utterance attack key score` that read back to the same float64, or nothing.

    Raises:
        ScoresError: A score is not finite, or a name is empty or holds blanks.
        OutputError: The place cannot be written.
    """

    def lines() -> Iterator[str]:
        for row in rows:
            if not math.isfinite(row.score):
                raise ScoresError(f"The score of {row.utterance} is {row.score}.")
            for name in (row.utterance, row.attack):
                if len(name.split()) != 1 or name != name.strip():
                    raise ScoresError(
                        f"{excerpt(name)} cannot be a column of a score file.",
                        fix="Use names without blanks, and - for no attack.",
                    )
            yield f"{row.utterance} {row.attack} {row.label} {float(row.score)!r}\n"

    write_text_atomically(path, lines())
