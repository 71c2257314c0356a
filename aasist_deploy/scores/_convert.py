"""One score file into another layout, complete and exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores._sasv import read_sasv_scores, write_sasv_scores
from aasist_deploy.scores._table import ScoreTable, read_scores
from aasist_deploy.scores._writing import ScoreLayout, write_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aasist_deploy.scores._table import LabelledUtterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was written: all scores of the source, in the protocol's order where one was given."""

    output: Path
    layout: ScoreLayout | Literal["asvspoof5-t2"]
    n_scores: int
    has_truth: bool


def convert_scores(
    source: Path,
    output: Path,
    layout: ScoreLayout,
    protocol: Sequence[LabelledUtterance] | None = None,
    *,
    allow_decisions: bool = False,
) -> Conversion:
    """Write a score file in another layout; scores read back to the same float64.

    Args:
        source: Scores in any layout that `read_scores` knows.
        output: Where to; it is replaced whole or not at all.
        layout: As for `write_scores`.
        protocol: The truth. The output then has its order and exactly its utterances, as a
            submission must: asvspoof5-t1 needs it.
        allow_decisions: Take a file of decisions.

    Raises:
        ScoresError: The source cannot be read, lacks or adds an utterance, or the layout needs a
            protocol.
        OutputError: The place cannot be written.
    """
    if layout == "asvspoof5-t1" and protocol is None:
        raise ScoresError(
            "A submission to ASVspoof 5 lists all trials in the order of the protocol, and no "
            "protocol is given.",
            fix="Give ASVspoof5.dev.track_1.tsv or ASVspoof5.eval.track_1.tsv (--protocol).",
        )
    table = read_scores(source, protocol, allow_decisions=allow_decisions)
    if protocol is not None:
        table = _ordered(table, [entry.utterance for entry in protocol])
    write_scores(output, table, layout)
    return Conversion(
        output=output,
        layout=layout,
        n_scores=len(table.utterances),
        has_truth=table.is_bonafide is not None,
    )


def convert_sasv_scores(source: Path, output: Path, key: Path) -> Conversion:
    """Write track 2 scores as a submission to ASVspoof 5: all pairs, in the order of the key.

    Args:
        source: Columns spk, filename, cm-score, asv-score, sasv-score under a header.
        output: Where to; it is replaced whole or not at all.
        key: The key or the trial protocol of track 2.

    Raises:
        ScoresError: The source cannot be read, or lacks or adds a pair.
        OutputError: The place cannot be written.
    """
    scores = read_sasv_scores(source, key)
    write_sasv_scores(output, scores)
    return Conversion(
        output=output, layout="asvspoof5-t2", n_scores=len(scores.utterances), has_truth=True
    )


def _ordered(table: ScoreTable, utterances: Sequence[str]) -> ScoreTable:
    """The same scores and truth in another order; conditions and speakers are left out."""
    where = {name: index for index, name in enumerate(table.utterances)}
    order = np.array([where[name] for name in utterances])
    return replace(
        table,
        utterances=tuple(utterances),
        scores=table.scores[order],
        is_bonafide=None if table.is_bonafide is None else table.is_bonafide[order],
        attacks=None if table.attacks is None else tuple(table.attacks[i] for i in order),
        speakers=None,
        conditions={},
    )
